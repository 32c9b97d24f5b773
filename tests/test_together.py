"""Runs trained together end with the files and numbers of single runs."""

import dataclasses
import time
import types

import keras
import numpy as np
import pytest

import keras_m3s as m3s
from keras_m3s.experiments import checkpoints, evaluation, training
from keras_m3s.experiments.replicated_run import IsolatedCallbacks, run_replicas
from keras_m3s.experiments.run import run_experiment
from keras_m3s.experiments.run_directory import ChangedExperimentError, RunDirectory
from keras_m3s.study.executors import execute
from keras_m3s.study.plan import Condition, PlannedRun
from keras_m3s.study.workspace import DONE, FAILED, REUSED, STOPPED, Workspace, load_splits
from keras_m3s.utils import termination
from tests.small import small

on_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="replicas need JAX")


def assert_alike(ours, theirs):
    assert ours.experiment() == theirs.experiment()
    histories = [run.read_history() for run in (ours, theirs)]
    assert len(histories[0]) == len(histories[1])
    for mine, alone in zip(*histories, strict=True):
        assert mine.keys() == alone.keys()
        values = [mine[name] for name in alone]
        np.testing.assert_allclose(values, list(alone.values()), rtol=1e-5, atol=1e-5)
    models = [keras.saving.load_model(run.best) for run in (ours, theirs)]
    for a, b in zip(*(model.variables for model in models), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=b.path)
    metrics = [run.read_json("metrics.json") for run in (ours, theirs)]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-5)
    lines = [
        np.genfromtxt(run.path / "predictions.csv", delimiter=",", usecols=(1, 2), skip_header=1)
        for run in (ours, theirs)
    ]
    np.testing.assert_allclose(*lines, rtol=1e-5, atol=1e-5)


@on_jax
@pytest.mark.slow
def test_each_leaves_its_own_directory(tmp_path, monkeypatch):
    """Three runs of a model with memories of its rows: stopped, resumed, one of them fails."""
    stop = True
    batch_end, epoch_end = (
        checkpoints.RunCheckpoint.on_train_batch_end,
        checkpoints.RunCheckpoint.on_epoch_end,
    )

    def asked_in_the_second_epoch(keeper, batch, logs=None):
        if stop and keeper.history:
            termination._asked.set()
        batch_end(keeper, batch, logs)

    def fails_in_the_third(keeper, epoch, logs=None):
        epoch_end(keeper, epoch, logs)
        if keeper.experiment.seed == 2 and len(keeper.history) == 3:
            raise FloatingPointError("made to fail")

    monkeypatch.setattr(checkpoints, "SAVE_EVERY", float("inf"))
    monkeypatch.setattr(checkpoints.RunCheckpoint, "on_train_batch_end", asked_in_the_second_epoch)
    monkeypatch.setattr(checkpoints.RunCheckpoint, "on_epoch_end", fails_in_the_third)
    set_up, preparations = training.set_up, []

    def takes_long(*arguments, **named):
        preparations.append(1)
        return set_up(*arguments, **named)

    def monotonic():
        return time.monotonic() + 1e6 * len(preparations)

    monkeypatch.setattr(training, "set_up", takes_long)
    monkeypatch.setattr(checkpoints, "time", types.SimpleNamespace(monotonic=monotonic))
    workspace = Workspace(str(tmp_path / "runs"), str(tmp_path / "data"), None, "jax", replicas=3)
    retests = (Condition((0.6, 0.8)),)
    # By the shorter step of SPL-TRN; that of M3S is held against single runs where replicas are.
    arguments = {"method": "spl-trn", "patience": 2}
    planned = [PlannedRun(small("self_mm", seed=seed, **arguments), retests) for seed in (2, 0, 1)]
    runs = [workspace.run_directory(one) for one in planned]
    outcomes = execute(planned, workspace, jobs=1)
    assert [o.status for o in outcomes] == [STOPPED] * 3, outcomes
    assert [[done for done, _ in run.checkpoints] for run in runs] == [[2]] * 3
    assert len(preparations) == 3 and all(0 < run.seconds < 1e5 for run in runs)

    stop = False
    outcomes = execute(planned, workspace, jobs=1)
    assert [o.status for o in outcomes] == [FAILED, DONE, DONE]
    assert outcomes[0].message.endswith(": FloatingPointError: made to fail")
    assert [run.complete for run in runs] == [False, True, True]
    assert runs[1].read_json("metrics.json") != runs[2].read_json("metrics.json")

    alone = RunDirectory(tmp_path / "alone")
    splits = load_splits("synthetic_msa/tiny", workspace)
    run_experiment(planned[2].experiment, alone, splits, follow=True)
    assert_alike(runs[2], alone)
    evaluation.run_retests(alone, splits["test"], [((0.6, 0.8), "span")])
    retests = [run.read_json("retest-0.60-0.80-span.json")["metrics"] for run in (runs[2], alone)]
    assert retests[0] == pytest.approx(retests[1], abs=1e-5)
    assert [o.status for o in execute(planned[1:], workspace, jobs=1)] == [REUSED] * 2

    other = {**splits, "test": dataclasses.replace(splits["test"], labels=-splits["test"].labels)}
    pairs = [(p.experiment, workspace.run_directory(p)) for p in planned[1:]]
    errors = run_replicas(pairs, other)
    assert [type(error) for error in errors] == [ChangedExperimentError] * 2
    assert run_replicas(pairs, splits) == [None, None]


HOOKS = [name for name in dir(keras.callbacks.Callback) if name.startswith("on_")]


class Recorder(keras.callbacks.Callback):
    """Records the calls of all hooks; of logs only the names."""

    def __init__(self):
        super().__init__()
        self.calls = []


def record(hook):
    def method(self, *arguments, logs=None):
        names = [sorted(one) if isinstance(one, dict) else one for one in (*arguments, logs)]
        self.calls.append((hook, self.params, self.model.name, *names))

    return method


for hook in HOOKS:
    setattr(Recorder, hook, record(hook))


def calls(train, isolated):
    """Calls that a recorder gets, alone or inside `IsolatedCallbacks`."""
    recorder = Recorder()
    train(IsolatedCallbacks([recorder], {}) if isolated else recorder)
    return recorder.calls


X, Y = np.ones((6, 2), "float32"), np.ones((6, 1), "float32")


def compiled(seed=0):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="model")
    model.compile("sgd", loss="mse")
    return model


@pytest.mark.once
def test_callbacks_of_a_run_get_the_hooks_of_training():
    def train(callback):
        compiled().fit(X, Y, batch_size=4, epochs=2, callbacks=[callback], verbose=0)

    assert calls(train, isolated=True) == calls(train, isolated=False)


@on_jax
def test_callbacks_of_a_run_get_all_that_replicas_call():
    def train(callback):
        m3s.fit_replicas(
            compiled, [0], X, Y, batch_size=4, epochs=2, validation_data=(X, Y),
            callbacks=lambda _: [callback],
        )  # fmt: skip

    found = calls(train, isolated=False)
    assert calls(train, isolated=True) == found
    assert {hook for hook, *_ in found} == {
        hook for hook in HOOKS if hook.startswith(("on_train_", "on_epoch_"))
    }


@on_jax
def test_only_seeds_may_differ(tmp_path):
    runs = [(small("misa", seed=seed), RunDirectory(tmp_path / str(seed))) for seed in (0, 1)]
    other = (runs[1][0].replace(batch_size=5), runs[1][1])
    for wrong in ([runs[0], other], [runs[0], runs[0]]):
        with pytest.raises(
            ValueError, match="must differ in `seed`, and in nothing else. Received"
        ):
            run_replicas(wrong, {})


@pytest.mark.once
def test_not_without_jax(tmp_path):
    with pytest.raises(
        RuntimeError, match="must be trained on JAX.*Received: KERAS_BACKEND='torch'"
    ):
        run_replicas([], {})
