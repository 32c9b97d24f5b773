"""Saved models load after `import keras_m3s`, which imports no framework."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_m3s as m3s
from keras_m3s.utils.lazy_registration import CLASSES

pytestmark = pytest.mark.once

PROGRAM = """
import sys
{first}
assert "torch" not in sys.modules and ("keras" in sys.modules) == {with_keras}
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
with np.load(sys.argv[2]) as x:
    np.save(sys.argv[3], model.predict(dict(x), verbose=0))
"""


def wrapped():
    inputs = {m: keras.Input((6, 2), name=m) for m in ("acc", "gyro")}
    flat = keras.layers.Concatenate()([keras.layers.Flatten()(v) for v in inputs.values()])
    model = keras.Model(inputs, keras.layers.Dense(1)(m3s.layers.Linear(4)(flat)))
    return m3s.M3S(model, m3s.MissingModality({"acc": 0.5, "gyro": 0.5}, seed=0))


@pytest.mark.slow
@pytest.mark.parametrize(
    "first", ["import keras_m3s", "from keras_m3s.missing.layer import MissingModality"]
)
def test_a_saved_model_loads_in_a_new_process(first, tmp_path):
    model = wrapped()
    model.compile("adam", "mse")
    x = {m: np.random.default_rng(0).normal(size=(8, 6, 2)).astype("float32") for m in ("acc", "gyro")}  # fmt: skip
    model.fit(x, np.zeros((8, 1)), verbose=0)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "x.npz", **x)
    program = PROGRAM.format(first=first, with_keras="missing" in first)
    if "missing" in first:
        program = program.replace('"torch" not in sys.modules and ', "")
    files = [str(tmp_path / name) for name in ("model.keras", "x.npz", "out.npy")]
    done = subprocess.run(
        [sys.executable, "-c", program, *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(files[2]), model.predict(x, verbose=0))


def test_every_registered_class_has_a_stand_in():
    assert m3s.models and m3s.metrics and m3s.M3S and m3s.optimizers
    known = keras.saving.get_custom_objects().items()
    ours = {name.split(">")[1] for name, value in known if name.startswith("keras_m3s>") and isinstance(value, type)}  # fmt: skip
    assert ours == set(CLASSES)
