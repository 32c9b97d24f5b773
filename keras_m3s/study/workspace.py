"""Where a study keeps its data and runs, and what its run directories say of its progress."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from keras_m3s.experiments import drawn_tests
from keras_m3s.experiments.run_directory import DamagedRunError, RunDirectory
from keras_m3s.registry import datasets
from keras_m3s.study.plan import PlannedRun

DONE, REUSED, FAILED, BUSY, STOPPED = "done", "reused", "failed", "busy", "stopped"
"""How a run ended: trained and tested now, found finished, failed, held by another process, or
stopped by SIGTERM."""

STARTED, PENDING = "started", "pending"
"""Further states of a run, as its directory shows them."""

NOT_STARTED = "Not started before the stop."
INTERRUPTED = "Interrupted by the stop. The same command resumes it from its newest checkpoint."


@dataclasses.dataclass(frozen=True)
class Workspace:
    """Folders and settings that all workers of a study share.

    Attributes:
        runs: Folder of run directories.
        data_dir: Folder of prepared data sets, or `None` for the default.
        manual_dir: Folder of the files data sets are made from, or `None`.
        backend: Keras backend of the runs.
        replicas: At most this many runs that differ only in their seed are trained as one program.
        follow: Whether to compute test metrics after each epoch, for learning curves.
        coordinator_pid: The process that calls `execute`. Workers in other processes install their
            own handler of SIGTERM.
    """

    runs: str
    data_dir: str | None
    manual_dir: str | None
    backend: str
    replicas: int = 1
    follow: bool = True
    coordinator_pid: int = dataclasses.field(default_factory=os.getpid)

    def run_directory(self, planned: PlannedRun) -> RunDirectory:
        """The directory of a run."""
        return RunDirectory(pathlib.Path(self.runs) / planned.experiment.key)

    def has_results(self, planned: PlannedRun) -> bool:
        """Whether a run has been tested as planned. Damaged retests do not count."""
        run = self.run_directory(planned)
        try:
            return (
                run.complete
                and all(run.retested(*condition) for condition in planned.retests)
                and all(drawn_tests.read(run, test) for test in planned.drawn)
            )
        except (OSError, ValueError, OverflowError):
            return False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        key: Key of its experiment.
        status: `DONE`, `REUSED`, `FAILED`, `BUSY` or `STOPPED`.
        message: Why it is not done, if it is not.
    """

    key: str
    status: str
    message: str = ""


class RunState(NamedTuple):
    """Progress of a run.

    Attributes:
        status: `DONE`, `FAILED`, `STARTED` or `PENDING`.
        epochs: Epochs up to the newest checkpoint.
    """

    status: str
    epochs: int


def outcome_from_files(planned: PlannedRun, workspace: Workspace, finished: str) -> Outcome:
    """Outcome of a run that no worker reported before a stop.

    Args:
        planned: The run.
        workspace: Where it is.
        finished: Status if its results are there, `DONE` or `REUSED`.
    """
    key = planned.experiment.key
    if workspace.has_results(planned):
        return Outcome(key, finished)
    started = bool(workspace.run_directory(planned).checkpoints)
    return Outcome(key, STOPPED, INTERRUPTED if started else NOT_STARTED)


def run_states(planned: Iterable[PlannedRun], workspace: Workspace) -> dict[str, RunState]:
    """Progress of each run by the key of its experiment, read from its directory."""
    found = {}
    for one in planned:
        run, epochs = workspace.run_directory(one), 0
        with contextlib.suppress(OSError, DamagedRunError):
            _, epochs = read_timing(run)
        if workspace.has_results(one):
            status = DONE
        elif (run.path / "error.json").is_file():
            status = FAILED
        else:
            status = STARTED if run.path.is_dir() else PENDING
        found[one.experiment.key] = RunState(status, epochs)
    return found


def read_timing(run: RunDirectory) -> tuple[float, int]:
    """Seconds of training and epochs up to a run's newest checkpoint.

    Raises:
        OSError: If the run has no checkpoint yet.
        DamagedRunError: If timing.json does not hold both numbers.
    """
    values = run.read_json("timing.json")
    seconds, epochs = values.get("seconds"), values.get("epochs")
    if not isinstance(seconds, (int, float)) or not 0 <= seconds <= sys.float_info.max:
        raise _damaged(run, "seconds", "a number", seconds)
    if not isinstance(epochs, int) or not 0 <= epochs <= sys.maxsize:
        raise _damaged(run, "epochs", "a whole number", epochs)
    return float(seconds), epochs


def _damaged(run: RunDirectory, name: str, wanted: str, value: Any) -> DamagedRunError:
    return DamagedRunError(
        f"`{name}` in {run.path / 'timing.json'} must be {wanted} >= 0. Received: {value!r}. "
        "Restore the file from a copy, or delete the directory and train the run again."
    )


def load_splits(dataset: str, workspace: Workspace) -> Any:
    """Splits of a data set; those of the last two data sets are cached.

    A file that was written since is read again.

    Args:
        dataset: `name`, `name/config`, or the path of a feature file.
        workspace: Gives the folders of the data.
    """
    name, config = datasets.split_name(dataset)
    folder = manual_dir_of(name, workspace.manual_dir)
    return _load_cached(name, config, workspace.data_dir, folder, _version(name))


def _version(name: str) -> tuple[int, int] | None:
    """Time of modification and size of a data set that is a file; `None` for others."""
    path = pathlib.Path(name).expanduser()
    if not (datasets.is_file(name) and path.is_file()):
        return None
    state = path.stat()
    return state.st_mtime_ns, state.st_size


@functools.lru_cache(maxsize=2)
def _load_cached(
    name: str,
    config: str | None,
    data_dir: str | None,
    manual_dir: str | None,
    version: tuple[int, int] | None,
) -> Any:
    from keras_m3s import data

    del version  # only tells cached data apart
    return data.load(name, data_dir=data_dir, manual_dir=manual_dir, config=config)


def manual_dir_of(dataset: str, folder: str | None) -> str | None:
    """Folder of a data set's source files: `folder/dataset` if it exists, else `folder`."""
    if folder is None:
        return None
    own = pathlib.Path(folder).expanduser() / dataset
    return str(own) if own.is_dir() else folder
