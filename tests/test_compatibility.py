"""What version 0.1.0 wrote is still read: a run directory, and a saved model.

Both were made on PyTorch: a run of Self-MM on `synthetic_msa/tiny`, two epochs by M3S, tested and
retested; and a MISA in `M3S` after one epoch, with inputs and its predictions for them.
"""

import csv
import pathlib
import shutil

import keras
import numpy as np
import pytest

import keras_m3s  # noqa: F401  registers the classes in a .keras file
from keras_m3s import data
from keras_m3s.experiments import evaluation
from keras_m3s.experiments.checkpoints import best_model
from keras_m3s.experiments.config import FIELDS_OF_0_1_0
from keras_m3s.experiments.run import run_experiment
from keras_m3s.experiments.run_directory import RunDirectory

FOLDER = pathlib.Path(__file__).parent / "version_0_1_0"
KEY = "synthetic_msa-tiny-self_mm-m3s-seed0-ece1e1dee1"


@pytest.fixture
def run(tmp_path):
    shutil.copytree(FOLDER / KEY, tmp_path / KEY)
    return RunDirectory(tmp_path / KEY)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    return data.load("synthetic_msa", data_dir=tmp_path_factory.mktemp("data"), config="tiny")


def test_a_run_keeps_its_key(run):
    assert run.experiment().key == KEY
    assert set(run.read_json("experiment.json")) == FIELDS_OF_0_1_0


def test_a_finished_run_is_used_as_it_is(run, splits):
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    metrics = run_experiment(run.experiment(), run, splits)
    assert metrics == run.read_json("metrics.json")
    kept = run.retest_file((0.2, 0.4), "span")
    assert kept in before and run.retested((0.2, 0.4), "span")
    evaluation.run_retests(run, splits["test"], [((0.2, 0.4), "span")])
    after = {path: path.read_bytes() for path in run.path.iterdir() if path.name != "run.lock"}
    assert after == before


def test_its_model_predicts_the_same(run, splits):
    found = evaluation.predict(best_model(run), run.experiment(), splits["test"])[:, 0]
    with (run.path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == splits["test"].ids
    expected = [float(row["prediction"]) for row in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    retested = evaluation.retest(run, splits["test"], (0.2, 0.4))
    kept = run.read_json("retest-0.20-0.40-span.json")["metrics"]
    assert retested == pytest.approx(kept, rel=1e-5)


def test_a_saved_model_predicts_the_same():
    model = keras.saving.load_model(FOLDER / "m3s-misa.keras")
    with np.load(FOLDER / "m3s-misa.npz") as file:
        inputs = {name: file[name] for name in file.files}
    expected = inputs.pop("prediction")
    found = model.predict(inputs, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
