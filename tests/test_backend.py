"""One seed decides what is drawn, and TensorFlow is imported only where it is in use."""

import random
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_m3s.registry.models import CARDS
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
    command = [sys.executable, "-c", RUN, tmp_path, *CARDS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    without, imported, known = done.stdout.splitlines()
    keras.utils.set_random_seed(3)
    assert [float.fromhex(v) for v in without.split()] == drawn().tolist()
    assert imported == "False" and known == "None"
