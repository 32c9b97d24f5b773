"""LSTM and GRU over sequences of true lengths, unidirectional or bidirectional, fast everywhere.

The inputs of all steps are projected by one matrix product, so that the recurrence holds only what
is sequential. A sequence's state is zero past its length: the backward direction starts at the last
true step, and more padding changes no number. On a CPU the computation ends at the batch's largest
length.

JAX and TensorFlow run the loop in `loops`; PyTorch has kernels (oneDNN, cuDNN) that are faster than
any loop made of its operations.
"""

from keras_m3s.layers.recurrent.gru import GRU
from keras_m3s.layers.recurrent.lstm import LSTM

__all__ = ["GRU", "LSTM"]
