"""Runs trained together leave what each would leave by itself."""

import keras
import numpy as np
import pytest

from keras_m3s.experiments import checkpoints, evaluation
from keras_m3s.experiments.replicated_run import run_together
from keras_m3s.experiments.run import run_experiment
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.study.executors import DONE, FAILED, REUSED, STOPPED, Place, execute, load
from keras_m3s.study.plan import Condition, Planned
from keras_m3s.utils import termination
from tests.small import small

on_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="replicas are JAX's")


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
    """Three at once, of a model that remembers its rows: stopped, gone on with, one of them fails."""
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
    place = Place(str(tmp_path / "runs"), str(tmp_path / "data"), None, "jax", replicas=3)
    retests = (Condition((0.6, 0.8)),)
    # By the shorter step of SPL-TRN; that of M3S is held against single runs where replicas are.
    arguments = {"method": "spl-trn", "patience": 2}
    planned = [Planned(small("self_mm", seed=seed, **arguments), retests) for seed in (2, 0, 1)]
    runs = [place.run(one) for one in planned]
    outcomes = execute(planned, place, jobs=1)
    assert [o.status for o in outcomes] == [STOPPED] * 3, outcomes
    assert [[done for done, _ in run.checkpoints] for run in runs] == [[2]] * 3

    stop = False
    outcomes = execute(planned, place, jobs=1)
    assert [o.status for o in outcomes] == [FAILED, DONE, DONE]
    assert outcomes[0].message == "FloatingPointError: made to fail"
    assert [run.complete for run in runs] == [False, True, True]
    assert runs[1].read_json("metrics.json") != runs[2].read_json("metrics.json")

    alone = RunDirectory(tmp_path / "alone")
    splits = load("synthetic_msa/tiny", place)
    run_experiment(planned[2].experiment, alone, splits, follow=True)
    assert_alike(runs[2], alone)
    evaluation.run_retests(alone, splits["test"], [((0.6, 0.8), "span")])
    retests = [run.read_json("retest-0.60-0.80-span.json")["metrics"] for run in (runs[2], alone)]
    assert retests[0] == pytest.approx(retests[1], abs=1e-5)
    assert [o.status for o in execute(planned[1:], place, jobs=1)] == [REUSED] * 2


@on_jax
def test_only_seeds_may_differ(tmp_path):
    runs = [(small("misa", seed=seed), RunDirectory(tmp_path / str(seed))) for seed in (0, 1)]
    other = (runs[1][0].replace(batch_size=5), runs[1][1])
    for wrong in ([runs[0], other], [runs[0], runs[0]]):
        with pytest.raises(
            ValueError, match="must differ in `seed`, and in nothing else. Received"
        ):
            run_together(wrong, {})


@pytest.mark.once
def test_not_without_jax(tmp_path):
    with pytest.raises(
        RuntimeError, match="must be trained on JAX.*Received: KERAS_BACKEND='torch'"
    ):
        run_together([], {})
