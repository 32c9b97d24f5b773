"""Many runs: here, on Ray and on Dask; failing, there already, at work elsewhere."""

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
from keras_m3s.study import executors
from keras_m3s.study.executors import BUSY, DONE, FAILED, REUSED, STOPPED, Place, execute
from keras_m3s.study.plan import Condition, Planned
from tests.small import small

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    executors.load("synthetic_msa/tiny", Place("", str(folder), None, ""))
    return str(folder)


@pytest.fixture
def place(tmp_path, data_dir):
    return Place(str(tmp_path / "runs"), data_dir, None, keras.backend.backend())


def planned(**overrides):
    return Planned(small("self_mm", "orig", **{"epochs": 1, **overrides}))


@pytest.fixture(scope="module")
def made_here(tmp_path_factory, data_dir):
    """The numbers of `planned()` in this process."""
    runs = str(tmp_path_factory.mktemp("here"))
    place = Place(runs, data_dir, None, keras.backend.backend())
    execute([planned()], place, jobs=1)
    return place.run(planned()).read_json("metrics.json")


def test_a_failing_run_is_told_and_the_others_go_on(place):
    """In this process: the first has no data, the last is as good as any."""
    retested = Planned(planned(seed=1).experiment, (Condition((0.6, 0.8)),))
    all_three = [planned(), Planned(small("mmin", epochs=1)), retested]
    outcomes = execute(all_three, place, jobs=1)
    assert [o.status for o in outcomes] == [DONE, FAILED, DONE]
    assert "MMIN classifies: labels must be ints" in outcomes[1].message
    broken = place.run(all_three[1])
    assert json.loads((broken.path / "error.json").read_text()) == {"error": outcomes[1].message}
    retest = place.run(retested).read_json("retest-0.60-0.80-span.json")
    assert retest["test_missing_rate"] == [0.6, 0.8] and retest["pattern"] == "span"
    assert retest["metrics"] != place.run(retested).read_json("metrics.json")
    assert "test_loss" in place.run(retested).read_history()[0], "for curves"
    assert [s for s, _ in executors.states(all_three, place).values()] == [DONE, FAILED, DONE]
    assert [e for _, e in executors.states(all_three, place).values()] == [1, 0, 1]

    before = (place.run(retested).path / "metrics.json").stat().st_mtime_ns
    assert [o.status for o in execute(all_three, place, jobs=1)] == [REUSED, FAILED, REUSED]
    assert (place.run(retested).path / "metrics.json").stat().st_mtime_ns == before


def test_a_run_that_another_process_is_at_is_waited_for_at_the_end(place):
    first, second = planned(), planned(seed=1)
    statuses = []
    with place.run(first).locked():
        (outcome,) = executors.work([first], place, threads=1, wait=False)
        assert outcome.status == BUSY and "Another one is at" in outcome.message
        waiting = threading.Thread(
            target=lambda: statuses.extend(
                o.status for o in execute([first, second], place, jobs=1)
            )
        )
        waiting.start()
        deadline = time.monotonic() + 60
        while not place.run(second).complete and time.monotonic() < deadline:
            time.sleep(0.1)
        assert place.run(second).complete and not place.run(first).complete
    waiting.join(60)
    assert statuses == [DONE, DONE]


def test_an_executor_that_is_none(place):
    with pytest.raises(ValueError, match="`executor` must be one of .*Received: 'slurm'"):
        execute([], place, "slurm")


def test_workers_share_the_cores_and_what_was_compiled(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    place = Place(str(tmp_path), None, None, "torch")
    one = executors._worker_environment(place, 1)
    assert one["OMP_NUM_THREADS"] == one["TF_NUM_INTRAOP_THREADS"] == "1"
    assert executors._worker_environment(place, 8)["MKL_NUM_THREADS"] == "8"
    assert one["KERAS_BACKEND"] == "torch"
    assert one["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / ".compiled")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    assert executors._worker_environment(place, 1)["JAX_COMPILATION_CACHE_DIR"] == "/elsewhere"


@pytest.mark.parametrize("jobs, heaps", [(4, "1"), (1, None)])
def test_a_worker_of_one_thread_has_one_heap(monkeypatch, jobs, heaps):
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    with executors._backend("local", jobs):
        assert os.environ.get("MALLOC_ARENA_MAX") == heaps
    assert "MALLOC_ARENA_MAX" not in os.environ
    monkeypatch.setenv("MALLOC_ARENA_MAX", "8")
    with executors._backend("local", jobs):
        assert os.environ["MALLOC_ARENA_MAX"] == "8"
    assert os.environ["MALLOC_ARENA_MAX"] == "8"


def test_own_folder_of_a_data_set(tmp_path):
    (tmp_path / "cmu_mosi").mkdir()
    assert executors.manual_dir("cmu_mosi", str(tmp_path)) == str(tmp_path / "cmu_mosi")
    assert executors.manual_dir("ch_sims", str(tmp_path)) == str(tmp_path)
    assert executors.manual_dir("ch_sims", None) is None


def test_runs_that_differ_in_their_seed_only_are_one_piece_of_work():
    retested = [
        Planned(planned(seed=seed).experiment, (Condition((0.6, 0.8)),)) for seed in range(3)
    ]
    several = [planned(seed=0), *retested, planned(seed=1), planned(seed=1, epochs=2)]
    a, b, c, d, e, f = several
    assert executors._groups(several, 1) == [(a,), (e,), (b,), (c,), (d,), (f,)]
    assert executors._groups(several, 2) == [(a, e), (b, c), (d,), (f,)]


@pytest.mark.parametrize("said, replicas", [("True\n", 5), ("False\n", 1), ("", 1)])
def test_all_seeds_at_once_where_a_process_finds_that_it_pays(monkeypatch, place, said, replicas):
    def asked(command, env, **_):
        assert "worth_it" in command[-1] and env["KERAS_BACKEND"] == "jax"
        return subprocess.CompletedProcess(command, 0, said, "")

    monkeypatch.setattr(subprocess, "run", asked)
    place = dataclasses.replace(place, backend="jax")
    assert executors.default_replicas(place, 5) == replicas
    assert executors.default_replicas(place, 1) == 1


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "ray", "dask"])
def test_two_workers(place, made_here, executor):
    """Other processes do the runs, and their numbers are those of this one; one fails there."""
    if executor != "local":
        pytest.importorskip({"ray": "ray", "dask": "distributed"}[executor])
    runs = [planned(), planned(seed=1)]
    taken = place.run(runs[1])
    taken.start(planned(seed=2).experiment)
    taken.write_json("metrics.json", {})
    try:
        outcomes = execute(runs, place, executor, jobs=2)
    finally:
        if executor == "ray":
            import ray

            ray.shutdown()
    assert [o.status for o in outcomes] == [DONE, FAILED]
    assert outcomes[1].message.startswith("ChangedExperimentError: ")
    # Sums of another number of threads may end in other digits.
    assert place.run(runs[0]).read_json("metrics.json") == pytest.approx(made_here, rel=1e-5)


STUDY = """
import sys
from keras_m3s.study import executors
from keras_m3s.utils import termination
from keras_m3s.study.executors import Place
from keras_m3s.study.plan import Planned
from tests.small import small
if __name__ == "__main__":
    termination.install(children=True)
    runs, data_dir, backend = sys.argv[1:]
    several = [Planned(small("self_mm", "orig", epochs=2000, seed=seed)) for seed in range(3)]
    done = executors.execute(several, Place(runs, data_dir, None, backend), jobs=2)
    print([o.status for o in done])
    print(done[0].message)
"""


@pytest.mark.slow
def test_sigterm_reaches_the_workers(place):
    def planned_long(seed):
        return RunDirectory(
            place.run(Planned(small("self_mm", "orig", epochs=2000, seed=seed))).path
        )

    arguments = [place.runs, place.data_dir, place.backend]
    main = subprocess.Popen(
        [sys.executable, "-c", STUDY, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 120
        while not all((planned_long(s).path / "best.keras").exists() for s in (0, 1)):
            assert time.monotonic() < deadline and main.poll() is None
            time.sleep(0.2)
        os.kill(main.pid, signal.SIGTERM)
        printed, _ = main.communicate(timeout=60)
    finally:
        main.kill()
    statuses, message = printed.strip().splitlines()[-2:]
    assert statuses == str([STOPPED] * 3) and "epochs of" in message
    assert planned_long(0).checkpoints and planned_long(1).checkpoints
