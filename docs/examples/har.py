"""Activities from inertial sensors: a small convolution for each sensor, plain Keras.

keras-m3s train --dataset har.npz --model har.py:build
"""

import keras
from keras import layers


def build(spec, channels=8, units=24, dropout=0.3):
    """A model of windows of sensors: mean and deviation of a convolution's channels over time."""
    inputs = {name: keras.Input(shape, name=name) for name, shape in spec.inputs.items()}
    pooled = []
    for name, x in inputs.items():
        x = layers.Normalization(mean=spec.mean[name], variance=spec.variance[name])(x)
        x = layers.Conv1D(channels, 5, strides=2, activation="relu", name=f"{name}_conv1")(x)
        x = layers.Conv1D(channels, 5, strides=2, activation="relu", name=f"{name}_conv2")(x)
        pooled += [layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(x)]
    x = layers.Dropout(dropout)(layers.concatenate(pooled))
    x = layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(spec.outputs)(x))
