"""One unit of a study's work: a group of runs, trained and tested in one process.

Two entry points take the same arguments and return the same outcomes. `run_group` works in the
calling process: this one, or a joblib worker. `run_group_in_subprocess` starts a fresh process, for
Ray and Dask: their workers run threads that draw from Python's global random state, on which
initial weights depend.
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
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from keras_m3s.experiments.run_directory import RunBusyError
from keras_m3s.registry import models
from keras_m3s.study.plan import PlannedRun
from keras_m3s.study.workspace import (
    BUSY,
    DONE,
    FAILED,
    REUSED,
    STOPPED,
    Outcome,
    Workspace,
    load_splits,
    outcome_from_files,
)
from keras_m3s.utils import backend, termination, user_code

if TYPE_CHECKING:  # it imports Keras
    from keras_m3s.experiments.programs import Programs

STDERR_LENGTH = 2000
"""Characters of a failed subprocess's standard error that its message quotes."""


def run_group(
    group: Sequence[PlannedRun], workspace: Workspace, threads: int, wait: bool
) -> list[Outcome]:
    """Trains, tests and retests runs in this process.

    The environment variables it sets are restored at the end.

    Args:
        group: One run, or several that differ only in their seed.
        workspace: Where they are.
        threads: Number of cores to use.
        wait: Whether to wait for another process that holds one of them.

    Returns:
        An outcome for each run, in order.

    Raises:
        ValueError: If Keras already runs on another backend in this process.
    """
    if os.getpid() != workspace.coordinator_pid:
        termination.install()
    if termination.asked():
        return [outcome_from_files(planned, workspace, REUSED) for planned in group]
    with environment_scope(environment_variables(workspace, threads)):
        _check_backend(workspace)
        outcomes: dict[str, Outcome] = {}
        left: list[PlannedRun] = []
        for planned in group:
            key = planned.experiment.key
            try:
                if _is_finished(planned, workspace):
                    outcomes[key] = Outcome(key, REUSED)
                else:
                    error_file = workspace.run_directory(planned).path / "error.json"
                    error_file.unlink(missing_ok=True)
                    left.append(planned)
            except Exception as error:
                outcomes[key] = _outcome(planned, workspace, error)
        for planned, failure in zip(left, _train_and_test(left, workspace, wait), strict=True):
            outcomes[planned.experiment.key] = _outcome(planned, workspace, failure)
    return [outcomes[planned.experiment.key] for planned in group]


def run_group_in_subprocess(
    group: Sequence[PlannedRun], workspace: Workspace, threads: int, wait: bool
) -> list[Outcome]:
    """Does what `run_group` does in a subprocess, which ends when this process does."""
    command = [sys.executable, "-c", f"from {__name__} import subprocess_main; subprocess_main()"]
    done = subprocess.run(
        command,
        input=pickle.dumps((group, workspace, threads, wait)),
        capture_output=True,
        env=os.environ | environment_variables(workspace, threads),
        check=False,
    )
    try:
        return [Outcome(**one) for one in json.loads(done.stdout.splitlines()[-1])]
    except (IndexError, ValueError, TypeError):
        stderr = done.stderr.decode(errors="replace").strip()[-STDERR_LENGTH:]
        message = f"The worker process ended with code {done.returncode}: {stderr}"
        return [Outcome(planned.experiment.key, FAILED, message) for planned in group]


def subprocess_main() -> None:
    """Reads pickled arguments of `run_group` from stdin; prints its outcomes as the last line."""
    arguments = pickle.loads(sys.stdin.buffer.read())
    parent = os.getppid()

    def stop_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_with_parent, daemon=True).start()
    outcomes = [dataclasses.asdict(outcome) for outcome in run_group(*arguments)]
    print("", json.dumps(outcomes), sep="\n", flush=True)


@contextlib.contextmanager
def environment_scope(values: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables in this scope, and restores them at its end."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def environment_variables(workspace: Workspace, threads: int) -> dict[str, str]:
    """Environment variables of a worker, which frameworks read when they are imported.

    They select the backend, limit threads and device memory, and give JAX a compilation cache: a
    study runs the same few programs over and over, and compiling one takes longer than a hundred
    epochs on a small data set. By default JAX would keep only those that took a second, which on
    small models is none: a third of such a run is compiling.

    Args:
        workspace: Gives the backend and the folder of the cache.
        threads: Number of cores to use.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    values = dict.fromkeys((*names, "TF_NUM_INTRAOP_THREADS"), str(threads))
    values |= {"KERAS_BACKEND": workspace.backend, "TF_NUM_INTEROP_THREADS": "1"}
    defaults = {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_COMPILATION_CACHE_DIR": str(pathlib.Path(workspace.runs).absolute() / ".compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    if threads == 1:
        defaults["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    defaults |= malloc_variables(threads)
    return values | {name: os.environ.get(name, value) for name, value in defaults.items()}


def malloc_variables(threads: int) -> dict[str, str]:
    """Limits glibc to one malloc arena in a process that computes in one thread.

    TensorFlow allocates in one thread what it frees in another. With an arena per thread, glibc
    then returns memory to the system and requests it again at every step. It reads the variable
    when the process starts.
    """
    return {"MALLOC_ARENA_MAX": "1"} if threads == 1 else {}


def _check_backend(workspace: Workspace) -> None:
    """Raises `ValueError` if Keras has been imported with another backend."""
    if "keras" not in sys.modules:  # it will read KERAS_BACKEND
        return
    import keras

    running = keras.config.backend()
    if running != workspace.backend:
        raise ValueError(
            "`backend` of the workspace must be the one Keras runs on in this process. Received: "
            f"backend={workspace.backend!r}, and Keras runs on {running!r}. Set KERAS_BACKEND="
            f"{workspace.backend} before Keras is imported, or call this in a new process."
        )


def _is_finished(planned: PlannedRun, workspace: Workspace) -> bool:
    """Whether results are there.

    Raises:
        ChangedExperimentError: They are those of other settings or of other data.
    """
    run = workspace.run_directory(planned)
    if run.complete:
        run.start(planned.experiment)
    if not workspace.has_results(planned):
        return False
    backend.import_backend()
    from keras_m3s.experiments.environment import check_unchanged

    check_unchanged(run, load_splits(planned.experiment.dataset, workspace))
    return True


def _train_and_test(
    planned: Sequence[PlannedRun], workspace: Workspace, wait: bool
) -> list[Exception | None]:
    """Trains, tests and retests runs; the error of each, or `None`."""
    if not planned:
        return []
    try:
        backend.import_backend()
        from keras_m3s.experiments import drawn_tests, evaluation, replicated_run, run
        from keras_m3s.experiments.programs import Programs

        splits = load_splits(planned[0].experiment.dataset, workspace)
        # A model of one's own may depend on more than its variables: on constants that it drew.
        own = models.is_own(planned[0].experiment.model)
        programs = Programs() if own else _programs(workspace)
        runs = [(p.experiment, workspace.run_directory(p)) for p in planned]
        errors: list[Exception | None] = [None]
        if len(runs) > 1:
            errors = replicated_run.run_replicas(runs, splits, workspace.follow, wait)
        else:
            run.run_experiment(
                *runs[0], splits, follow=workspace.follow, wait=wait, programs=programs
            )
    except Exception as error:
        return [error] * len(planned)
    for number, one in enumerate(planned):
        if errors[number] is None:
            try:
                evaluation.run_retests(runs[number][1], splits["test"], one.retests, programs)
                drawn_tests.make(runs[number][1], splits, one.drawn, programs)
            except Exception as error:
                errors[number] = error
    return errors


@functools.lru_cache(maxsize=1)
def _programs(workspace: Workspace) -> "Programs":
    """What runs of models with cards have compiled in this process."""
    from keras_m3s.experiments.programs import Programs

    return Programs()


def _outcome(planned: PlannedRun, workspace: Workspace, error: Exception | None) -> Outcome:
    """The outcome of a run; an error is also written to its directory."""
    key = planned.experiment.key
    if error is None:
        return Outcome(key, DONE)
    if isinstance(error, RunBusyError):
        return Outcome(key, BUSY, str(error))
    if isinstance(error, termination.Stopped):
        return Outcome(key, STOPPED, str(error))
    where = user_code.location(error)  # in a model of the user's
    message = f"{where}: " if where else ""
    message += f"{type(error).__name__}: {error}"
    with contextlib.suppress(OSError):
        workspace.run_directory(planned).write_json("error.json", {"error": message})
    return Outcome(key, FAILED, message)
