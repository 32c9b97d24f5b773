"""Many runs at once, through joblib: in processes here, or on a Ray or Dask cluster.

A run is trained in one process with a share of the cores. What it leaves is in its directory, which
all workers must reach under the same path; so progress and failures are read there, whatever the
executor is. A run that another study is at is left for the end, and waited for then.

Workers of a cluster are full of the cluster's own threads, and these draw from Python's random
numbers, on which initial weights rest. So there each run has a process of its own.

With `Place.replicas` above 1, runs that differ in their seed only are one piece of work: up to that
many are trained as one program, see `keras_m3s.experiments.replicated_run`. That pays where a model
leaves most of a GPU idle.
"""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from keras_m3s.experiments.run_directory import RunBusyError, RunDirectory
from keras_m3s.study.plan import Planned
from keras_m3s.utils import backend, termination

EXECUTORS: tuple[str, ...] = ("local", "ray", "dask")

DONE, REUSED, FAILED, BUSY, STOPPED = "done", "reused", "failed", "busy", "stopped"

NOT_BEGUN = "Not begun before the stop."

MEMORY = 2.5e9
"""Bytes that a worker may need: a framework, a data set, a model without a BERT."""

DEATHS = 3
"""Times that workers may die (of lack of memory, say) before the rest is given up."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where workers find and leave things.

    Attributes:
        runs: Folder of run directories.
        data_dir: Folder of prepared data sets, or `None` for the default.
        manual_dir: Folder of the files data sets are made from, or `None`.
        backend: Keras backend of the runs.
        replicas: Runs that differ in their seed only to train as one program, at most.
        follow: Whether each epoch is tested too, for curves.
        process: Number of the process that plans, where SIGTERM is not for a worker to handle.
    """

    runs: str
    data_dir: str | None
    manual_dir: str | None
    backend: str
    replicas: int = 1
    follow: bool = True
    process: int = dataclasses.field(default_factory=os.getpid)

    def run(self, planned: Planned) -> RunDirectory:
        return RunDirectory(pathlib.Path(self.runs) / planned.experiment.key)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        key: Of its experiment.
        status: `DONE`, `REUSED`, `FAILED`, `BUSY` or `STOPPED`.
        message: What went wrong, where something did.
    """

    key: str
    status: str
    message: str = ""


def default_jobs(runs: int) -> int:
    """As many runs at once as there are cores, and memory for."""
    import joblib
    import psutil

    fitting = int(psutil.virtual_memory().available // MEMORY)
    return max(1, min(joblib.cpu_count(), fitting, runs))


def default_replicas(place: Place, seeds: int) -> int:
    """All seeds where an accelerator trains them faster as one program, else 1.

    A process of its own finds out, for to ask is to take hold of the accelerator.
    """
    if seeds == 1:
        return 1
    code = "from keras_m3s.experiments.replicas import worth_it; print(worth_it())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | _worker_environment(place, 1),
        check=False,
    )
    return seeds if done.stdout.split()[-1:] == ["True"] else 1


def execute(
    planned: Sequence[Planned], place: Place, executor: str = "local", jobs: int | None = None
) -> list[Outcome]:
    """Makes all runs, in their order as far as several at once have one.

    Args:
        planned: The runs.
        place: Where things are.
        executor: One of `EXECUTORS`. Ray takes the cluster that `RAY_ADDRESS` names, Dask that of
            `DASK_SCHEDULER_ADDRESS`; without these they start a local one of `jobs` workers.
        jobs: Runs at once; `None` for what this machine holds.

    Returns:
        An outcome a run, in the order of `planned`.

    Raises:
        ValueError: If there is no such executor.
        ImportError: If its package is not installed.
    """
    if executor not in EXECUTORS:
        raise ValueError(f"`executor` must be one of {EXECUTORS}. Received: {executor!r}.")
    jobs = jobs or default_jobs(len(planned))
    outcomes: dict[str, Outcome] = {}
    task = work if executor == "local" else work_apart
    with _backend(executor, jobs):
        for wait in (False, True):
            left = [
                p
                for p in planned
                if (known := outcomes.get(p.experiment.key)) is None or known.status == BUSY
            ]
            for outcome in _all(task, _groups(left, place.replicas), place, jobs, wait):
                outcomes[outcome.key] = outcome
    keys = [p.experiment.key for p in planned]
    return [outcomes.get(key, Outcome(key, STOPPED, NOT_BEGUN)) for key in keys]


def _groups(planned: Sequence[Planned], most: int) -> list[tuple[Planned, ...]]:
    """The runs in their order, those that differ in their seed only side by side."""
    alike: dict[Any, list[Planned]] = {}
    for one in planned:
        alike.setdefault((one.experiment.replace(seed=0).key, one.retests), []).append(one)
    return [
        tuple(group[start : start + most])
        for group in alike.values()
        for start in range(0, len(group), most)
    ]


def _all(
    task: Callable[..., list[Outcome]],
    groups: Sequence[tuple[Planned, ...]],
    place: Place,
    jobs: int,
    wait: bool,
) -> list[Outcome]:
    """One pass over runs; begun again where a worker died, for runs go on where they were."""
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    threads = max(1, joblib.cpu_count() // jobs)

    def tasks() -> Iterator[Any]:
        for group in groups:
            if termination.asked():
                return
            yield joblib.delayed(task)(group, place, threads, wait)

    for _ in range(DEATHS):
        try:
            # One task at a time: they are long, and none shall wait behind another.
            parallel = joblib.Parallel(n_jobs=jobs, batch_size=1, pre_dispatch=jobs)
            return [outcome for outcomes in parallel(tasks()) for outcome in outcomes]
        except Exception as error:
            if termination.asked():  # then workers may end in any way
                return []
            if not isinstance(error, TerminatedWorkerError):
                raise
            message = f"Workers died {DEATHS} times, at last: {error}"
    return [
        Outcome(p.experiment.key, REUSED)
        if place.run(p).complete
        else Outcome(p.experiment.key, FAILED, message)
        for group in groups
        for p in group
    ]


@contextlib.contextmanager
def _backend(executor: str, jobs: int) -> Iterator[None]:
    import joblib

    if executor == "local":
        threads = max(1, joblib.cpu_count() // jobs)
        with (
            _inherited(_heap(threads)),
            joblib.parallel_config("loky", inner_max_num_threads=threads),
        ):
            yield
        return
    try:
        cluster = _ray(jobs) if executor == "ray" else _dask(jobs)
    except ImportError as error:
        raise ImportError(
            f"`--executor {executor}` needs its package, which is not here: {error}. "
            f"Install it with: pip install 'keras-m3s[{executor}]'"
        ) from error
    with cluster, joblib.parallel_config(executor):
        yield


@contextlib.contextmanager
def _inherited(values: dict[str, str]) -> Iterator[None]:
    """Environment of processes that begin in this scope, where it is not set already."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _heap(threads: int) -> dict[str, str]:
    """One heap for a process that computes in one thread; the C library reads it at the start.

    TensorFlow allocates in one of its threads what it frees in another. The heaps of its own that
    glibc gives each thread are then handed back to the system and asked for again at every step.
    """
    return {"MALLOC_ARENA_MAX": "1"} if threads == 1 else {}


def _ray(jobs: int) -> contextlib.AbstractContextManager[Any]:
    import ray
    import ray.util.joblib

    ray.util.joblib.register_ray()
    if ray.is_initialized():
        return contextlib.nullcontext()
    local = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": jobs, "include_dashboard": False}
    return ray.init(log_to_driver=False, **local)


def _dask(jobs: int) -> contextlib.AbstractContextManager[Any]:
    import dask
    import distributed

    if dask.config.get("scheduler-address", None):
        return distributed.Client(set_as_default=True)
    return distributed.Client(
        n_workers=jobs, threads_per_worker=1, processes=True, dashboard_address=None
    )


def work(group: Sequence[Planned], place: Place, threads: int, wait: bool) -> list[Outcome]:
    """Makes runs and their retests, in a worker: one, or several that differ in their seed only.

    Args:
        group: What to do.
        place: Where.
        threads: Cores that they may use.
        wait: Whether to wait for another process that is at one of them.
    """
    if os.getpid() != place.process:
        termination.install()
    if termination.asked():
        return [Outcome(p.experiment.key, STOPPED, NOT_BEGUN) for p in group]
    os.environ.update(_worker_environment(place, threads))
    outcomes: dict[str, Outcome] = {}
    left: list[Planned] = []
    for planned in group:
        run, key = place.run(planned), planned.experiment.key
        try:
            if _finished(run, planned):
                outcomes[key] = Outcome(key, REUSED)
            else:
                (run.path / "error.json").unlink(missing_ok=True)
                left.append(planned)
        except Exception as error:
            outcomes[key] = _outcome(planned, place, error)
    for planned, made in zip(left, _make(left, place, wait), strict=True):
        outcomes[planned.experiment.key] = _outcome(planned, place, made)
    return [outcomes[p.experiment.key] for p in group]


def _outcome(planned: Planned, place: Place, error: Exception | None) -> Outcome:
    """What is told of a run, and kept in its directory if it failed."""
    key = planned.experiment.key
    if error is None:
        return Outcome(key, DONE)
    if isinstance(error, RunBusyError):
        return Outcome(key, BUSY, str(error))
    if isinstance(error, termination.Stopped):
        return Outcome(key, STOPPED, str(error))
    message = f"{type(error).__name__}: {error}"
    with contextlib.suppress(OSError):
        place.run(planned).write_json("error.json", {"error": message})
    return Outcome(key, FAILED, message)


def work_apart(group: Sequence[Planned], place: Place, threads: int, wait: bool) -> list[Outcome]:
    """As `work`, in a process of its own, which ends when the one that started it does."""
    command = [sys.executable, "-c", "from keras_m3s.study.executors import answer; answer()"]
    done = subprocess.run(
        command,
        input=pickle.dumps((group, place, threads, wait)),
        capture_output=True,
        env=os.environ | _worker_environment(place, threads),
        check=False,
    )
    try:
        return [Outcome(**one) for one in json.loads(done.stdout.splitlines()[-1])]
    except (IndexError, ValueError, TypeError):
        said = done.stderr.decode(errors="replace").strip()[-2000:]
        message = f"Its process ended with code {done.returncode}: {said}"
        return [Outcome(p.experiment.key, FAILED, message) for p in group]


def answer() -> None:
    """The other side of `work_apart`: arguments come in, outcomes go out as the last line."""
    arguments = pickle.loads(sys.stdin.buffer.read())
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    outcomes = [dataclasses.asdict(outcome) for outcome in work(*arguments)]
    print("", json.dumps(outcomes), sep="\n", flush=True)


def _make(left: Sequence[Planned], place: Place, wait: bool) -> list[Exception | None]:
    """Runs and their retests; of each what went wrong. Whatever it is, the others go on."""
    if not left:
        return []
    try:
        backend.import_backend()
        from keras_m3s.experiments import evaluation, replicated_run, run

        splits = load(left[0].experiment.dataset, place)
        runs = [(p.experiment, place.run(p)) for p in left]
        if len(runs) > 1:
            errors = replicated_run.run_together(runs, splits, place.follow, wait)
        else:
            run.run_experiment(*runs[0], splits, follow=place.follow, wait=wait)
            errors = [None]
    except Exception as error:
        return [error] * len(left)
    for number, planned in enumerate(left):
        if errors[number] is None:
            conditions = [(c.missing_rate, c.pattern) for c in planned.retests]
            try:
                evaluation.run_retests(runs[number][1], splits["test"], conditions)
            except Exception as error:
                errors[number] = error
    return errors


def _finished(run: RunDirectory, planned: Planned) -> bool:
    if run.complete:
        run.start(planned.experiment)
    return _files_finished(run, planned)


def load(dataset: str, place: Place) -> Any:
    """Splits of a data set, `name` or `name/config`; the last two stay in memory."""
    name, _, config = dataset.partition("/")
    return _load(name, config or None, place.data_dir, manual_dir(name, place.manual_dir))


@functools.lru_cache(maxsize=2)
def _load(name: str, config: str | None, data_dir: str | None, manual: str | None) -> Any:
    from keras_m3s import data

    return data.load(name, data_dir=data_dir, manual_dir=manual, config=config)


def manual_dir(dataset: str, folder: str | None) -> str | None:
    """A data set's folder: `folder/dataset` where there is one, else `folder`."""
    if folder is None:
        return None
    own = pathlib.Path(folder).expanduser() / dataset
    return str(own) if own.is_dir() else folder


def _worker_environment(place: Place, threads: int) -> dict[str, str]:
    """What must stand before a framework is imported: its threads, its share of a device.

    And where JAX keeps what it compiled: the runs of a study are the same few programs over again,
    and to compile one takes longer than a hundred epochs of a small data set.
    """
    count = str(threads)
    values = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"),
        count,
    )
    values |= {"KERAS_BACKEND": place.backend, "TF_NUM_INTEROP_THREADS": "1"}
    defaults = {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_COMPILATION_CACHE_DIR": str(pathlib.Path(place.runs).absolute() / ".compiled"),
    }
    if threads == 1:
        defaults |= {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", **_heap(threads)}
    return values | {name: os.environ.get(name, value) for name, value in defaults.items()}


def states(planned: Iterable[Planned], place: Place) -> dict[str, tuple[str, int]]:
    """Where each run stands, by what its directory holds: status and epochs done.

    Returns:
        Key -> (`DONE`, `FAILED`, `BUSY` for one that has begun, or `""`; epochs).
    """
    found = {}
    for one in planned:
        run, epochs = place.run(one), 0
        with contextlib.suppress(OSError, ValueError):
            epochs = int(run.read_json("timing.json")["epochs"])
        if _files_finished(run, one):
            status = DONE
        elif (run.path / "error.json").is_file():
            status = FAILED
        else:
            status = BUSY if run.path.is_dir() else ""
        found[one.experiment.key] = (status, epochs)
    return found


def _files_finished(run: RunDirectory, planned: Planned) -> bool:
    retests = (run.retest_file(c.missing_rate, c.pattern) for c in planned.retests)
    return run.complete and all(file.is_file() for file in retests)
