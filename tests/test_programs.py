"""Runs that differ in their seed only share what JAX compiled, and no number changes."""

import functools

import keras
import pytest

from keras_m3s.experiments.programs import TRAINING, Programs
from keras_m3s.models.base import BaseModel
from keras_m3s.study import worker
from keras_m3s.study.plan import Condition, PlannedRun
from keras_m3s.study.workspace import DONE, Workspace, load_splits
from tests.small import small

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


def test_only_runs_that_differ_in_their_seed_share():
    programs = Programs()
    first = small("misa", "spl-trn")
    experiments = (first, first.replace(seed=1), first.replace(epochs=9), first)
    models = [keras.Sequential([keras.layers.Dense(1)]) for _ in experiments]
    for model, experiment in zip(models, experiments, strict=True):
        programs.share(model, experiment, TRAINING)
        model.train_function = model.train_function or object()
    traced = [model.train_function for model in models]
    # On other backends a program holds its model's variables.
    assert (traced[1] is traced[0]) == JAX
    assert len({traced[0], traced[2], traced[3]}) == 3
