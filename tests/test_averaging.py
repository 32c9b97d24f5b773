"""Runs with averaged weights: validated, selected, saved, tested, served; resumed exactly."""

import csv
import dataclasses

import keras
import numpy as np
import pytest

from keras_m3s.experiments import evaluation
from keras_m3s.experiments.averaging import averaged
from keras_m3s.experiments.build import build, validation_batches
from keras_m3s.experiments.checkpoints import best_model, newest_checkpoint
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.evaluation import at_test_rate, predict, score
from keras_m3s.experiments.own_model import read_spec, served
from keras_m3s.experiments.replicated_run import run_replicas
from keras_m3s.experiments.run import run_experiment
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.inference import RunModel, export, trained_model
from keras_m3s.meta.m3s import M3S
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.missing import MissingModality
from keras_m3s.models import MISA
from keras_m3s.registry import methods
from keras_m3s.study.plan import STUDIES, Settings, plan
from tests import sensors

MOMENTUM = 0.8

COMPILED = sensors.BUILD.replace(
    "    return keras.Model(inputs, layers.Dense(spec.outputs)(x))",
    "    model = keras.Model(inputs, layers.Dense(spec.outputs)(x))\n"
    "    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)\n"
    "    model.compile(keras.optimizers.SGD(schedule, momentum=0.9),\n"
    "        keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=['accuracy'])\n"
    "    return model",
)


@pytest.fixture(scope="module")
def splits():
    return sensors.splits()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(sensors.BUILD)
    return path


def experiment(file, method="spl-trn", **settings):
    """By default all training rows are one batch, so that an epoch is a step."""
    settings = {"epochs": 3, "batch_size": 48, "learning_rate": 0.03, "fill": "learned", **settings}
    settings = {"averaging": MOMENTUM, **settings}
    return Experiment.of("made_up", f"{file}:build", method, (0.2, 0.6), **settings)


def trainable(model):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.trainable_variables]


def everything(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(v)) for v in variables]


def assert_equal(found, expected, exactly=False):
    for one, other in zip(found, expected, strict=True):
        tolerance = {"rtol": 0, "atol": 0} if exactly else {"rtol": 1e-5, "atol": 1e-6}
        np.testing.assert_allclose(one, other, **tolerance)


class Recorded(keras.callbacks.Callback):
    """The weights that training is at after each epoch."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(trainable(self.model))


def averages_by_hand(weights):
    """a_1 = w_1, a_t = m a_(t-1) + (1 - m) w_t."""
    found = [weights[0]]
    for after in weights[1:]:
        pairs = zip(found[-1], after, strict=True)
        found.append([MOMENTUM * a + (1 - MOMENTUM) * w for a, w in pairs])
    return found


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.once)])
def test_what_is_measured_and_kept_is_averaged(compiled, file, splits, tmp_path):
    """Validation, test values of each epoch, best.keras, and the metrics; last-* goes on from w."""
    if compiled:
        file.write_text(COMPILED)
    planned = experiment(file, **({"learning_rate": None} if compiled else {}))
    run, recorded = RunDirectory(tmp_path / "run"), Recorded()
    metrics = run_experiment(planned, run, splits, [recorded], follow=True)
    by_hand = averages_by_hand(recorded.weights)
    assert not np.allclose(by_hand[-1][0], recorded.weights[-1][0], atol=1e-4)

    history, model = run.read_history(), best_model(run)
    best = min(range(3), key=lambda epoch: history[epoch]["val_loss"])
    assert_equal(trainable(model), by_hand[best])
    _, last = newest_checkpoint(run)
    assert_equal(trainable(last), recorded.weights[-1], exactly=True)
    with averaged(last):
        assert_equal(trainable(last), by_hand[-1])
    assert_equal(trainable(last), recorded.weights[-1], exactly=True)

    for row, weights in zip(history, by_hand, strict=True):
        for variable, value in zip(model.trainable_variables, weights, strict=True):
            variable.assign(value)
        values = model.evaluate(validation_batches(planned, splits), verbose=0, return_dict=True)
        for name, value in values.items():
            np.testing.assert_allclose(row[f"val_{name}"], value, rtol=1e-5, err_msg=name)
        tested = score("made_up", splits["test"], predict(model, planned, splits["test"]))
        assert {n: row[f"test_{n}"] for n in tested} == pytest.approx(tested)
    assert metrics == pytest.approx({n: history[best][f"test_{n}"] for n in metrics})
    with (run.path / "predictions.csv").open() as rows:
        found = [[float(r[f"logit_{i}"]) for i in range(3)] for r in csv.DictReader(rows)]
    np.testing.assert_allclose(found, predict(best_model(run), planned, splits["test"]), atol=1e-6)


def test_a_killed_run_goes_on_exactly(file, splits, tmp_path):
    """Killed within an epoch, after validation of the one before: the same numbers to the last bit.

    And the test values of each epoch, which read the averages, change nothing.
    """

    class Killed(BaseException):
        pass

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if (self.epoch, batch) == (2, 1):
                raise Killed

    planned = experiment(file, "m3s", epochs=4, batch_size=8, averaging=0.9)
    whole, cut = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "cut")
    metrics = run_experiment(planned, whole, splits, follow=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_m3s.experiments.checkpoints.SAVE_EVERY", -1.0)
        with pytest.raises(Killed):
            run_experiment(planned, cut, splits, [Kill()])
    assert [done for done, _ in cut.checkpoints] == [2, 1]
    assert run_experiment(planned, cut, splits) == metrics
    for ours, theirs in zip(cut.read_history(), whole.read_history(), strict=True):
        assert ours == {name: theirs[name] for name in ours}
    for read in (best_model, lambda run: newest_checkpoint(run)[1]):
        assert_equal(everything(read(cut)), everything(read(whole)), exactly=True)


@pytest.mark.once
def test_the_best_model_is_exported_and_served(file, splits, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    run = RunDirectory(tmp_path / "run")
    run_experiment(experiment(file, batch_size=8), run, splits)
    path = export.export(run, "onnx", tmp_path / "model.onnx")
    x = export.random_inputs(RunModel(run), 3, seed=5)
    (found,) = onnxruntime.InferenceSession(path).run(None, x)
    np.testing.assert_allclose(found, best_model(run).predict_on_batch(x), atol=1e-5)
    _, last = newest_checkpoint(run)
    assert not np.allclose(found, last.predict_on_batch(x), atol=1e-3)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="replicas are for JAX")
def test_replicas_average_as_single_runs(file, splits, tmp_path):
    runs = [
        (one, RunDirectory(tmp_path / one.key))
        for one in (experiment(file, batch_size=8, seed=seed) for seed in (0, 1))
    ]
    assert run_replicas(runs, splits, follow=True) == [None, None]
    (one, run), alone = runs[1], RunDirectory(tmp_path / "alone")
    run_experiment(one, alone, splits, follow=True)
    for ours, theirs in zip(run.read_history(), alone.read_history(), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    for read in (best_model, lambda run: newest_checkpoint(run)[1]):
        for a, b in zip(trainable(read(run)), trainable(read(alone)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_without_averages_the_scope_changes_nothing(file, splits):
    model = build(experiment(file, averaging=None), splits["train"], 3)
    before = trainable(model)
    with averaged(model):
        assert_equal(trainable(model), before, exactly=True)
    averaging = build(experiment(file), splits["train"], 3)
    averaging.optimizer.build(averaging.trainable_variables)
    before = trainable(averaging)
    with averaged(averaging):  # before the first step the averages are 0
        assert_equal(trainable(averaging), before, exactly=True)


@pytest.mark.once
def test_an_optimizer_that_keeps_no_averages_is_refused(file, splits):
    file.write_text(
        COMPILED.replace(
            "keras.optimizers.SGD(schedule, momentum=0.9)",
            "keras.optimizers.MultiOptimizer("
            "keras.optimizers.OptimizerMap(default_optimizer=keras.optimizers.SGD()))",
        )
    )
    with pytest.raises(ValueError, match="`averaging` must be None for a model compiled with a M"):
        build(experiment(file, learning_rate=None), splits["train"], 3)


@pytest.mark.once
def test_precedence_and_key():
    """What is passed, then the method's settings, then the model's, then the general ones."""
    plain = Experiment.of("d", "misa", "spl-trn")
    assert plain.averaging is None
    assert plain.replace(averaging=0.5).key != plain.key
    card = Experiment.of("d", "misa", "spl-trn-averaged")
    assert card.averaging == 0.99 and card.batch_size == plain.batch_size
    other = Experiment.of("d", "misa", "spl-trn-averaged", averaging=0.9)
    assert other.averaging == 0.9 and other.key != card.key
    assert Experiment.from_dict(card.to_dict()) == card
    old = {name: value for name, value in plain.to_dict().items() if name != "averaging"}
    assert Experiment.from_dict(old).key == plain.key
    for wrong in (0, 1, 1.5, True, "0.9"):
        with pytest.raises(ValueError, match=r"`averaging` must be a number within \(0, 1\), or N"):
            Experiment.of("d", "misa", "orig", averaging=wrong)


@pytest.mark.once
def test_a_methods_settings_come_before_the_models(monkeypatch):
    settings = {"batch_size": 7, "inner_learning_rate": 0.5, "fill": "learned"}
    card = dataclasses.replace(methods.CARDS["m3s"], settings=settings)
    monkeypatch.setitem(methods.CARDS, "mine", card)
    for more in ({}, {"model_arguments": {"bert": "folder"}}, {"site": "encoded"}):
        one = Experiment.of("d", "misa", "mine", **more)
        assert (one.batch_size, one.inner_learning_rate, one.fill) == (7, 0.5, "learned")
    assert Experiment.of("d", "misa", "mine", batch_size=3).batch_size == 3


@pytest.mark.once
def test_a_methods_options_and_holes(monkeypatch, file, splits, tmp_path):
    """They reach the wrapper and its layer; a tested and a served model rescale as in training."""
    holes = {"missing_rate": (0.1, 0.9), "rescale": True, "pattern": {"span": 0.6, "none": 0.4}}
    card = methods.CARDS["m3s"]
    card = dataclasses.replace(card, options={"consistency": 0.5, "outer": "both"}, holes=holes)
    monkeypatch.setitem(methods.CARDS, "mine", card)
    plain = dataclasses.replace(methods.CARDS["spl-trn"], options={"consistency": 2.0})
    monkeypatch.setitem(methods.CARDS, "plain", plain)
    assert build(experiment(file, "plain"), splits["train"], 3).consistency.weight == 2.0

    planned = experiment(file, "mine", batch_size=8, epochs=1)
    run = RunDirectory(tmp_path / "run")
    metrics = run_experiment(planned, run, splits, follow=True)
    model = best_model(run)
    assert isinstance(model, M3S) and model.outer == "both" and model.consistency.weight == 0.5
    assert set(model.missing.missing_rate.values()) == {(0.1, 0.9)}
    assert model.missing.pattern == holes["pattern"] and model.missing.rescale
    tested = at_test_rate(model, planned)
    assert set(tested.missing.missing_rate.values()) == {(0.2, 0.6)}
    assert tested.missing.pattern == "span" and tested.missing.rescale
    assert metrics == pytest.approx(
        score("made_up", splits["test"], predict(model, planned, splits["test"]))
    )
    spec = read_spec(run)
    assert served(model, spec).missing.rescale

    code = sensors.BUILD.replace("spec.inputs.items()", "[*spec.inputs.items()][:2]")
    file.write_text(code)
    of_two = build(experiment(file, "mine"), splits["train"], 3)
    with pytest.warns(UserWarning, match="are not handed to it"):
        of_two.predict_on_batch(splits["test"].take(np.arange(4)))
    two = served(of_two, spec)
    assert two is not of_two and two.missing.rescale and two.missing.modalities == ("acc", "gyro")


@pytest.mark.once
@pytest.mark.parametrize("holes", [{"rescale": True}, {"fill": "learned"}, {"fill": 1.5}])
def test_a_model_with_a_card_and_other_holes_is_not_served_as_it_is(holes, monkeypatch, tmp_path):
    trained = WithMissing(MISA(), MissingModality(**holes))
    monkeypatch.setattr(trained_model, "best_model", lambda run, compile: trained)
    run = RunDirectory(tmp_path)
    run.start(Experiment.of("d", "misa", "orig"))
    with pytest.raises(ValueError, match="must be trained on holes of zeros and without"):
        RunModel(run)


@pytest.mark.once
def test_the_studies_do_not_take_the_card_unasked():
    name = "spl-trn-averaged"
    assert name in methods.named("trial")
    assert methods.equal_budget() == ("spl-trn-equal",)
    assert all(name not in pair for pair in methods.compared())
    settings = Settings({"cmu_mosi": "synthetic_msa/tiny"}, seeds=(0,))
    for study in STUDIES:
        assert all(planned.experiment.method != name for planned in plan(study, settings))
    asked = Settings({"cmu_mosi": "synthetic_msa/tiny"}, seeds=(0,), methods=(name,))
    assert {planned.experiment.method for planned in plan("table2", asked)} == {name}


def test_test_metrics_leave_the_weights_alone(file, splits):
    model = build(experiment(file), splits["train"], 3)
    x, y = splits["train"].take(np.arange(8)), splits["train"].labels[:8]
    for _ in range(3):
        model.train_on_batch(x, y)
    before, logs = trainable(model), {}
    callback = evaluation.TestMetrics(experiment(file), splits["test"])
    callback.set_model(model)
    callback.on_epoch_end(0, logs)
    assert "test_loss" in logs
    assert_equal(trainable(model), before, exactly=True)
