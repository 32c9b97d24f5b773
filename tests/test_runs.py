"""Run directories: nothing half-written, nothing mixed up."""

import pytest

from keras_m3s.experiment import Experiment
from keras_m3s.runs import ChangedExperimentError, RunDirectory, environment

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
