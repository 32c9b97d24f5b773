"""Predictions and exports of a run of a model of one's own: whatever modalities there are."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_m3s.experiments.checkpoints import best_model
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.run import run_experiment
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.inference import RunModel, export, formats, predictions
from tests import sensors


@dataclasses.dataclass
class Clips:
    """Recordings as `keras_m3s.data.unlabelled` reads them."""

    features: dict
    lengths: dict = dataclasses.field(default_factory=dict)
    place: str = "new.npz"

    @property
    def ids(self):
        return [f"row{i}" for i in range(len(self))]

    def __len__(self):
        return len(next(iter(self.features.values())))

    def sequence(self, name, row):
        return np.asarray(self.features[name][row], "float32")


@pytest.fixture(scope="module")
def splits():
    return sensors.splits()


@pytest.fixture(scope="module")
def run(splits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "net.py").write_text(sensors.BUILD)
    settings = {"epochs": 2, "batch_size": 8, "learning_rate": 0.03}
    one = Experiment.of("made_up", f"{folder / 'net.py'}:build", "m3s", (0.2, 0.6), **settings)
    run_experiment(one, RunDirectory(folder / "run"), splits)
    return RunDirectory(folder / "run")


def new(splits, *names):
    return Clips({name: splits["test"].features[name] for name in names})


def logits(rows):
    return np.array([[row[f"logit_{i}"] for i in range(3)] for row in rows], "float32")


def test_predictions_are_those_of_the_trained_model(run, splits):
    rows = list(predictions.rows(RunModel(run), new(splits, *sensors.SHAPES), batch_size=7))
    x = splits["test"].take(np.arange(24))
    expected = best_model(run).predict(x, batch_size=7, verbose=0)
    np.testing.assert_allclose(logits(rows), expected, atol=1e-6)
    nan = np.isnan(x["acc"]).mean(axis=(1, 2))
    np.testing.assert_allclose([row["missing_acc"] for row in rows], nan, atol=1e-4)
    assert list(rows[0])[-3:] == ["missing_acc", "missing_gyro", "missing_profile"]


def test_an_absent_sensor_is_one_that_measured_nothing(run, splits):
    rows = list(predictions.rows(RunModel(run), new(splits, "gyro")))
    nothing = Clips(
        {m: splits["test"].features[m] * (1 if m == "gyro" else np.nan) for m in sensors.SHAPES}
    )
    other = list(predictions.rows(RunModel(run), nothing))
    assert rows == other and all(row["missing_acc"] == 1 for row in rows)


def test_shorter_sequences_end_unmeasured(run, splits):
    short = new(splits, *sensors.SHAPES)
    short.features["acc"] = short.features["acc"][:, :5]
    padded = new(splits, *sensors.SHAPES)
    padded.features["acc"] = padded.features["acc"].copy()
    padded.features["acc"][:, 5:] = np.nan
    model = RunModel(run)
    assert list(predictions.rows(model, short)) == list(predictions.rows(model, padded))


@pytest.mark.once
@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"other": np.zeros((2, 12, 2))}, "at least one of"),
        ({"acc": np.zeros((2, 12, 3))}, "2 columns and at most 12 steps"),
        ({"acc": np.zeros((2, 13, 2))}, "2 columns and at most 12 steps"),
        ({"profile": np.zeros((2, 5))}, "4 columns, as"),
    ],
)
def test_what_does_not_fit_is_refused(features, message, run):
    with pytest.raises(ValueError, match=message):
        list(predictions.rows(RunModel(run), Clips(features)))


def test_an_export_takes_nan(run, tmp_path):
    backend = keras.backend.backend()
    kinds = [n for n, card in formats.EXPORT_FORMATS.items() if card.backend == backend]
    for kind in kinds:
        if kind == "onnx":
            pytest.importorskip("onnxruntime")
        path = export.export(run, kind, tmp_path / f"model.{kind}")
        x = export.random_inputs(RunModel(run), 3, seed=5)
        assert set(x) == set(sensors.SHAPES) and np.isnan(x["acc"]).any()
        expected = RunModel(run).predict(x)
        assert np.isfinite(expected).all()
        if kind == "onnx":
            import onnxruntime

            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            (found,) = session.run(None, x)
        else:
            import tensorflow as tf

            found = tf.saved_model.load(str(path)).serve({k: tf.constant(v) for k, v in x.items()})
        np.testing.assert_allclose(np.asarray(found), expected, atol=1e-5)
