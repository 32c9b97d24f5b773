"""keras-m3s: multimodal Keras models that hold up when parts of their input are missing."""
