"""Runs end to end on generated data: files, methods, resuming, selection, what stops a run."""

import csv
import json

import keras
import numpy as np
import pytest

from keras_m3s import data, evaluation, training
from keras_m3s.experiment import Experiment
from keras_m3s.runs import RunDirectory

SMALL = {"hidden_size": 4, "transformer_size": 8}


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    return data.load("synthetic_msa", data_dir=tmp_path_factory.mktemp("data"), config="tiny")


def experiment(method="m3s", **overrides):
    values = {"epochs": 3, "batch_size": 8, "learning_rate": 1e-2, "model_arguments": SMALL}
    return Experiment.of("synthetic_msa/tiny", "misa", method, **{**values, **overrides})


def test_a_run_leaves_all_its_files(splits, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", float("inf"))  # one checkpoint, at the end
    run = RunDirectory(tmp_path / "run")
    metrics = evaluation.run_experiment(experiment(), run, splits)
    assert {p.name for p in run.path.iterdir()} == {
        "experiment.json", "environment.json", "history.csv", "best.keras", "last-0003.keras",
        "predictions.csv", "metrics.json", "timing.json", "run.lock",
    }  # fmt: skip
    assert run.experiment() == experiment()
    assert [row["epoch"] for row in run.read_history()] == [1, 2, 3]
    with (run.path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == splits["test"].ids
    error = [abs(float(row["truth"]) - float(row["prediction"])) for row in rows]
    assert metrics["mae"] == pytest.approx(np.mean(error), abs=1e-6)
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["data"]["train"] == splits["train"].fingerprint()
    assert environment["backend"] == keras.backend.backend()

    best = (run.path / "best.keras").stat().st_mtime_ns
    assert evaluation.run_experiment(experiment(), run, splits) == metrics
    assert (run.path / "best.keras").stat().st_mtime_ns == best, "a finished run was run again"


@pytest.mark.once
def test_the_best_validation_epoch_is_tested(splits, tmp_path):
    """With a rate that ruins the model after the first epoch, the first epoch's model counts."""
    e = experiment("orig", learning_rate=3.0, patience=1, epochs=9)
    run = RunDirectory(tmp_path / "run")
    evaluation.run_experiment(e, run, splits)
    history = [row["val_loss"] for row in run.read_history()]
    assert len(history) == int(np.argmin(history)) + 2, "patience of one epoch"
    model = keras.saving.load_model(run.best)
    model.compile("sgd")
    batches = training.fixed_batches(e, splits["valid"], stream=1)
    assert model.evaluate(batches, verbose=0, return_dict=True)["loss"] == pytest.approx(
        min(history), rel=1e-5
    )


def test_all_methods_are_tested_on_the_same_holes(splits):
    draws = [
        training.fixed_batches(experiment(method, seed=seed), splits["test"], 0)[0][0]["draws"]
        for method in ("orig", "spl-trn", "m3s")
        for seed in (0, 1)
    ]
    for other in draws[1:]:
        np.testing.assert_array_equal(draws[0], other)


def test_holes_in_training(splits):
    """ORIG: one table for all epochs, another for another seed; the others bring none."""
    orig = training.train_batches(experiment("orig"), splits["train"])
    table = orig.draws.copy()
    orig.epoch = 5
    np.testing.assert_array_equal(orig.draws, table)
    other = training.train_batches(experiment("orig", seed=1), splits["train"])
    assert not np.array_equal(other.draws, table)
    for method in ("spl-trn", "m3s"):
        assert "draws" not in training.train_batches(experiment(method), splits["train"])[0][0]


@pytest.mark.once
def test_retest_at_another_rate(splits, tmp_path):
    run = RunDirectory(tmp_path / "run")
    metrics = evaluation.run_experiment(experiment("orig", epochs=1), run, splits)
    assert evaluation.retest(run, splits["test"]) == pytest.approx(metrics)
    assert evaluation.retest(run, splits["test"], (1.0, 1.0)) != pytest.approx(metrics)
    with pytest.raises(FileNotFoundError, match="holds no best.keras"):
        empty = RunDirectory(tmp_path / "empty")
        empty.start(experiment())
        evaluation.retest(empty, splits["test"])


@pytest.mark.once
def test_a_loss_that_is_no_number_stops_the_run(splits, tmp_path):
    broken = dict(splits)
    labels = splits["train"].labels.copy()
    labels[3] = np.inf
    broken["train"] = data.Split("train", splits["train"].features, labels, splits["train"].ids)
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(FloatingPointError, match=r"must stay finite. Received: loss=.* in epoch 1"):
        evaluation.run_experiment(experiment("orig"), run, broken)
    assert not run.complete
