"""One seed decides what is drawn, and TensorFlow is imported only where it is in use."""

import random
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_m3s.utils import backend
from keras_m3s.utils.backend import set_random_seed


def drawn():
    """Of each source of random numbers a few."""
    weights = keras.layers.Dense(2)
    weights.build((1, 3))
    values = [keras.random.uniform((3,)), weights.kernel]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        values.append(tf.random.uniform((3,)))
    elif keras.backend.backend() == "torch":
        import torch

        values.append(torch.rand(3))
    numbers = [np.ravel(keras.ops.convert_to_numpy(v)) for v in values]
    numpys_own = np.random.rand(2)  # noqa: NPY002
    return np.concatenate([*numbers, numpys_own, [random.random()]])


def test_the_seed_is_keras_seed():
    set_random_seed(3)
    ours, further = drawn(), drawn()
    keras.utils.set_random_seed(3)
    np.testing.assert_array_equal(ours, drawn())
    assert (ours != further).any()
    set_random_seed(4)
    assert (ours != drawn()).any()


RUN = """
import pathlib, sys
import keras
from keras_m3s import data
from keras_m3s.experiments.run import run_experiment
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.utils.backend import set_random_seed
from tests.small import fitting, small
from tests.test_backend import drawn
set_random_seed(3)
print(*(float(v).hex() for v in drawn()))
folder = pathlib.Path(sys.argv[1])
splits = data.load("synthetic_msa", data_dir=folder, config="tiny")
for model in sys.argv[2:]:
    run = RunDirectory(folder / model)
    run_experiment(small(model, "spl-trn", epochs=1), run, fitting(splits, model))
print("tensorflow" in sys.modules)
from keras.src.utils.module_utils import tensorflow
print(vars(tensorflow)["_available"])  # undecided: whoever asks later has it
"""


@pytest.mark.once
def test_a_run_on_another_backend_does_without_tensorflow(tmp_path):
    """From the seed to the test, in a process of its own; what the seed gives is the same.

    MMIN has a first stage, and initializers that it copies.
    """
    assert keras.backend.backend() != "tensorflow"
    command = [sys.executable, "-c", RUN, tmp_path, "self_mm", "mmin"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    without, imported, known = done.stdout.splitlines()
    keras.utils.set_random_seed(3)
    assert [float.fromhex(v) for v in without.split()] == drawn().tolist()
    assert imported == "False" and known == "None"


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    """Keras' folder, with no backend named in the environment."""
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path


CONFIGURED = """
import json, sys
from keras_m3s.utils import backend
name = backend.backend_name()
backend.import_backend()
imported = sorted({"keras", "jax", "tensorflow", "torch"} & set(sys.modules))
import keras
print(json.dumps([name, imported, keras.backend.backend()]))
"""


@pytest.mark.once
def test_the_backend_of_the_configuration_file_counts(keras_home):
    """In a process of its own: nothing is imported, and Keras then says the same."""
    (keras_home / "keras.json").write_text('{"backend": "torch"}')
    command = [sys.executable, "-c", CONFIGURED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == '["torch", [], "torch"]'


@pytest.mark.once
@pytest.mark.parametrize(
    ("config", "environment", "expected"),
    [
        (None, None, "tensorflow"),
        ('{"floatx": "float32"}', None, "tensorflow"),
        ("not JSON", None, "tensorflow"),
        ('{"backend": "jax"}', None, "jax"),
        ('{"backend": "jax"}', "", "jax"),
        ('{"backend": "jax"}', "torch", "torch"),
    ],
)
def test_which_backend_is_meant(config, environment, expected, keras_home, monkeypatch):
    if config is not None:
        (keras_home / "keras.json").write_text(config)
    if environment is not None:
        monkeypatch.setenv("KERAS_BACKEND", environment)
    monkeypatch.delitem(sys.modules, "keras")  # which would be asked
    assert backend.backend_name() == expected


@pytest.mark.once
def test_the_configuration_file_in_the_home_folder(keras_home, monkeypatch):
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(keras_home))
    monkeypatch.delitem(sys.modules, "keras")
    (keras_home / ".keras").mkdir()
    (keras_home / ".keras" / "keras.json").write_text('{"backend": "jax"}')
    assert backend.backend_name() == "jax"


@pytest.mark.once
def test_keras_is_asked_if_it_is_imported(keras_home):
    (keras_home / "keras.json").write_text('{"backend": "jax"}')
    assert backend.backend_name() == keras.backend.backend()
