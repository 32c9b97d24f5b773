"""Made-up sensor data and models of one's own, for tests of whole runs."""

import numpy as np

from keras_m3s.data.split import as_split

SHAPES = {"acc": (12, 2), "gyro": (12, 3), "profile": (4,)}
ROWS = {"train": 48, "valid": 20, "test": 24}

BUILD = """
import keras
from keras import layers


def build(spec, units=8):
    inputs, pooled = {}, []
    for name, shape in spec.inputs.items():
        x = inputs[name] = keras.Input(shape, name=name)
        x = layers.Normalization(mean=spec.mean[name], variance=spec.variance[name])(x)
        pooled.append(layers.GlobalAveragePooling1D()(x) if len(shape) == 2 else x)
    x = layers.Dense(units, activation="relu")(layers.concatenate(pooled))
    return keras.Model(inputs, layers.Dense(spec.outputs)(x))
"""

SUBCLASSED = """
import keras
from parts import Pooled


class Net(keras.Model):
    def __init__(self, names, outputs, **kwargs):
        super().__init__(**kwargs)
        self.names, self.outputs_ = list(names), outputs
        self.pooled = {name: Pooled() for name in names}
        self.head = keras.layers.Dense(outputs)

    def call(self, inputs, training=None):
        return self.head(keras.ops.concatenate([self.pooled[n](inputs[n]) for n in self.names], -1))

    def get_config(self):
        return {**super().get_config(), "names": self.names, "outputs": self.outputs_}


def build(spec):
    return Net(spec.inputs, spec.outputs)
"""

PARTS = """
import keras


class Pooled(keras.layers.Layer):
    def call(self, x):
        return keras.ops.mean(x, axis=1) if len(x.shape) == 3 else x
"""


def splits(classes=3, nan=0.2, seed=0):
    """Splits whose label shows in all modalities; some cells were never measured."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, rows in ROWS.items():
        label = np.arange(rows) % classes
        features = {}
        for number, (m, shape) in enumerate(SHAPES.items()):
            x = rng.normal(size=(rows, *shape)) + np.reshape(label, (-1, *[1] * len(shape))) * (
                1 + number
            )
            x = 5 + 3 * x
            x[rng.uniform(size=x.shape) < nan] = np.nan
            features[m] = x.astype("float32")
        ids = [f"{name}{i}" for i in range(rows)]
        made[name] = as_split(name, features, label.astype("int32"), ids, {})
    return made


def write_npz(path, made):
    """The same as a file with keys `SPLIT/NAME`."""
    arrays = {}
    for name, split in made.items():
        arrays |= {f"{name}/{m}": split.features[m].astype("float16") for m in SHAPES}
        arrays |= {f"{name}/label": split.labels, f"{name}/id": np.array(split.ids)}
    np.savez(path, **arrays)
    return path
