"""A run directory: what is in it, and writing to it so that nothing is ever half there.

experiment.json    the `Experiment`
environment.json   versions, backend, fingerprints of the data
history.csv        a row per epoch
best.keras         the model of the epoch selected so far
last-0012.keras    the model, optimizer, seeds and memories after an epoch, to go on from; there are
                   the newest and the one before it
timing.json        seconds of training, and epochs, up to the newest of them; of runs that were
                   trained together each has its share of the time
predictions.csv    id, truth, prediction on the test data
metrics.json       test metrics; there once the run is complete
retest-*.json      the same model under other holes: `test_missing_rate`, `pattern`, `metrics`
tensorboard/       each epoch's values for TensorBoard, with `keras-m3s train --tensorboard`
error.json         why a run of a study failed; gone when it succeeds
run.lock           held by the process that is at it
"""

import contextlib
import csv
import dataclasses
import importlib.metadata
import json
import pathlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keras_m3s.experiments.config import Experiment
from keras_m3s.utils import atomic_files

PACKAGES = (
    "keras-m3s",
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "tensorflow-datasets",
    "numpy",
    "scikit-learn",
)


class ChangedExperimentError(ValueError):
    """The directory holds a run of another experiment."""


class DamagedRunError(ValueError):
    """The directory holds files that cannot be read, and nothing to fall back on."""


class RunBusyError(OSError):
    """Another process is doing this run."""


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """Paths of a run's files, and how they are read and written.

    Attributes:
        path: The directory; made when the first file is written.
    """

    path: pathlib.Path

    @property
    def best(self) -> pathlib.Path:
        return self.path / "best.keras"

    @property
    def checkpoints(self) -> list[tuple[int, pathlib.Path]]:
        """Epochs done and file of each checkpoint, the newest first."""
        found = sorted(self.path.glob("last-*.keras"), reverse=True)
        return [(int(path.stem.removeprefix("last-")), path) for path in found]

    def retest_file(self, missing_rate: tuple[float, float], pattern: str) -> pathlib.Path:
        """Where the test metrics of other holes are kept."""
        low, high = missing_rate
        return self.path / f"retest-{low:.2f}-{high:.2f}-{pattern}.json"

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        known = (self.path / "timing.json").is_file()
        return float(self.read_json("timing.json").get("seconds", 0)) if known else 0.0

    @property
    def complete(self) -> bool:
        """Whether the run has been trained and tested."""
        return (self.path / "metrics.json").is_file()

    def experiment(self) -> Experiment:
        """The experiment whose run this is.

        Raises:
            FileNotFoundError: If this is no run directory.
            DamagedRunError: If the file is not whole.
        """
        file = self.path / "experiment.json"
        if not file.is_file():
            raise FileNotFoundError(
                f"A run directory must hold experiment.json. Received: {self.path}, which does "
                "not. Pass a directory that `keras-m3s train` made."
            )
        return Experiment.from_dict(self.read_json("experiment.json"))

    def start(self, experiment: Experiment) -> None:
        """Makes the directory, or finds the same experiment's in it.

        Raises:
            ChangedExperimentError: If it holds another one's.
        """
        if (self.path / "experiment.json").is_file():
            old, new = self.experiment().to_dict(), experiment.to_dict()
            changed = {k: (old[k], new[k]) for k in new if old[k] != new[k]}
            if changed:
                listed = "; ".join(f"{k}: {a!r} there, {b!r} now" for k, (a, b) in changed.items())
                raise ChangedExperimentError(
                    f"A run directory must keep its experiment. Received: {self.path}, which "
                    f"differs in {listed}. Choose another directory, or delete this one."
                )
            return
        self.write_json("experiment.json", experiment.to_dict())

    @contextlib.contextmanager
    def locked(self, wait: bool = False) -> Iterator[None]:
        """Holds the run for this process; the system lets go of it when the process dies.

        Args:
            wait: Whether to wait while another process holds it.

        Raises:
            RunBusyError: If another holds it, without `wait`.
        """
        import filelock

        lock = filelock.FileLock(self.path / "run.lock", timeout=-1 if wait else 0)
        try:
            with atomic_files.explained(self.path / "run.lock"):
                self.path.mkdir(parents=True, exist_ok=True)
                lock.acquire()
        except filelock.Timeout:
            raise RunBusyError(
                f"Only one process may do a run. Another one is at {self.path}. Wait until it has "
                "ended, or choose another directory."
            ) from None
        try:
            for left in self.path.glob(
                f"{atomic_files.TEMPORARY}*"
            ):  # by a process that was killed
                left.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        with self.writing(name) as temporary:
            temporary.write_text(json.dumps(values, indent=2) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """The object in a file.

        Raises:
            DamagedRunError: If there is none in it.
        """
        try:
            values = json.loads((self.path / name).read_text())
        except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, nested without end
            raise self._damaged(name, error) from error
        if not isinstance(values, dict):
            raise self._damaged(name, type(values).__name__)
        return values

    def _damaged(self, name: str, what: object) -> DamagedRunError:
        return DamagedRunError(
            f"{self.path / name} must be as keras-m3s wrote it. Received: {what}. Bring back the "
            "file from a copy, or delete the directory and run the same command again."
        )

    def write_csv(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        with self.writing(name) as temporary, temporary.open("w", newline="") as file:
            names = dict.fromkeys(name for row in rows for name in row)
            writer = csv.DictWriter(file, fieldnames=list(names), restval="nan")
            writer.writeheader()
            writer.writerows(rows)

    def read_history(self) -> list[dict[str, float]]:
        """Rows of history.csv so far, `epoch` counted from 1.

        Raises:
            DamagedRunError: If it is no table of numbers, or a row is not there.
        """
        file = self.path / "history.csv"
        if not file.is_file():
            return []
        try:
            with file.open(newline="") as lines:
                rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(lines)]
        except (ValueError, TypeError, csv.Error) as error:  # a line that is cut off has None
            raise self._damaged("history.csv", error) from error
        epochs = [row.get("epoch") for row in rows]
        if epochs != list(range(1, len(rows) + 1)):
            raise self._damaged("history.csv", f"epochs {epochs}")
        return rows

    def writing(self, name: str) -> contextlib.AbstractContextManager[pathlib.Path]:
        """A temporary path that becomes `name` if all goes well, and is gone if not."""
        return atomic_files.whole(self.path / name)


def environment(backend: str, data: Mapping[str, str]) -> dict[str, Any]:
    """Versions of what the numbers depend on.

    Args:
        backend: Name of the Keras backend.
        data: Fingerprint of each split.
    """
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "backend": backend,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "data": dict(data),
    }
