"""LSTM and GRU over sequences of true lengths, one way or both ways, fast on every backend.

The inputs of all steps are projected by one matrix product, so that the recurrence holds only
what must be sequential. A sequence's state is zero past its length: the backward direction starts
at the last true step, and more padding changes no number. On a CPU the computation ends at the
batch's longest length.

JAX and TensorFlow run a loop of this package's own (`loops`); PyTorch has kernels (oneDNN, cuDNN)
that are faster than any loop made of its own operations.
"""

from keras_m3s.layers.recurrent.gru import GRU
from keras_m3s.layers.recurrent.lstm import LSTM

__all__ = ["GRU", "LSTM"]
