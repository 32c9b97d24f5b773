"""Sentiment from audio, video and text: a convolution for each modality, plain Keras.

keras-m3s train --dataset unaligned_50.pkl --model docs/examples/mosi.py:build
"""

import keras
from keras import layers


def build(spec, channels=16, units=32, dropout=0.3):
    """A model of three sequences: mean and maximum of a convolution's channels over time."""
    shapes = {name: shape for name, shape in spec.inputs.items() if name in spec.mean}
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    pooled = []
    for name, x in inputs.items():
        x = layers.Normalization(mean=spec.mean[name], variance=spec.variance[name])(x)
        x = layers.Conv1D(channels, 3, padding="same", activation="relu", name=f"{name}_conv")(x)
        pooled += [layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(x)]
    x = layers.Dropout(dropout)(layers.concatenate(pooled))
    x = layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(spec.outputs)(x))
