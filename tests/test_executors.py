"""Studies on each executor: runs that fail, are finished, are locked, or are stopped."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import keras
import pytest

from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.study import executors, worker
from keras_m3s.study.executors import execute
from keras_m3s.study.plan import Condition, PlannedRun
from keras_m3s.study.workspace import (
    BUSY,
    DONE,
    FAILED,
    REUSED,
    STOPPED,
    Workspace,
    load_splits,
    manual_dir_of,
    run_states,
)
from keras_m3s.utils import termination
from tests.small import small
from tfds_builders import testing

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    load_splits("synthetic_msa/tiny", Workspace("", str(folder), None, ""))
    return str(folder)


@pytest.fixture
def workspace(tmp_path, data_dir):
    return Workspace(str(tmp_path / "runs"), data_dir, None, keras.backend.backend())


def planned(**overrides):
    return PlannedRun(small("self_mm", "orig", **{"epochs": 1, **overrides}))


@pytest.fixture(scope="module")
def made_here(tmp_path_factory, data_dir):
    """Metrics of `planned()`, run in this process."""
    runs = str(tmp_path_factory.mktemp("here"))
    workspace = Workspace(runs, data_dir, None, keras.backend.backend())
    execute([planned()], workspace, jobs=1)
    return workspace.run_directory(planned()).read_json("metrics.json")


def test_a_failing_run_is_reported_and_the_others_go_on(workspace):
    """In this process; the second has an argument that its model refuses."""
    retested = PlannedRun(planned(seed=1).experiment, (Condition((0.6, 0.8)),))
    all_three = [planned(), PlannedRun(small("misa", model_arguments={"hidden_size": 7})), retested]
    outcomes = execute(all_three, workspace, jobs=1)
    assert [o.status for o in outcomes] == [DONE, FAILED, DONE]
    assert "must be a positive multiple of `transformer_heads`" in outcomes[1].message
    broken = workspace.run_directory(all_three[1])
    assert json.loads((broken.path / "error.json").read_text()) == {"error": outcomes[1].message}
    retest = workspace.run_directory(retested).read_json("retest-0.60-0.80-span.json")
    assert retest["test_missing_rate"] == [0.6, 0.8] and retest["pattern"] == "span"
    assert retest["metrics"] != workspace.run_directory(retested).read_json("metrics.json")
    assert "test_loss" in workspace.run_directory(retested).read_history()[0], "for curves"
    assert [s for s, _ in run_states(all_three, workspace).values()] == [DONE, FAILED, DONE]
    assert [e for _, e in run_states(all_three, workspace).values()] == [1, 0, 1]

    before = (workspace.run_directory(retested).path / "metrics.json").stat().st_mtime_ns
    assert [o.status for o in execute(all_three, workspace, jobs=1)] == [REUSED, FAILED, REUSED]
    assert (workspace.run_directory(retested).path / "metrics.json").stat().st_mtime_ns == before


def test_a_run_that_is_locked_is_retried_last(workspace):
    first, second = planned(), planned(seed=1)
    statuses = []
    with workspace.run_directory(first).locked():
        (outcome,) = worker.run_group([first], workspace, threads=1, wait=False)
        assert outcome.status == BUSY and "Another one is at" in outcome.message
        waiting = threading.Thread(
            target=lambda: statuses.extend(
                o.status for o in execute([first, second], workspace, jobs=1)
            )
        )
        waiting.start()
        deadline = time.monotonic() + 60
        while not workspace.run_directory(second).complete and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (
            workspace.run_directory(second).complete and not workspace.run_directory(first).complete
        )
    waiting.join(60)
    assert statuses == [DONE, DONE]


def test_a_feature_file_goes_by_its_path(tmp_path, workspace):
    path = testing.write(tmp_path / "my.pkl", testing.mmsa_content())
    of_file = PlannedRun(dataclasses.replace(small("misa", "orig", epochs=1), dataset=str(path)))
    (outcome,) = execute([of_file], workspace, jobs=1)
    assert outcome.status == DONE, outcome.message


def test_finished_runs_of_a_file_that_has_changed_are_refused(tmp_path, workspace):
    path = testing.write(tmp_path / "my.pkl", testing.mmsa_content())
    of_file = PlannedRun(dataclasses.replace(small("misa", "orig", epochs=1), dataset=str(path)))
    assert [o.status for o in execute([of_file], workspace, jobs=1)] == [DONE]
    assert [o.status for o in execute([of_file], workspace, jobs=1)] == [REUSED]
    before = workspace.run_directory(of_file).read_json("metrics.json")
    testing.write(path, testing.mmsa_content(seed=1))
    (outcome,) = execute([of_file], workspace, jobs=1)
    assert outcome.status == FAILED and "data of that name has changed" in outcome.message
    assert workspace.run_directory(of_file).read_json("metrics.json") == before


def test_the_environment_is_restored(workspace, monkeypatch):
    """After a run in this process, also if it fails."""
    seen = []

    def fail(*_):
        seen.append(dict(os.environ))
        raise FloatingPointError("made to fail")

    monkeypatch.setattr(worker, "load_splits", fail)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("TF_NUM_INTEROP_THREADS", raising=False)
    before = dict(os.environ)
    (outcome,) = execute([planned()], workspace, jobs=1)
    # With the line that raised it, as of any code that is not ours.
    assert outcome.message.endswith(": FloatingPointError: made to fail")
    assert seen[0]["TF_NUM_INTEROP_THREADS"] == "1" and seen[0]["OMP_NUM_THREADS"] != "3"
    assert dict(os.environ) == before


def test_another_backend_than_that_of_this_process_is_refused(workspace):
    other = dataclasses.replace(workspace, backend="another")
    message = "must be the one Keras runs on in this process. Received: backend='another', and"
    with pytest.raises(ValueError, match=message):
        execute([planned()], other, jobs=1)
    assert not workspace.run_directory(planned()).path.exists(), "no run is marked as failed"


def test_finished_runs_are_not_called_unstarted_after_a_stop(workspace, monkeypatch):
    """The first is finished before, the second when the stop comes, the third has a checkpoint."""
    runs = [planned(seed=seed) for seed in range(4)]

    def finish(one):
        workspace.run_directory(one).write_json("metrics.json", {"mae": 1.0})

    def stopped(*_):
        finish(runs[1])
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("a worker ended in some way")

    finish(runs[0])
    with workspace.run_directory(runs[2]).writing("last-0001.keras"):
        pass
    monkeypatch.setattr("joblib.Parallel.__call__", stopped)
    with termination.graceful():
        outcomes = execute(runs, workspace, jobs=1)
        (later,) = worker.run_group([runs[0]], workspace, threads=1, wait=False)
    assert [o.status for o in outcomes] == [REUSED, DONE, STOPPED, STOPPED]
    assert "resumes it from its newest checkpoint" in outcomes[2].message
    assert outcomes[3].message == "Not started before the stop."
    assert later.status == REUSED


def test_a_stopped_study_can_be_executed_again(workspace, monkeypatch):
    """In this process, without a graceful scope of the caller."""
    runs = [planned(), planned(seed=1)]
    stops = [True, False]

    def train_and_test(group, workspace, wait):
        for one in group:
            workspace.run_directory(one).start(one.experiment)
            workspace.run_directory(one).write_json("metrics.json", {"mae": 1.0})
        if group and stops.pop(0):
            os.kill(os.getpid(), signal.SIGTERM)
        return [None] * len(group)

    monkeypatch.setattr(worker, "_train_and_test", train_and_test)
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert [o.status for o in execute(runs, workspace, jobs=1)] == [DONE, STOPPED]
        assert [o.status for o in execute(runs, workspace, jobs=1)] == [REUSED, DONE]
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_an_unknown_executor(workspace):
    with pytest.raises(ValueError, match="`executor` must be one of .*Received: 'slurm'"):
        execute([], workspace, "slurm")


def test_workers_share_cores_and_compilation_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    workspace = Workspace(str(tmp_path), None, None, "torch")
    one = worker.environment_variables(workspace, 1)
    assert one["OMP_NUM_THREADS"] == one["TF_NUM_INTRAOP_THREADS"] == "1"
    assert worker.environment_variables(workspace, 8)["MKL_NUM_THREADS"] == "8"
    assert one["KERAS_BACKEND"] == "torch"
    assert one["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / ".compiled")
    assert one["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] == "0"  # small models compile faster
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    assert worker.environment_variables(workspace, 1)["JAX_COMPILATION_CACHE_DIR"] == "/elsewhere"


@pytest.mark.parametrize("jobs, arenas", [(4, "1"), (1, None)])
def test_a_worker_of_one_thread_has_one_malloc_arena(monkeypatch, jobs, arenas):
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    with executors._joblib_backend("local", jobs):
        assert os.environ.get("MALLOC_ARENA_MAX") == arenas
    assert "MALLOC_ARENA_MAX" not in os.environ
    monkeypatch.setenv("MALLOC_ARENA_MAX", "8")
    with executors._joblib_backend("local", jobs):
        assert os.environ["MALLOC_ARENA_MAX"] == "8"
    assert os.environ["MALLOC_ARENA_MAX"] == "8"


def test_source_folder_of_a_data_set(tmp_path):
    (tmp_path / "cmu_mosi").mkdir()
    assert manual_dir_of("cmu_mosi", str(tmp_path)) == str(tmp_path / "cmu_mosi")
    assert manual_dir_of("ch_sims", str(tmp_path)) == str(tmp_path)
    assert manual_dir_of("ch_sims", None) is None


def test_runs_that_differ_only_in_their_seed_are_one_group():
    retested = [
        PlannedRun(planned(seed=seed).experiment, (Condition((0.6, 0.8)),)) for seed in range(3)
    ]
    several = [planned(seed=0), *retested, planned(seed=1), planned(seed=1, epochs=2)]
    a, b, c, d, e, f = several
    assert executors._group_seeds(several, 1) == [(a,), (e,), (b,), (c,), (d,), (f,)]
    assert executors._group_seeds(several, 2) == [(a, e), (b, c), (d,), (f,)]


@pytest.mark.parametrize("printed, replicas", [("True\n", 5), ("False\n", 1), ("", 1)])
def test_all_seeds_are_replicas_on_an_accelerator(monkeypatch, workspace, printed, replicas):
    def run(command, env, **_):
        assert "runs_on_accelerator" in command[-1] and env["KERAS_BACKEND"] == "jax"
        return subprocess.CompletedProcess(command, 0, printed, "")

    monkeypatch.setattr(subprocess, "run", run)
    workspace = dataclasses.replace(workspace, backend="jax")
    assert executors.default_replicas(workspace, 5) == replicas
    assert executors.default_replicas(workspace, 1) == 1


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "ray", "dask"])
def test_two_workers(workspace, made_here, executor):
    """Runs in other processes give the numbers of this one; one of them fails."""
    if executor != "local":
        pytest.importorskip({"ray": "ray", "dask": "distributed"}[executor])
    runs = [planned(), planned(seed=1)]
    taken = workspace.run_directory(runs[1])
    taken.start(planned(seed=2).experiment)
    taken.write_json("metrics.json", {})
    try:
        outcomes = execute(runs, workspace, executor, jobs=2)
    finally:
        if executor == "ray":
            import ray

            ray.shutdown()
    assert [o.status for o in outcomes] == [DONE, FAILED]
    assert outcomes[1].message.startswith("ChangedExperimentError: ")
    # Sums of another number of threads may end in other digits.
    assert workspace.run_directory(runs[0]).read_json("metrics.json") == pytest.approx(
        made_here, rel=1e-5
    )


STUDY = """
import sys
from keras_m3s.study import executors
from keras_m3s.study.workspace import Workspace
from keras_m3s.study.plan import PlannedRun
from tests.small import small
if __name__ == "__main__":
    runs, data_dir, backend = sys.argv[1:]
    workspace = Workspace(runs, data_dir, None, backend)
    several = [PlannedRun(small("self_mm", "orig", epochs=2000, seed=seed)) for seed in range(3)]
    done = executors.execute(several, workspace, jobs=2)
    print([o.status for o in done])
    print(done[0].message, flush=True)
    taken = [PlannedRun(small("self_mm", "orig", epochs=1, seed=seed)) for seed in range(2)]
    for one in taken:
        run = workspace.run_directory(one)
        run.start(several[0].experiment)
        run.write_json("metrics.json", {})
    print([o.status for o in executors.execute(taken, workspace, jobs=2)])
"""


@pytest.mark.slow
def test_sigterm_reaches_the_workers(workspace):
    def planned_long(seed):
        return RunDirectory(
            workspace.run_directory(
                PlannedRun(small("self_mm", "orig", epochs=2000, seed=seed))
            ).path
        )

    arguments = [workspace.runs, workspace.data_dir, workspace.backend]
    main = subprocess.Popen(
        [sys.executable, "-c", STUDY, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 120
        while not all((planned_long(s).path / "best.keras").exists() for s in (0, 1)):
            assert time.monotonic() < deadline and main.poll() is None
            time.sleep(0.2)
        os.kill(main.pid, signal.SIGTERM)
        printed, _ = main.communicate(timeout=120)
    finally:
        main.kill()
    statuses, message, again = printed.strip().splitlines()[-3:]
    assert statuses == str([STOPPED] * 3) and "epochs of" in message
    assert again == str([FAILED] * 2), "by workers that were not asked to stop"
    assert planned_long(0).checkpoints and planned_long(1).checkpoints
