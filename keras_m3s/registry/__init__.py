"""What is known of a model, a method, a data set or a pattern by name: Keras-free cards."""
