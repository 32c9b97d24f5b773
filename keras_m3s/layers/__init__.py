"""Layers that several models use: PyTorch's defaults, recurrent layers, text as vectors."""

from keras_m3s.layers.gradient_reversal import GradientReversal
from keras_m3s.layers.recurrent import GRU, LSTM
from keras_m3s.layers.text_states import TextStates
from keras_m3s.layers.torch_defaults import BatchNorm, Dropout, Linear
from keras_m3s.layers.transformer import TransformerEncoderLayer

__all__ = [
    "GRU",
    "LSTM",
    "BatchNorm",
    "Dropout",
    "GradientReversal",
    "Linear",
    "TextStates",
    "TransformerEncoderLayer",
]
