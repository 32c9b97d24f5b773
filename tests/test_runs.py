"""Run directories: nothing half-written, nothing mixed up."""

import pytest

from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.evaluation import retest
from keras_m3s.experiments.run_directory import (
    ChangedExperimentError,
    DamagedRunError,
    RunDirectory,
    environment,
)
from keras_m3s.inference.predictions import RunModel

pytestmark = pytest.mark.once


def test_same_experiment_goes_on_another_is_refused(tmp_path):
    run, e = RunDirectory(tmp_path / "run"), Experiment.of("d", "misa", "orig")
    run.start(e)
    run.start(e)
    assert run.experiment() == e and not run.complete
    with pytest.raises(ChangedExperimentError, match="differs in seed: 0 there, 1 now"):
        run.start(e.replace(seed=1))
    assert run.experiment() == e


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_json("metrics.json", {"mae": 1.0})
    with pytest.raises(RuntimeError), run.writing("metrics.json") as path:
        path.write_text("half")
        raise RuntimeError
    assert run.read_json("metrics.json") == {"mae": 1.0}
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


def test_history_round_trip(tmp_path):
    run = RunDirectory(tmp_path)
    assert run.read_history() == []
    rows = [{"epoch": 1.0, "loss": 0.1 + 0.2}, {"epoch": 2.0, "loss": 1e-17}]
    run.write_csv("history.csv", rows)
    assert run.read_history() == rows


def test_no_run_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must hold experiment.json. Received: .*nothing"):
        RunDirectory(tmp_path / "nothing").experiment()


def test_environment_names_versions():
    values = environment("jax", {"train": "abc"})
    assert values["packages"]["keras"] and values["backend"] == "jax" and values["data"] == {"train": "abc"}  # fmt: skip


DAMAGE = {"cut off": b'{"dataset": "d", "mod', "empty": b"", "no object": b"[1]", "no text": b"\xff\xfe{",
          "nested": b"[" * 10**5, "no name": b'{"dataset": 1}'}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_says_which_and_what_to_do(damage, tmp_path):
    run, e = RunDirectory(tmp_path), Experiment.of("d", "misa", "orig")
    run.start(e)
    (tmp_path / "experiment.json").write_bytes(DAMAGE[damage])
    for read in (run.experiment, lambda: run.start(e)):
        with pytest.raises(
            ValueError, match=r"(?s)must .*Received.*(delete the directory|Take the version)"
        ):
            read()


@pytest.mark.parametrize(
    "table",
    [
        "epoch,loss\n1.0\n",
        "epoch,loss\n1.0,x\n",
        "epoch\n1,2\n",
        "loss\n1.0\n",
        "epoch\n2.0\n",
        "epoch\nnan\n",
    ],
)
def test_a_damaged_history(table, tmp_path):
    (tmp_path / "history.csv").write_text(table)
    with pytest.raises(
        DamagedRunError, match=r"history.csv must be as keras-m3s wrote it. Received"
    ):
        RunDirectory(tmp_path).read_history()


def test_a_damaged_model(tmp_path):
    run = RunDirectory(tmp_path)
    run.start(Experiment.of("d", "misa", "orig"))
    run.best.write_bytes(b"PK\x03\x04nothing")
    for use in (RunModel, lambda run: retest(run, None)):
        with pytest.raises(
            DamagedRunError, match=r"best.keras must be as keras-m3s wrote it. Received: .* delete"
        ):
            use(run)
