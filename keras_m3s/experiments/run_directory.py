"""The directory of a run: its files, and atomic reads and writes of them.

experiment.json    the `Experiment`
environment.json   versions, backend, fingerprints of the data; `resumed`: versions that had changed
                   when the run was resumed
history.csv        a row per epoch
best.keras         the model of the epoch selected so far
last-0012.keras    checkpoint after an epoch: model, optimizer, random seeds and other state; the
                   newest and the one before it
timing.json        seconds of training, and epochs, up to the newest checkpoint; runs that were
                   trained together share the time
predictions.csv    id, truth, prediction on the test data
metrics.json       test metrics; written when the run is complete
retest-*.json      the same model under other missingness: `test_missing_rate`, `pattern`, `metrics`
                   and, where modalities have rates of their own, `modality_rates`
draws-*.json       the same under several draws of the holes, on validation or test data
tensorboard/       each epoch's values for TensorBoard, with `keras-m3s train --tensorboard`
error.json         why a run of a study failed; removed when it succeeds
run.lock           locked by the process that trains or tests the run
"""

import contextlib
import csv
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keras_m3s.experiments.config import Experiment
from keras_m3s.registry.patterns import ModalityRates, Rate
from keras_m3s.utils import atomic_files


class ChangedExperimentError(ValueError):
    """The directory holds a run of another experiment, of other data or of another backend."""


class DamagedRunError(ValueError):
    """The directory holds files that cannot be read, and nothing to fall back on."""


class RunBusyError(OSError):
    """Another process is training or testing this run."""


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """Paths of a run's files, with methods to read and write them.

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

    def retest_file(
        self, missing_rate: Rate, pattern: str, modality_rates: ModalityRates = ()
    ) -> pathlib.Path:
        """File of the test metrics under other missingness; see `Condition` of the patterns."""
        low, high = map(_decimal, missing_rate)
        own = "".join(f"-{m}_{_decimal(a)}_{_decimal(b)}" for m, (a, b) in modality_rates)
        return self.path / f"retest-{low}-{high}-{pattern}{own}.json"

    def retested(
        self, missing_rate: Rate, pattern: str, modality_rates: ModalityRates = ()
    ) -> bool:
        """Whether the test metrics under other missingness are there.

        Version 0.1.0 wrote rates with two decimals into the file's name: what is in it decides.
        """
        file = self.retest_file(missing_rate, pattern, modality_rates)
        if not file.is_file():
            return False
        tested = self.read_json(file.name).get("test_missing_rate")
        if not isinstance(tested, list) or not all(isinstance(r, (int, float)) for r in tested):
            return False
        return [*map(_decimal, tested)] == [*map(_decimal, missing_rate)]

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
            DamagedRunError: If the file is damaged, or of a newer version.
        """
        file = self.path / "experiment.json"
        if not file.is_file():
            raise FileNotFoundError(
                f"A run directory must hold experiment.json. Received: {self.path}, which does "
                "not. Pass a directory that `keras-m3s train` made."
            )
        values = self.read_json("experiment.json")
        try:
            return Experiment.from_dict(values)
        except ValueError as error:
            raise DamagedRunError(f"{file}: {error}") from error

    def start(self, experiment: Experiment) -> None:
        """Writes the experiment, or checks that the directory holds a run of the same one.

        Raises:
            ChangedExperimentError: If it holds a run of another experiment.
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
        """Exclusive lock on the run, released by the OS when the process exits.

        Args:
            wait: Whether to wait while another process holds it.

        Raises:
            RunBusyError: If another process holds it, without `wait`.
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
            # Temporary files of a process that was killed.
            for left in self.path.glob(f"{atomic_files.TEMPORARY}*"):
                left.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        with self.writing(name) as temporary:
            temporary.write_text(json.dumps(values, indent=2) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """The JSON object in a file.

        Raises:
            DamagedRunError: If the file holds no JSON object.
        """
        try:
            values = json.loads((self.path / name).read_text())
        except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, nested too deeply
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
            DamagedRunError: If it is no table of numbers, or lacks a row.
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
        """A temporary path that is renamed to `name` on success and removed on failure."""
        return atomic_files.whole(self.path / name)


def _decimal(rate: float) -> str:
    """A rate with the decimals that it needs, at least the two that version 0.1.0 wrote."""
    whole, decimals = f"{rate:.9f}".split(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"
