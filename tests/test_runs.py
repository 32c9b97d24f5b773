"""Run directories: nothing half-written, nothing mixed up."""

import dataclasses
import importlib.metadata

import numpy as np
import pytest

from keras_m3s import data
from keras_m3s.data.streaming import StreamedSplit
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.environment import add_data, check_unchanged, environment, record
from keras_m3s.experiments.evaluation import retest
from keras_m3s.experiments.run_directory import (
    ChangedExperimentError,
    DamagedRunError,
    RunDirectory,
)
from keras_m3s.inference.predictions import RunModel
from keras_m3s.meta.consistency import Consistency
from keras_m3s.registry import methods

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
            DamagedRunError,
            match=r"(?s)experiment.json.* must .*Received.*(delete the directory|none of)",
        ):
            read()


def split(name="train", fill=0.0):
    features = {"audio": np.full((2, 3, 1), fill, "float32")}
    return data.Split(name, features, np.zeros(2, "float32"), ["a", "b"])


def begun(run, epochs=1):
    run.write_json("experiment.json", Experiment.of("d", "misa", "orig").to_dict())
    (run.path / f"last-{epochs:04d}.keras").write_text("a checkpoint")


def test_a_run_that_resumes_keeps_its_data_and_backend(tmp_path):
    run, splits = RunDirectory(tmp_path), {"train": split(), "valid": split("valid")}
    record(run, "jax", splits)
    begun(run)
    kept = (tmp_path / "environment.json").read_bytes()
    record(run, "jax", {**splits, "valid": split("valid")})
    for check in (lambda new: record(run, "jax", new), lambda new: check_unchanged(run, new)):
        with pytest.raises(ChangedExperimentError, match=r"must keep its data. Received: .*\(valid: \w{8} then, \w{8} now;"):  # fmt: skip
            check({**splits, "valid": split("valid", 1.0)})
    with pytest.raises(ChangedExperimentError, match="must be resumed on the backend .*begun with jax, now torch. Set KERAS_BACKEND=jax"):  # fmt: skip
        record(run, "torch", splits)
    assert (tmp_path / "environment.json").read_bytes() == kept


def test_a_run_that_starts_over_takes_the_data_there_is(tmp_path):
    run = RunDirectory(tmp_path)
    record(run, "jax", {"train": split()})
    record(run, "torch", {"train": split(fill=1.0)})
    values = run.read_json("environment.json")
    assert values["backend"] == "torch"
    assert values["data"] == {"train": split(fill=1.0).fingerprint()}


def test_a_split_that_a_run_did_not_have_is_added(tmp_path):
    run = RunDirectory(tmp_path)
    check_unchanged(run, {"test": split("test")})  # without environment.json nothing is known
    record(run, "jax", {"train": split()})
    check_unchanged(run, {"test": split("test")})
    add_data(run, {"test": split("test")})
    with pytest.raises(ChangedExperimentError, match=r"\(test: "):
        add_data(run, {"test": split("test", 1.0)})
    assert set(run.read_json("environment.json")["data"]) == {"train", "test"}


def test_versions_that_changed_are_noted(tmp_path, monkeypatch):
    run, splits = RunDirectory(tmp_path), {"train": split()}
    record(run, "jax", splits)
    first = run.read_json("environment.json")
    begun(run, 3)
    record(run, "jax", splits)
    assert run.read_json("environment.json") == first
    usual = importlib.metadata.version
    monkeypatch.setattr("importlib.metadata.version", lambda p: "9.9" if p == "keras" else usual(p))
    with pytest.warns(UserWarning, match=f"resumes with other versions: keras {usual('keras')} then, 9.9 now"):  # fmt: skip
        record(run, "jax", splits)
    noted = [{"epochs": 3, "packages": {"keras": "9.9"}}]
    for _ in range(2):  # once for each change
        assert run.read_json("environment.json") == {**first, "resumed": noted}
        record(run, "jax", splits)


def test_a_method_whose_card_says_something_else(tmp_path, monkeypatch):
    run, splits = RunDirectory(tmp_path), {"train": split()}
    run.start(Experiment.of("d", "misa", "orig"))
    record(run, "jax", splits)
    begun(run)
    card = methods.CARDS["orig"]
    for same in (card, dataclasses.replace(card, title="as tables print it")):
        monkeypatch.setitem(methods.CARDS, "orig", same)
        check_unchanged(run, splits)
        record(run, "jax", splits)
    for options in ({"consistency": 2.0}, {"consistency": Consistency(1.0)}):
        other = dataclasses.replace(card, options=options)
        monkeypatch.setitem(methods.CARDS, "orig", other)
        for use in (lambda: record(run, "jax", splits), lambda: check_unchanged(run, splits)):
            with pytest.raises(
                ChangedExperimentError, match=r"'orig' was .*'options': {}, .*and is .*consistency"
            ):
                use()
    values = run.read_json("environment.json")
    run.write_json("environment.json", {n: v for n, v in values.items() if n != "method"})
    check_unchanged(run, splits)  # a run of version 0.1.0


def test_data_on_disk_has_fingerprints_of_its_own(tmp_path):
    """They do not compare with those of the same data in memory, nor is that a change."""
    streamed = StreamedSplit.__new__(StreamedSplit)
    digest = ["a" * 64]
    streamed.fingerprint = lambda: digest[0]
    run = RunDirectory(tmp_path)
    record(run, "jax", {"train": streamed})
    begun(run)
    for use in (split(), streamed):
        record(run, "jax", {"train": use})
        check_unchanged(run, {"train": use})
    digest[0] = "b" * 64
    with pytest.raises(ChangedExperimentError, match=r"\(train: aaaaaaaa then, bbbbbbbb now"):
        check_unchanged(run, {"train": streamed})


@pytest.mark.parametrize("text", ["{", "[1]", '{"data": ["train"]}', '{"packages": null}'])
def test_a_damaged_environment(text, tmp_path):
    run = RunDirectory(tmp_path)
    begun(run)
    (tmp_path / "environment.json").write_text(text)
    for use in (lambda: record(run, "jax", {"train": split()}), lambda: check_unchanged(run, {})):
        with pytest.raises(DamagedRunError, match="environment.json must be"):
            use()


def test_rates_have_the_decimals_they_need(tmp_path):
    """Names of version 0.1.0 stay; its file of .125 went by the name of .12."""
    run = RunDirectory(tmp_path)
    names = [run.retest_file((low, 0.5), "span").name for low in (0.4, 0.12, 0.125, 1 / 3, 0.1 * 3)]
    assert names == [f"retest-{low}-0.50-span.json" for low in ("0.40", "0.12", "0.125", "0.333333333", "0.30")]  # fmt: skip
    assert not run.retested((0.125, 0.5), "span")
    run.write_json(run.retest_file((0.12, 0.5), "span").name, {"test_missing_rate": [0.125, 0.5]})
    assert not run.retested((0.12, 0.5), "span")
    run.write_json(run.retest_file((0.12, 0.5), "span").name, {"test_missing_rate": [0.12, 0.5]})
    assert run.retested((0.12, 0.5), "span") and not run.retested((0.12, 0.5), "frames")
    run.write_json(run.retest_file((0.12, 0.5), "span").name, {"test_missing_rate": None})
    assert not run.retested((0.12, 0.5), "span")


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
