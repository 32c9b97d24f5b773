"""Runs that differ in their seed only share what JAX compiled, and no number changes."""

import functools

import keras
import pytest

from keras_m3s.experiments.programs import Programs
from keras_m3s.experiments.run import run_experiment
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.models.base import BaseModel
from keras_m3s.study import worker
from keras_m3s.study.plan import Condition, PlannedRun
from keras_m3s.study.workspace import DONE, Workspace, load_splits
from tests.small import fitting, small

JAX = keras.backend.backend() == "jax"
RETESTS = (Condition((0.6, 0.8)), Condition((0.5, 0.5), "frames"))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def splits(data_dir):
    return load_splits("synthetic_msa/tiny", Workspace("", data_dir, None, ""))


@pytest.fixture
def traced(monkeypatch):
    """Calls of a base model's code."""
    found = []
    call = BaseModel.call

    @functools.wraps(call)
    def counted(*arguments, **settings):
        found.append(1)
        return call(*arguments, **settings)

    monkeypatch.setattr(BaseModel, "call", counted)
    return found


def files(run):
    names = ("history.csv", "predictions.csv", "metrics.json")
    found = sorted(run.path.glob("retest-*.json"))
    return [(run.path / name).read_text() for name in names] + [one.read_text() for one in found]


# A stage of its own in each epoch; several passes in a step.
@pytest.mark.parametrize(("model", "method"), [("mmim", "spl-trn"), ("misa", "m3s")])
@pytest.mark.skipif(not JAX, reason="other backends' programs hold their model's variables")
def test_a_second_seed_runs_the_programs_of_the_first(
    model, method, data_dir, splits, tmp_path, traced
):
    first, second = (
        PlannedRun(small(model, method, epochs=2, seed=seed), RETESTS) for seed in (0, 1)
    )
    counts, results = [], []
    for name, planned in (("alone", (second,)), ("study", (first, second))):
        workspace = Workspace(str(tmp_path / name), data_dir, None, "jax")
        for one in planned:
            before = len(traced)
            outcomes = worker.run_group([one], workspace, threads=1, wait=False)
            assert [outcome.status for outcome in outcomes] == [DONE], outcomes
            counts.append(len(traced) - before)
        results.append(files(workspace.run_directory(second)))
    alone, first_of_study, second_of_study = counts
    assert first_of_study == alone
    assert second_of_study <= alone / 2, counts
    assert results[0] == results[1]


@pytest.mark.skipif(not JAX, reason="other backends' programs hold their model's variables")
def test_another_experiment_has_programs_of_its_own(splits, tmp_path, traced):
    programs, counts = Programs(), []
    for number, rate in enumerate((1e-3, 1e-3, 1e-4)):
        before = len(traced)
        experiment = small("misa", "spl-trn", epochs=1, seed=number, learning_rate=rate)
        run = RunDirectory(tmp_path / str(number))
        run_experiment(experiment, run, fitting(splits, "misa"), programs=programs)
        counts.append(len(traced) - before)
    assert counts[1] < counts[0] == counts[2]


@pytest.mark.skipif(JAX, reason="JAX shares them")
def test_other_backends_share_nothing():
    programs = Programs()
    models = [keras.Sequential([keras.layers.Dense(1)]) for _ in range(2)]
    for model in models:
        programs.share(model, small("misa", "spl-trn"), "training")
    assert models[1].train_function is None
