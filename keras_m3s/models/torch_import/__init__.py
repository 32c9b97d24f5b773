"""Published PyTorch weights to Keras models."""

from keras_m3s.models.torch_import.checkpoints import load_torch_checkpoint

__all__ = ["load_torch_checkpoint"]
