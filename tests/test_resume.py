"""Runs cut off and gone on with: the same numbers to the last digit, for every model."""

import dataclasses
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import types

import keras
import numpy as np
import pytest

from keras_m3s import data
from keras_m3s.experiments import checkpoints
from keras_m3s.experiments.run import run_experiment
from keras_m3s.experiments.run_directory import (
    ChangedExperimentError,
    DamagedRunError,
    RunBusyError,
    RunDirectory,
)
from keras_m3s.models import MMIN
from keras_m3s.models.mmin.utt_fusion import LinearDecay
from keras_m3s.registry.models import CARDS
from keras_m3s.utils import termination
from tests.small import fitting, small

EVERYWHERE = keras.backend.backend() == "torch"

# One of each kind of optimizer and of memory runs with averaged weights, the others without.
AVERAGED = ("self_mm", "tfr_net", "mmim")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def splits(data_dir):
    return data.load("synthetic_msa", data_dir=data_dir, config="tiny")


class Killed(BaseException):
    pass


class SayWhenBegun(keras.callbacks.Callback):
    def __init__(self, begun):
        super().__init__()
        self.begun = begun

    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer is not None:
            self.begun.set()


class KillIn(keras.callbacks.Callback):
    """Stands in for a kill in the middle of an epoch."""

    def __init__(self, epoch, batch=1):
        super().__init__()
        self.at, self.batch = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (self.at, self.batch):
            raise Killed


def weights(run):
    model = keras.saving.load_model(run.best)
    return [keras.ops.convert_to_numpy(v) for v in model.variables]


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="its variables are live, as PyTorch's"
)
@pytest.mark.parametrize("model", CARDS if EVERYWHERE else ("self_mm",))
def test_every_model_goes_on_as_if_nothing_had_been(splits, tmp_path, monkeypatch, model):
    """Cut off before the first checkpoint, then in the epoch that follows.

    On JAX, where `fit` holds the numbers itself and each start compiles anew, in one epoch only,
    and Self-MM alone, by the shorter step of SPL-TRN.

    Self-MM has 6 batches an epoch and takes 4 a step, so that 2 are left over each time; MMIN's rate
    decays from the second epoch on, by sevenths; MMIM has the state of its stage 0.
    """
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", -1.0)
    monkeypatch.setattr(MMIN, "_epochs", (1, 6))
    mine = fitting(splits, model)
    averaging = 0.9 if model in AVERAGED else None
    e = small(model, "m3s" if EVERYWHERE else "spl-trn", epochs=3, averaging=averaging)
    whole, cut = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "cut")
    expected = run_experiment(e, whole, mine, follow=True)
    for epoch in (0, 1) if EVERYWHERE else [1]:
        with pytest.raises(Killed):
            run_experiment(e, cut, mine, [KillIn(epoch)], follow=True)
        assert [done for done, _ in cut.checkpoints][:1] == ([epoch] if epoch else [])
    assert run_experiment(e, cut, mine, follow=True) == expected
    assert cut.read_history() == whole.read_history()
    for ours, theirs in zip(weights(cut), weights(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.once
def test_a_run_resumes_on_its_own_data_and_backend(splits, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", -1.0)
    e = small("misa", "orig", epochs=3)
    whole, cut = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "cut")
    expected = run_experiment(e, whole, splits)
    spoilt = {k: a + 1 if k == "audio" else a for k, a in splits["train"].features.items()}
    other = {**splits, "train": dataclasses.replace(splits["train"], features=spoilt)}
    with pytest.raises(Killed):
        run_experiment(e, cut, other, [KillIn(1)])
    for _, path in cut.checkpoints:
        path.unlink()
    with pytest.raises(Killed):  # without a checkpoint it starts over, on any data
        run_experiment(e, cut, splits, [KillIn(0)])
    assert not cut.best.exists(), "a model of other data"
    with pytest.raises(Killed):
        run_experiment(e, cut, splits, [KillIn(1)])
    kept = (cut.path / "environment.json").read_bytes()
    with pytest.raises(ChangedExperimentError, match=r"must keep its data.*\(train: "):
        run_experiment(e, cut, other)
    with pytest.raises(ChangedExperimentError, match=r"must keep its data.*\(test: "):
        run_experiment(e, cut, {**splits, "test": splits["valid"]})
    elsewhere = kept.replace(keras.backend.backend().encode(), b"theano")
    (cut.path / "environment.json").write_bytes(elsewhere)
    with pytest.raises(ChangedExperimentError, match="begun with theano, now"):
        run_experiment(e, cut, splits)
    assert (cut.path / "environment.json").read_bytes() == elsewhere
    (cut.path / "environment.json").write_bytes(kept)
    assert run_experiment(e, cut, splits) == expected
    assert (cut.path / "environment.json").read_bytes() == kept
    (cut.path / "environment.json").write_bytes(elsewhere)
    assert run_experiment(e, cut, splits) == expected, "a finished run is read on any backend"


@pytest.mark.once
def test_a_decaying_rate_goes_on_exactly():
    """Divided out of the rate that an optimizer holds in float32, the full rate would be another."""

    def rates(resumed_at):
        model = types.SimpleNamespace(optimizer=keras.optimizers.SGD(1e-4))
        found, start = [], float(model.optimizer.learning_rate)
        for epoch in range(60):
            if epoch in (0, resumed_at):
                callback = LinearDecay(20, 40)
                callback.set_model(model)
                replay = checkpoints.ReplayHistory([callback], [], start)
                replay.set_model(model)
                replay.on_train_begin()
            callback.on_epoch_begin(epoch)
            found.append(float(model.optimizer.learning_rate))
        return found

    assert rates(0)[-1] == pytest.approx(1e-4 / 41)
    for epoch in (5, 22, 23, 41):
        assert rates(epoch) == rates(0)


@pytest.mark.once
def test_a_damaged_checkpoint_gives_way_to_the_one_before(splits, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", -1.0)
    e = small("self_mm", "orig")
    whole, cut = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "cut")
    expected = run_experiment(e, whole, splits)
    with pytest.raises(Killed):
        run_experiment(e, cut, splits, [KillIn(3)])
    (three, newest), (two, _) = cut.checkpoints
    assert (three, two) == (3, 2)
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    (cut.path / ".writing-left.keras").write_text("by a killed process")
    with pytest.warns(UserWarning, match="last-0003.keras cannot be read; using the one before"):
        assert run_experiment(e, cut, splits) == expected
    assert cut.read_history() == whole.read_history()
    assert not list(cut.path.glob(".writing-*"))

    for _, path in cut.checkpoints:
        path.write_text("nothing")
    (cut.path / "metrics.json").unlink()
    with (
        pytest.warns(UserWarning, match="cannot be read"),
        pytest.raises(DamagedRunError, match=r"must be readable.*Delete its last-\*"),
    ):
        run_experiment(e, cut, splits)


@pytest.mark.once
def test_following_the_test_data_changes_nothing_but_the_history(splits, tmp_path):
    e = small("mmim")
    plain, followed = RunDirectory(tmp_path / "plain"), RunDirectory(tmp_path / "followed")
    assert run_experiment(e, plain, splits) == run_experiment(e, followed, splits, follow=True)
    rows = followed.read_history()
    assert {"test_loss", "test_mae", "test_corr", "test_acc7"} <= set(rows[0])
    assert rows[0]["test_loss"] == pytest.approx(rows[0]["test_mae"], rel=1e-5)  # of MMIM the same
    kept = [{k: v for k, v in row.items() if not k.startswith("test_")} for row in rows]
    assert kept == plain.read_history()
    best = int(np.argmin([row["val_loss"] for row in rows]))
    metrics = followed.read_json("metrics.json")
    assert metrics["mae"] == pytest.approx(rows[best]["test_mae"], rel=1e-6)


@pytest.mark.once
def test_sigterm_saves_and_the_run_goes_on(splits, tmp_path):
    class Terminate(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    e = small("self_mm", "orig")
    whole, cut = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "cut")
    expected = run_experiment(e, whole, splits)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(
        termination.Stopped, match="3 of 4 epochs of .*cut are saved. The same command"
    ):
        run_experiment(e, cut, splits, [Terminate()])
    assert signal.getsignal(signal.SIGTERM) == before and not termination.asked()
    assert cut.checkpoints[0][0] == 3
    assert run_experiment(e, cut, splits) == expected


HOLD = """
import pathlib, sys, time
from keras_m3s.experiments.run_directory import RunDirectory
with RunDirectory(pathlib.Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.once
def test_a_second_process_is_kept_out_until_the_first_is_dead(tmp_path):
    run = RunDirectory(tmp_path / "run")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, run.path], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunBusyError, match="Only one process may do a run. Another one is at"):
            run.locked().__enter__()
    finally:
        holder.kill()
        holder.wait()
    with run.locked():
        pass


def run_here(model, data_dir, path, begun):
    """What the processes do that are killed."""
    checkpoints.SAVE_EVERY = 0.2
    splits = fitting(data.load("synthetic_msa", data_dir=data_dir, config="tiny"), model)
    said = SayWhenBegun(begun)
    run_experiment(small(model, epochs=8), RunDirectory(path), splits, [said])


@pytest.mark.once
@pytest.mark.slow
def test_killed_at_random_points(splits, data_dir, tmp_path):
    """As often as `KERAS_M3S_KILLS` says, with SIGKILL, each time in another process.

    They come from one that has imported this file and done nothing, for importing takes longest.
    """
    kills, rng = int(os.environ.get("KERAS_M3S_KILLS", "2")), random.Random(0)
    model = os.environ.get("KERAS_M3S_KILLED_MODEL", "self_mm")
    e = small(model, epochs=8)
    whole, cut = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "cut")
    expected = run_experiment(e, whole, fitting(splits, model))

    def check(run):
        assert run.read_json("metrics.json") == expected
        assert run.read_history() == whole.read_history()

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_resume"])

    def start():
        begun = context.Event()
        process = context.Process(target=run_here, args=(model, data_dir, cut.path, begun))
        process.start()
        return process, begun

    points = []
    while len(points) < kills:
        process, begun = start()
        while not begun.wait(0.05) and process.is_alive():
            pass
        if begun.is_set():
            time.sleep(rng.uniform(0.0, 1.0))
            process.kill()
            process.join()
            points.append(next((done for done, _ in cut.checkpoints), 0))
        else:  # the kill before came after the last epoch: only the metrics were left to do
            process.join()
            assert process.exitcode == 0 and points[-1] == e.epochs and cut.complete
        if cut.complete:  # it was faster: the rest of the kills falls on a new run
            check(cut)
            cut = RunDirectory(tmp_path / f"cut-{len(points)}")
    process, _ = start()
    process.join()
    assert process.exitcode == 0
    check(cut)
    print(f"{kills} kills with SIGKILL, after epochs {points}")
