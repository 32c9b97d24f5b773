"""Runs of a model of one's own, on data of one's own: trained, resumed, tested, loaded again."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

from keras_m3s.experiments import own_model
from keras_m3s.experiments.build import build
from keras_m3s.experiments.checkpoints import best_model
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.evaluation import at_test_rate, predict, retest_draws
from keras_m3s.experiments.replicated_run import run_replicas
from keras_m3s.experiments.robustness import run_robustness
from keras_m3s.experiments.run import run_experiment
from keras_m3s.experiments.run_directory import ChangedExperimentError, RunDirectory
from keras_m3s.experiments.spec import Spec, spec_of
from keras_m3s.experiments.training import train
from keras_m3s.utils import termination, user_code, user_source
from tests import sensors


@pytest.fixture(scope="module")
def splits():
    return sensors.splits()


@pytest.fixture
def file(tmp_path):
    (tmp_path / "code").mkdir()
    path = tmp_path / "code" / "net.py"
    path.write_text(sensors.BUILD)
    return path


def experiment(file, method="m3s", rate=(0.2, 0.6), **settings):
    settings = {"epochs": 3, "batch_size": 8, "learning_rate": 0.03, **settings}
    return Experiment.of("made_up", f"{file}:build", method, rate, **settings)


@pytest.mark.parametrize(
    ("method", "fill"), [("m3s", "mean"), ("orig", "learned"), ("spl-trn", 1.5)]
)
def test_a_run(method, fill, file, splits, tmp_path):
    planned = experiment(file, method, fill=fill)
    run = RunDirectory(tmp_path / planned.key)
    metrics = run_experiment(planned, run, splits, follow=True)
    assert set(metrics) == {"acc", "uar", "f1", "log_loss"} and metrics["acc"] > 0.4
    history = run.read_history()
    assert len(history) == 3 and {"val_loss", "val_acc", "test_uar", "test_loss"} <= {*history[0]}
    again = best_model(run)
    assert predict(again, planned, splits["test"]).shape == (24, 3)
    assert run_experiment(planned, run, splits) == metrics
    assert retest_draws(run, splits["test"], draws=1) == [metrics]


def test_a_scores_task_has_its_own_metrics(file, splits, tmp_path):
    scored = {
        name: dataclasses.replace(split, labels=split.labels.astype("float32"), task="regression")
        for name, split in splits.items()
    }
    planned = experiment(file, epochs=1)
    metrics = run_experiment(planned, RunDirectory(tmp_path / "run"), scored)
    assert list(metrics) == ["mae", "rmse", "corr"]


def test_two_classes_have_areas_under_curves(file, tmp_path):
    planned = experiment(file, epochs=1)
    metrics = run_experiment(planned, RunDirectory(tmp_path / "run"), sensors.splits(classes=2))
    assert list(metrics) == ["acc", "uar", "f1", "auroc", "auprc", "log_loss"]


def test_the_mean_stands_in_a_hole(file, splits):
    model = build(experiment(file), splits["train"], 3)
    x = splits["test"].take(np.arange(4))
    mean = spec_of(splits["train"], 3).mean
    filled = {m: np.where(np.isnan(x[m]), mean[m], x[m]) for m in sensors.SHAPES}
    np.testing.assert_array_equal(model.predict_on_batch(x), model.predict_on_batch(filled))
    absent = {**{m: x[m] for m in ("acc", "profile")}}
    by_hand = {**filled, "gyro": np.broadcast_to(mean["gyro"], (4, *sensors.SHAPES["gyro"]))}
    np.testing.assert_array_equal(model.predict_on_batch(absent), model.predict_on_batch(by_hand))


def test_what_was_learned_stands_in_a_tested_hole(file, splits, tmp_path):
    planned = experiment(file, "spl-trn", fill="learned", epochs=1)
    run = RunDirectory(tmp_path / "run")
    run_experiment(planned, run, splits)
    model = best_model(run)
    tested = at_test_rate(model, planned.replace(test_missing_rate=(1.0, 1.0)))
    (learned,) = (v for v in model.missing.trainable_variables if "acc" in v.path)
    assert np.abs(keras.ops.convert_to_numpy(learned)).max() > 0
    x = splits["test"].take(np.arange(4))
    draws = np.zeros((4, 3, 2), "float32")
    nothing = {m: np.full_like(x[m], np.nan) for m in sensors.SHAPES}
    expected = model.predict_on_batch(nothing)
    np.testing.assert_array_equal(tested.predict_on_batch({**x, "draws": draws}), expected)
    learned.assign(learned + 1.0)
    assert not np.allclose(tested.predict_on_batch({**x, "draws": draws}), expected)


def test_a_compiled_model_keeps_its_optimizer_loss_and_metrics(file, splits):
    file.write_text(
        sensors.BUILD.replace(
            "    return keras.Model(inputs, layers.Dense(spec.outputs)(x))",
            "    model = keras.Model(inputs, layers.Dense(spec.outputs, 'softmax')(x))\n"
            "    model.compile(keras.optimizers.SGD(0.5, momentum=0.9),\n"
            "                  'sparse_categorical_crossentropy', metrics=['accuracy'])\n"
            "    return model",
        )
    )
    model = build(experiment(file, learning_rate=None), splits["train"], 3)
    assert isinstance(model.optimizer, keras.optimizers.SGD) and model.optimizer.momentum == 0.9
    assert float(model.optimizer.learning_rate) == 0.5
    assert model.loss == "sparse_categorical_crossentropy"
    faster = build(experiment(file, learning_rate=0.25), splits["train"], 3)
    assert float(faster.optimizer.learning_rate) == 0.25 and faster.optimizer.momentum == 0.9
    file.write_text(sensors.BUILD)
    plain = build(experiment(file, learning_rate=None), splits["train"], 3)
    assert isinstance(plain.optimizer, keras.optimizers.Adam)


def test_a_subclassed_model_is_loaded_from_the_source_that_the_run_kept(file, splits, tmp_path):
    file.write_text(sensors.SUBCLASSED)
    file.with_name("parts.py").write_text(sensors.PARTS)
    planned = experiment(file, epochs=1)
    run = RunDirectory(tmp_path / "run")
    run_experiment(planned, run, splits)
    x = splits["test"].take(np.arange(5))
    before = best_model(run).predict_on_batch(x)
    # The user goes on: neither the file nor what it imports is what it was.
    file.with_name("parts.py").write_text(sensors.PARTS.replace("mean(x", "max(x"))
    changed = experiment(file, epochs=1)
    assert changed.key != planned.key
    np.testing.assert_array_equal(best_model(run).predict_on_batch(x), before)
    shutil.rmtree(file.parent)
    np.testing.assert_array_equal(best_model(run).predict_on_batch(x), before)
    with pytest.raises(FileNotFoundError, match="must exist"):
        experiment(file)


def test_a_source_that_changed_is_never_trained_as_what_it_was(file, splits, tmp_path):
    planned = experiment(file)
    file.write_text(sensors.BUILD + "\n# one line more\n")
    with pytest.raises(ChangedExperimentError, match="has changed"):
        train(planned, RunDirectory(tmp_path / "run"), splits)


def test_an_interrupted_run_ends_as_one_that_was_not(file, splits, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise termination.Stopped("after two epochs")

    planned = experiment(file, epochs=4)
    whole, parts = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "parts")
    metrics = run_experiment(planned, whole, splits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_m3s.experiments.checkpoints.SAVE_EVERY", 0.0)
        with pytest.raises(termination.Stopped):
            run_experiment(planned, parts, splits, [Stop()])
    assert run_experiment(planned, parts, splits) == metrics
    assert parts.read_history() == whole.read_history()


def test_draws_and_robustness(file, splits, tmp_path):
    planned = experiment(file, epochs=2)
    run = RunDirectory(tmp_path / "run")
    metrics = run_experiment(planned, run, splits)
    several = retest_draws(run, splits["test"], draws=3)
    assert several[0] == metrics and len({json.dumps(one) for one in several}) > 1
    table = run_robustness(run, splits["test"], rates=(0.0, 0.5), patterns=("span",), draws=2)
    assert table.metrics == ("acc", "uar", "f1", "log_loss")
    complete = retest_draws(run, splits["test"], missing_rate=(0.0, 0.0))[0]
    assert dict(table.complete) == pytest.approx(complete, abs=1e-12)
    absent = {row["absent"] for row in table.rows()}
    assert {("acc",), ("gyro",), ("profile",), ("acc", "gyro")} <= absent
    assert (run.path / "robustness.csv").read_text().startswith("pattern,rate,absent,draw,acc")
    assert (run.path / "robustness.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="replicas are for JAX")
def test_replicas_of_it_are_its_runs(file, splits, tmp_path):
    runs = [
        (one, RunDirectory(tmp_path / one.key))
        for one in (experiment(file, seed=seed) for seed in (0, 1))
    ]
    assert run_replicas(runs, splits) == [None, None]
    for one, run in runs:
        alone = RunDirectory(tmp_path / "alone" / one.key)
        run_experiment(one, alone, splits)
        together = [row["val_loss"] for row in run.read_history()]
        assert together == pytest.approx([r["val_loss"] for r in alone.read_history()], rel=1e-4)


@pytest.mark.once
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def build(spec):\n    return 1 / 0\n", r"net.py, line 2: ZeroDivisionError"),
        ("def build(spec):\n    return spec\n", r"must return a keras.Model. Received: Spec"),
        ("def make(spec):\n    return 1\n", r"must have a function 'build'. Received: \['make'\]"),
        (
            sensors.BUILD.replace("Dense(spec.outputs)", "Dense(2)"),
            r"\(batch, 3\), logits of 3 classes. Received: \(None, 2\)",
        ),
        (
            sensors.SUBCLASSED.replace('"outputs": self.outputs_', '"outputs": object()').replace(
                "from parts import Pooled", sensors.PARTS
            ),
            r"must return a model that can be saved. Received: Net",
        ),
    ],
)
def test_errors_name_what_is_wrong(code, message, file, splits):
    file.write_text(code)
    with pytest.raises(Exception, match=".") as caught:
        build(experiment(file), splits["train"], 3)
    import re

    assert re.search(message, user_code.describe(caught.value))


@pytest.mark.once
def test_the_spec(splits):
    spec = spec_of(splits["train"], 3)
    assert dict(spec.inputs) == sensors.SHAPES and spec.outputs == 3
    whole = splits["train"].features["acc"].astype("float64").reshape(-1, 2)
    np.testing.assert_allclose(spec.mean["acc"], np.nanmean(whole, axis=0), rtol=1e-6)
    np.testing.assert_allclose(spec.variance["acc"], np.nanvar(whole, axis=0), rtol=1e-6)
    again = Spec.from_dict(json.loads(json.dumps(spec.to_dict())))
    np.testing.assert_array_equal(again.variance["profile"], spec.variance["profile"])
    assert again.inputs == spec.inputs


@pytest.mark.once
def test_the_spec_counts_no_padding_and_no_channel_without_a_value(splits):
    features = {k: v.copy() for k, v in splits["train"].features.items()}
    features["acc"][:, 6:] = 1e6
    features["acc_length"] = np.full(48, 6, "int32")
    features["gyro"][..., 1] = np.nan
    spec = spec_of(dataclasses.replace(splits["train"], features=features), 3)
    assert spec.lengths == ("acc",) and abs(spec.mean["acc"]).max() < 1e3
    assert spec.mean["gyro"][1] == 0 and spec.variance["gyro"][1] == 1


@pytest.mark.once
def test_sources(tmp_path, monkeypatch):
    package = tmp_path / "nets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text(
        "from .two import value\nimport json\ndef f():\n    return value\n"
    )
    (package / "two.py").write_text("value = 2\n")
    monkeypatch.chdir(tmp_path)
    source = user_source.find("nets.one:f")
    assert {*source.files} == {"nets/__init__.py", "nets/one.py", "nets/two.py"}
    assert source.call() == 2
    (package / "two.py").write_text("value = 3\n")
    again = user_source.find("nets.one:f")
    assert again.digest != source.digest and (again.call(), source.call()) == (3, 2)
    assert set(own_model.models.OWN.settings) >= {"fill", "epochs"}


@pytest.mark.once
def test_the_key_counts_the_source_only_where_there_is_one(file):
    card = Experiment.of("synthetic_msa", "misa", "m3s")
    assert card.model_source is None and card.fill == "zero"
    assert "fill" not in json.dumps(card.key)
    own = experiment(file)
    assert own.fill == "mean" and own.key.startswith("made_up-net.build-m3s-seed0-")
    assert Experiment.from_dict(own.to_dict()) == own
    assert own.replace(model_source="0" * 64).key != own.key
    assert own.replace(fill=0).fill == "zero"
    with pytest.raises(ValueError, match="fill='mean' with site='encoded'"):
        own.replace(site="encoded", fill="mean")
    with pytest.raises(ValueError, match="`model_source` must be given"):
        card.replace(model_source="0")
