"""Death in hospital from what was measured in 48 hours: pooled measurements, plain Keras.

keras-m3s train --dataset icu.npz --model icu.py:build
"""

import keras
from keras import layers, ops


def build(spec, units=16, dropout=0.3, limit=4.0):
    """A model of sequences and vectors of which most cells were never measured.

    Of each column it reads the mean, the last hours and how often it was measured at all. Wrong
    values, which records have, count as `limit` standard deviations.
    """
    inputs, pooled = {}, []
    for name, shape in spec.inputs.items():
        values = inputs[name] = keras.Input(shape, name=name)
        present = inputs[f"{name}_present"] = keras.Input(shape, name=f"{name}_present")
        x = layers.Normalization(mean=spec.mean[name], variance=spec.variance[name])(values)
        x = ops.clip(x, -limit, limit) * present
        if len(shape) == 2:
            count = ops.sum(present, axis=1)
            late = present[:, -12:], x[:, -12:]
            pooled += [
                ops.sum(x, axis=1) / ops.maximum(count, 1.0),
                ops.max(x, axis=1),
                ops.min(x, axis=1),
                ops.sum(late[1], axis=1) / ops.maximum(ops.sum(late[0], axis=1), 1.0),
                ops.sqrt(count / shape[0]),
            ]
        else:
            pooled += [x, present]
    x = layers.Dropout(dropout)(layers.concatenate(pooled))
    x = layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(spec.outputs)(x))
