"""Layers that two or more of the models use."""

from keras_m3s.layers.recurrent import GRU, LSTM
from keras_m3s.layers.text_states import TextStates
from keras_m3s.layers.torch_defaults import (
    BatchNorm,
    Dropout,
    GradientReversal,
    Linear,
    TransformerEncoderLayer,
)

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
