"""Many runs at once, through joblib: in processes here, or on a Ray or Dask cluster.

A worker trains a run in one process with its share of the cores. All results are in run
directories, which every worker must reach under the same path, so progress and failures are read
from there whatever the executor. Runs locked by another process are retried last.

With `Workspace.replicas` above 1, runs that differ only in their seed are one unit of work: up to
that many are trained as one program, see `keras_m3s.experiments.replicated_run`. That is faster
where a model leaves most of a GPU idle.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from keras_m3s.study import worker
from keras_m3s.study.plan import PlannedRun
from keras_m3s.study.workspace import (
    BUSY,
    DONE,
    FAILED,
    REUSED,
    Outcome,
    Workspace,
    outcome_from_files,
)
from keras_m3s.utils import termination

EXECUTORS: tuple[str, ...] = ("local", "ray", "dask")

WORKER_BYTES = 2.5e9
"""Memory that a worker may need: a framework, a data set, a model without BERT."""

MAX_ATTEMPTS = 3
"""Attempts to finish the runs when workers die, for instance of too little memory."""

Task = Callable[[Sequence[PlannedRun], Workspace, int, bool], list[Outcome]]


def default_jobs(runs: int) -> int:
    """As many runs at once as this machine has cores and memory for, at most `runs`."""
    import joblib
    import psutil

    fitting = int(psutil.virtual_memory().available // WORKER_BYTES)
    return max(1, min(joblib.cpu_count(), fitting, runs))


def default_replicas(workspace: Workspace, seeds: int) -> int:
    """Number of runs to train as one program: all seeds on an accelerator under JAX, else 1.

    Checked in a subprocess: the query claims the accelerator.
    """
    if seeds == 1:
        return 1
    code = (
        "from keras_m3s.experiments.replicas import runs_on_accelerator; "
        "print(runs_on_accelerator())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | worker.environment_variables(workspace, 1),
        check=False,
    )
    return seeds if done.stdout.split()[-1:] == ["True"] else 1


def execute(
    planned: Sequence[PlannedRun],
    workspace: Workspace,
    executor: str = "local",
    jobs: int | None = None,
) -> list[Outcome]:
    """Trains, tests and retests runs, in order as far as several at once have one.

    SIGTERM requests a graceful stop: running epochs are saved, no further run starts, and the rest
    is `STOPPED`. Calling it again resumes.

    Workers are processes that import `keras_m3s.registry` afresh, so a card that was added to one
    of its tables at run time is unknown to them. Either the module that adds it is imported with
    the registry in every process, or the study runs with `executor="local", jobs=1`, which works in
    the calling process.

    Args:
        planned: The runs.
        workspace: Where they and their data are.
        executor: One of `EXECUTORS`. Ray uses the cluster that `RAY_ADDRESS` names, Dask that of
            `DASK_SCHEDULER_ADDRESS`; without these they start a local one of `jobs` workers.
        jobs: Runs at once; `None` for `default_jobs`.

    Returns:
        An outcome for each run, in the order of `planned`.

    Raises:
        ValueError: If there is no such executor, or Keras already runs on a backend other than the
            workspace's in this process and `jobs` is 1.
        ImportError: If the executor's package is not installed.
    """
    if executor not in EXECUTORS:
        raise ValueError(f"`executor` must be one of {EXECUTORS}. Received: {executor!r}.")
    jobs = jobs or default_jobs(len(planned))
    task = worker.run_group if executor == "local" else worker.run_group_in_subprocess
    before = {p.experiment.key for p in planned if workspace.has_results(p)}
    outcomes: dict[str, Outcome] = {}
    with termination.graceful(children=True), _joblib_backend(executor, jobs):
        for wait in (False, True):
            left = [p for p in planned if _is_left(outcomes.get(p.experiment.key))]
            groups = _group_seeds(left, workspace.replicas)
            for outcome in _run_all(task, groups, workspace, jobs, wait):
                outcomes[outcome.key] = outcome
    for one in planned:
        key = one.experiment.key
        if key not in outcomes:
            outcomes[key] = outcome_from_files(one, workspace, REUSED if key in before else DONE)
    return [outcomes[p.experiment.key] for p in planned]


def _is_left(outcome: Outcome | None) -> bool:
    return outcome is None or outcome.status == BUSY


def _group_seeds(planned: Sequence[PlannedRun], size: int) -> list[tuple[PlannedRun, ...]]:
    """Groups of at most `size` runs that differ only in their seed, in the order of the first."""
    alike: dict[Any, list[PlannedRun]] = {}
    for one in planned:
        alike.setdefault((one.experiment.replace(seed=0).key, one.retests, one.drawn), []).append(
            one
        )
    return [
        tuple(group[start : start + size])
        for group in alike.values()
        for start in range(0, len(group), size)
    ]


def _run_all(
    task: Task,
    groups: Sequence[tuple[PlannedRun, ...]],
    workspace: Workspace,
    jobs: int,
    wait: bool,
) -> list[Outcome]:
    """Runs all groups once. Retried after a worker dies; runs resume from checkpoints."""
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    threads = max(1, joblib.cpu_count() // jobs)

    def calls() -> Iterator[Any]:
        for group in groups:
            if termination.asked():
                return
            yield joblib.delayed(task)(group, workspace, threads, wait)

    for _ in range(MAX_ATTEMPTS):
        try:
            # Groups take long, so none is queued behind another in a batch.
            parallel = joblib.Parallel(n_jobs=jobs, batch_size=1, pre_dispatch=jobs)
            return [outcome for outcomes in parallel(calls()) for outcome in outcomes]
        except Exception as error:
            if termination.asked():  # workers that are stopped may end in any way
                return []
            if not isinstance(error, TerminatedWorkerError):
                raise
            message = f"Workers died in each of {MAX_ATTEMPTS} attempts, the last time: {error}"
    return [
        Outcome(p.experiment.key, DONE)
        if workspace.has_results(p)
        else Outcome(p.experiment.key, FAILED, message)
        for group in groups
        for p in group
    ]


@contextlib.contextmanager
def _joblib_backend(executor: str, jobs: int) -> Iterator[None]:
    """The scope in which joblib runs tasks on an executor."""
    import joblib

    if executor == "local":
        threads = max(1, joblib.cpu_count() // jobs)
        # Read when a worker process starts, so it must be inherited.
        inherited = worker.malloc_variables(threads)
        missing = {name: value for name, value in inherited.items() if name not in os.environ}
        with (
            worker.environment_scope(missing),
            joblib.parallel_config("loky", inner_max_num_threads=threads),
        ):
            try:
                yield
            finally:
                if termination.asked():
                    _end_workers()
        return
    try:
        cluster = _ray(jobs) if executor == "ray" else _dask(jobs)
    except ImportError as error:
        raise ImportError(
            f"`executor={executor!r}` needs a package that is not installed: {error}. "
            f"Install it with: pip install 'keras-m3s[{executor}]'"
        ) from error
    with cluster, joblib.parallel_config(executor):
        yield


def _end_workers() -> None:
    """Ends joblib's worker processes, which would be reused with their request to stop."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor(reuse=True).shutdown(wait=True)


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
