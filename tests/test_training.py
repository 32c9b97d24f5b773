"""Runs end to end on generated data: files, methods, resuming, selection, what stops a run."""

import csv
import dataclasses
import json
import warnings

import keras
import numpy as np
import pytest

from keras_m3s import data
from keras_m3s.data.callbacks import NotFiniteError, StopNotFinite
from keras_m3s.experiments import checkpoints, evaluation
from keras_m3s.experiments.build import fixed_batches, train_batches
from keras_m3s.experiments.checkpoints import best_model
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.run import run_experiment
from keras_m3s.experiments.run_directory import ChangedExperimentError, RunDirectory
from keras_m3s.meta.m3s import M3S
from keras_m3s.missing import MissingModality
from keras_m3s.utils.backend import set_random_seed
from tests.small import fitting, small

SMALL = {"hidden_size": 4, "transformer_size": 8}


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    return data.load("synthetic_msa", data_dir=tmp_path_factory.mktemp("data"), config="tiny")


def experiment(method="m3s", **overrides):
    values = {"epochs": 3, "batch_size": 8, "learning_rate": 1e-2, "model_arguments": SMALL}
    return Experiment.of("synthetic_msa/tiny", "misa", method, **{**values, **overrides})


@pytest.mark.once
def test_a_run_leaves_all_its_files(splits, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", float("inf"))  # one checkpoint, at the end
    run = RunDirectory(tmp_path / "run")
    metrics = run_experiment(experiment(), run, splits)
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
    assert run_experiment(experiment(), run, splits) == metrics
    assert (run.path / "best.keras").stat().st_mtime_ns == best, "a finished run was run again"


def changed(splits, name):
    """The same data, but for one value in one split."""
    features = {key: array.copy() for key, array in splits[name].features.items()}
    features["audio"][0, 0, 0] += 1
    return {**splits, name: dataclasses.replace(splits[name], features=features)}


@pytest.mark.once
def test_a_finished_run_is_not_used_for_other_data(splits, tmp_path):
    run, e = RunDirectory(tmp_path / "run"), experiment("orig", epochs=1)
    run_experiment(e, run, splits)
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    for name in splits:
        with pytest.raises(ChangedExperimentError, match=rf"run, whose data .* changed \({name}: "):
            run_experiment(e, run, changed(splits, name))
    other = changed(splits, "test")["test"]
    for use in (
        lambda: evaluation.retest(run, other),
        lambda: evaluation.run_retests(run, other, [((0.2, 0.4), "span")]),
        lambda: evaluation.evaluate(best_model(run), run, other),
    ):
        with pytest.raises(ChangedExperimentError, match=r"\(test: "):
            use()
    assert {path: path.read_bytes() for path in run.path.iterdir()} == before
    assert evaluation.retest(run, changed(splits, "train")["test"])  # the test data is the same


@pytest.mark.once
def test_rates_that_agree_in_two_decimals_are_tested_each(splits, tmp_path):
    run = RunDirectory(tmp_path / "run")
    run_experiment(experiment("orig", epochs=1), run, splits)
    conditions = [((0.12, 0.12), "span"), ((0.125, 0.125), "span")]
    evaluation.run_retests(run, splits["test"], conditions)
    files = sorted(run.path.glob("retest-*"))
    assert [file.name for file in files] == ["retest-0.12-0.12-span.json", "retest-0.125-0.125-span.json"]  # fmt: skip
    assert [json.loads(file.read_text())["test_missing_rate"][0] for file in files] == [0.12, 0.125]


@pytest.mark.once
def test_the_best_validation_epoch_is_tested(splits, tmp_path):
    """With a rate that ruins the model after the first epoch, the first epoch's model counts."""
    e = experiment("orig", learning_rate=3.0, patience=1, epochs=9)
    run = RunDirectory(tmp_path / "run")
    run_experiment(e, run, splits)
    history = [row["val_loss"] for row in run.read_history()]
    assert len(history) == int(np.argmin(history)) + 2, "patience of one epoch"
    model = keras.saving.load_model(run.best)
    model.compile("sgd")
    batches = fixed_batches(e, splits["valid"], stream=1)
    assert model.evaluate(batches, verbose=0, return_dict=True)["loss"] == pytest.approx(
        min(history), rel=1e-5
    )


def test_the_best_model_is_written_with_the_checkpoints(splits, tmp_path, monkeypatch):
    """Small models train an epoch in less time than a file takes."""
    written, save = [], checkpoints.RunCheckpoint._save

    def counted(keeper, path):
        written.append(path.name)
        save(keeper, path)

    monkeypatch.setattr(checkpoints.RunCheckpoint, "_save", counted)
    e, models = experiment("orig", epochs=4, learning_rate=1e-3), []
    for name, seconds in (("seldom", float("inf")), ("often", -1.0)):
        monkeypatch.setattr(checkpoints, "SAVE_EVERY", seconds)
        run_experiment(e, RunDirectory(tmp_path / name), splits)
        models.append(best_model(RunDirectory(tmp_path / name)))
        if name == "seldom":
            losses = [row["val_loss"] for row in RunDirectory(tmp_path / name).read_history()]
            later = ["best.keras"] * (losses[0] > min(losses))
            assert written == ["best.keras", *later, "last-0004.keras"]
    for one, other in zip(*(m.variables + m.optimizer.variables for m in models), strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (one, other)))


def test_all_methods_are_tested_on_the_same_holes(splits):
    draws = [
        fixed_batches(experiment(method, seed=seed), splits["test"], 0)[0][0]["draws"]
        for method in ("orig", "spl-trn", "m3s")
        for seed in (0, 1)
    ]
    for other in draws[1:]:
        np.testing.assert_array_equal(draws[0], other)


def test_holes_in_training(splits):
    """ORIG: one table for all epochs, another for another seed; the others bring none."""
    orig = train_batches(experiment("orig"), splits["train"])
    table = orig.draws.copy()
    orig.epoch = 5
    np.testing.assert_array_equal(orig.draws, table)
    other = train_batches(experiment("orig", seed=1), splits["train"])
    assert not np.array_equal(other.draws, table)
    for method in ("spl-trn", "m3s"):
        assert "draws" not in train_batches(experiment(method), splits["train"])[0][0]


@pytest.mark.once
def test_retest_at_another_rate(splits, tmp_path):
    run = RunDirectory(tmp_path / "run")
    metrics = run_experiment(experiment("orig", epochs=1), run, splits)
    assert evaluation.retest(run, splits["test"]) == pytest.approx(metrics)
    assert evaluation.retest(run, splits["test"], (1.0, 1.0)) != pytest.approx(metrics)
    with pytest.raises(FileNotFoundError, match="holds no best.keras"):
        empty = RunDirectory(tmp_path / "empty")
        empty.start(experiment())
        evaluation.retest(empty, splits["test"])


def relabelled(splits, make):
    """The same segments with other labels: of each split `make(name, number of rows)`."""
    return {
        name: dataclasses.replace(split, labels=make(name, len(split)))
        for name, split in splits.items()
    }


@pytest.mark.once
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda name, n: (np.arange(n) % 3 - 1).astype("int32"), r"`train labels` must be classes 0, 1, 2 .* Received: -1, 0, 1. Number"),
        (lambda name, n: (np.arange(n) % 3 - (name == "test")).astype("int32"), "`test labels` must be classes"),
        (lambda name, n: np.zeros(n, "int32"), "must have two or more classes. Received: 0"),
        (lambda name, n: np.where(np.arange(n) == 2, np.nan, 0.5).astype("float32"), r"must be finite. Received: nan in 1 rows of 'train': train\S+\$_\$2"),
        (lambda name, n: np.zeros(n, "float32" if name == "test" else "int32"), "must be ints in all splits, .* 'test': 'float32'"),
        (lambda name, n: np.array(["1.0"] * n), "must be ints in all splits"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_trained_on(splits, tmp_path, make, message):
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(ValueError, match=message):
        run_experiment(experiment("orig"), run, relabelled(splits, make))
    assert not (run.path / "environment.json").exists(), "before training"


@pytest.mark.once
@pytest.mark.parametrize("model", ["misa", "mmin"])
def test_the_data_set_has_the_classes_not_the_training_data(splits, tmp_path, model):
    """Of five classes training data has three; the last one is in the test data alone."""

    def make(name, n):
        return np.where(np.arange(n) == 5, 4 if name == "test" else 2, np.arange(n) % 2)

    run = RunDirectory(tmp_path / "run")
    e = small(model, "orig", epochs=1, first_stage_epochs=int(model == "mmin"))
    with pytest.warns(UserWarning, match="1 of 9 rows of 'test' have classes that the training data lacks: 4"):  # fmt: skip
        run_experiment(e, run, relabelled(splits, lambda *of: make(*of).astype("int32")))
    with (run.path / "predictions.csv").open() as file:
        assert [name for name in next(csv.reader(file)) if "logit" in name][-1] == "logit_4"


@pytest.mark.once
@pytest.mark.parametrize("dataset", ["mine", "ch_sims/my.pkl", "ch_sims"])
def test_scores_of_a_narrow_scale(splits, tmp_path, dataset):
    """Own data is warned of, files are by their reader; a folder's name picks no metrics."""
    narrow = relabelled(splits, lambda name, n: np.linspace(-1, 1, n, dtype="float32"))
    e = experiment("orig", epochs=1).replace(dataset=dataset)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        metrics = run_experiment(e, RunDirectory(tmp_path / "run"), narrow)
    told = [str(w.message) for w in caught if "[-1, 1], as those of CH-SIMS" in str(w.message)]
    assert ("acc7" in metrics) == (dataset != "ch_sims")
    assert len(told) == (dataset == "mine")
    assert all("--dataset ch_sims --manual-dir FOLDER" in text for text in told)


@pytest.mark.once
def test_the_same_seed_gives_the_same_numbers():
    """On one machine and backend, to the last digit; another seed gives others."""

    def losses(seed):
        set_random_seed(seed)
        rng = np.random.default_rng(0)
        x, y = {"audio": rng.normal(size=(32, 5, 3)).astype("float32")}, rng.normal(size=(32, 1))
        audio = keras.Input((5, 3), name="audio")
        hidden = keras.layers.Dropout(0.3)(keras.layers.Flatten()(audio))
        model = keras.Model({"audio": audio}, keras.layers.Dense(1)(hidden))
        missing = MissingModality({"audio": (0.2, 0.8)}, seed=seed)
        outer = M3S(model, missing, inner_steps=1, inner_learning_rate=0.1)
        outer.compile(keras.optimizers.Adam(0.1), loss="mse")
        return outer.fit(x, y, batch_size=8, epochs=3, verbose=0).history["loss"]

    first = losses(0)
    assert first == losses(0)
    assert first != losses(1) and len(set(first)) == 3


@pytest.mark.once
@pytest.mark.parametrize("model, method", [("misa", "m3s"), ("mmim", "spl-trn"), ("mmin", "orig")])
def test_a_loss_that_is_no_number_names_the_step_and_its_rows(
    splits, tmp_path, monkeypatch, model, method
):
    """In the second epoch a row turns bad: everything but its batch was still fine."""
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", -1.0)
    splits, e = fitting(splits, model), small(model, method, first_stage_epochs=0)
    split, bad = splits["train"], 5

    class Spoil(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                split.features["audio"][bad] = np.inf

    split = data.Split("train", {k: a.copy() for k, a in split.features.items()}, split.labels, split.ids)  # fmt: skip
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(NotFiniteError, match=r"must stay finite. Received: (adapted_)?loss=.*whose batch was") as caught:  # fmt: skip
        run_experiment(e, run, {**splits, "train": split}, [Spoil()])
    error = caught.value
    batches = train_batches(e, split)
    batches.epoch = 1
    served = [[split.ids[row] for row in batches.rows(i)] for i in range(len(batches))]
    assert error.epoch == 2 and error.ids == served[error.step - 1]
    first = next(step for step, ids in enumerate(served, 1) if split.ids[bad] in ids)
    assert error.step == first
    assert error.ids[0] in str(error) and f"step {first} of epoch 2" in str(error)
    assert not run.complete and [done for done, _ in run.checkpoints] == [1]


@pytest.mark.once
def test_a_step_that_ruins_the_model_is_seen_in_validation(splits, tmp_path):
    batches = train_batches(experiment("orig"), splits["train"])
    stop = StopNotFinite(batches)
    stop.on_epoch_begin(3)
    stop.on_train_batch_end(0, {"loss": 1.0})
    stop.on_epoch_end(3, {"loss": 1.0, "val_loss": 1.0})
    with pytest.raises(NotFiniteError, match="val_loss=inf at step 3 of epoch 4, whose batch was"):  # fmt: skip
        stop.on_epoch_end(3, {"loss": 1.0, "val_loss": float("inf")})
    teacher = small("mmin", "orig")
    broken = fitting(splits, "mmin")
    features = {k: a.copy() for k, a in broken["train"].features.items()}
    features["text"][0] = np.nan
    broken["train"] = data.Split("train", features, broken["train"].labels, broken["train"].ids)
    with pytest.raises(NotFiniteError, match="of epoch 1, whose batch was") as caught:
        run_experiment(teacher, RunDirectory(tmp_path / "run"), broken)
    assert broken["train"].ids[0] in caught.value.ids
