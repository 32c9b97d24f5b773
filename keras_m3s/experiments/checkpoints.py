"""Checkpoints of a run: written during training, read to resume it or to test its model."""

import pathlib
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_m3s.experiments import own_model, selection
from keras_m3s.experiments.averaging import averaged
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.run_directory import DamagedRunError, RunDirectory
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.models.hooks import of as hooks_of
from keras_m3s.models.schedule import ScheduleCallback
from keras_m3s.utils import termination
from keras_m3s.utils.backend import tensorflow_unused

SAVE_EVERY = 10.0
"""Seconds between checkpoints: what a killed process loses, beside the epoch it was in."""


def best_model(run: RunDirectory, compile: bool = True) -> WithMissing:
    """The model of a run's selected epoch.

    Args:
        run: A run that has been trained.
        compile: Whether to load its optimizer, metrics and loss.

    Raises:
        FileNotFoundError: If the run has not been trained.
        DamagedRunError: If its file cannot be read.
    """
    if not run.best.is_file():
        raise FileNotFoundError(
            f"A run must have been trained before it is used. Received: {run.path}, which holds no "
            "best.keras. Train it to its end first."
        )
    try:
        with tensorflow_unused():
            return _load(run, run.best, compile)
    except Exception as error:  # of ZIP, HDF5, JSON or Keras, depending on the damage
        raise DamagedRunError(
            f"{run.best} must be as keras-m3s wrote it. Received: {error} Bring it back from a "
            "copy, or delete the directory and train the run again."
        ) from error


def _load(run: RunDirectory, path: pathlib.Path, compile: bool = True) -> WithMissing:
    """A model of a run. One's own is loaded with its source, and may hold its functions."""
    own = own_model.custom_objects(run)
    return keras.saving.load_model(path, own or None, compile=compile, safe_mode=not own)


def newest_checkpoint(run: RunDirectory) -> tuple[int, WithMissing | None]:
    """Number of epochs and model of the newest readable checkpoint; `(0, None)` without any.

    Raises:
        DamagedRunError: If there are checkpoints and none can be read.
    """
    first: Exception | None = None
    for done, path in run.checkpoints:
        try:
            with tensorflow_unused():
                return done, _load(run, path)
        except Exception as error:  # as in `best_model`
            warnings.warn(f"{path} cannot be read; using the one before it: {error}", stacklevel=2)
            first = first or error
    if first is None:
        return 0, None
    raise DamagedRunError(
        f"One of the checkpoints in {run.path} must be readable. Received: {first} Delete its "
        "last-*.keras to train the run from the start."
    ) from first


class RunCheckpoint(keras.callbacks.Callback):
    """Writes history and checkpoints, and stops training when patience runs out.

    Args:
        run: Where to write.
        experiment: Gives `patience` and the rule for selecting an epoch.
        model: The base model, which names the validation value to compare epochs by.
        history: Rows of the epochs already done.

    Attributes:
        share: Fraction of wall time charged to this run, less than 1 for runs trained together.
    """

    def __init__(
        self,
        run: RunDirectory,
        experiment: Experiment,
        model: keras.Model,
        history: list[dict[str, float]],
    ) -> None:
        super().__init__()
        self.run, self.share = run, 1.0
        self.experiment = experiment
        hooks = hooks_of(model)
        self.monitor, self.mode = hooks.monitor, hooks.monitor_mode
        self.history = history
        self._saved_at = self._began = time.monotonic()
        self._seconds = run.seconds
        self._newest: pathlib.Path | None = None
        if history:
            self._newest = self._checkpoint_path()
        # The values of the selected epoch, until they are written: a small model trains an epoch in
        # less time than a file takes.
        self._selected: list[np.ndarray] | None = None

    @property
    def selected_epoch(self) -> int:
        """Index of the epoch selected for testing, so far."""
        model, select = self.experiment.model, self.experiment.select
        return selection.selected_epoch(self.history, self.monitor, self.mode, model, select)

    @property
    def out_of_patience(self) -> bool:
        patience = self.experiment.patience
        if patience is None or not self.history:
            return False
        best = selection.best_epoch(self.history, self.monitor, self.mode)
        return len(self.history) - 1 - best >= patience

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        # Not before: runs that are trained together are prepared one after another.
        self._saved_at = self._began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if termination.asked() and self._saved:
            self._stop()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        row = {"epoch": epoch + 1.0} | {k: float(v) for k, v in sorted((logs or {}).items())}
        self.history.append(row)
        if self.selected_epoch == len(self.history) - 1:
            with averaged(self.model):
                self._selected = _values(self._variables)
            if not self.run.best.is_file():
                self._write_selected()
        if self.out_of_patience:
            self.model.stop_training = True
        if termination.asked():
            self._checkpoint()
            self._stop()
        # After the last epoch `fit` puts averaged weights in the place of those that it trained.
        ends = self.model.stop_training or len(self.history) == self.experiment.epochs
        if ends or time.monotonic() - self._saved_at > SAVE_EVERY:
            self._checkpoint()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if not self._saved:
            self._checkpoint()

    @property
    def _saved(self) -> bool:
        """Whether the newest checkpoint has all epochs done."""
        return not self.history or self._newest == self._checkpoint_path()

    def _checkpoint_path(self) -> pathlib.Path:
        return self.run.path / f"last-{len(self.history):04d}.keras"

    @property
    def _variables(self) -> list[keras.Variable]:
        """What a file of the model holds."""
        variables = [*self.model.variables, *self.model.optimizer.variables]
        return list({id(variable): variable for variable in variables}.values())

    def _write_selected(self) -> None:
        """Writes the model of the selected epoch, unless that has been done."""
        if self._selected is None:
            return
        variables = self._variables
        before = _values(variables)
        try:
            for variable, value in zip(variables, self._selected, strict=True):
                variable.assign(value)
            self._save(self.run.best)
        finally:
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)
        self._selected = None

    def _checkpoint(self) -> None:
        # Before the checkpoint: a run that is resumed from that needs the best so far.
        self._write_selected()
        # History first: rows beyond the checkpoint are dropped when the run is resumed from it.
        self.run.write_csv("history.csv", self.history)
        seconds = self._seconds + self.share * (time.monotonic() - self._began)
        self.run.write_json("timing.json", {"seconds": seconds, "epochs": len(self.history)})
        newest, before = self._checkpoint_path(), self._newest
        self._save(newest)
        for path in set(self.run.path.glob("last-*.keras")) - {newest, before}:
            path.unlink()
        self._newest = newest
        self._saved_at = time.monotonic()

    def _stop(self) -> None:
        raise termination.Stopped(
            f"Stopped on request: {len(self.history)} of {self.experiment.epochs} epochs of "
            f"{self.run.path} are saved. The same command resumes from there."
        )

    def _save(self, path: pathlib.Path) -> None:
        with self.run.writing(path.name) as temporary, tensorflow_unused():
            self.model.save(temporary, overwrite=True)


def _values(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """Copies in the host's memory: a device may have none to spare."""
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


class ReplayHistory(keras.callbacks.Callback):
    """Replays the epochs already done to callbacks that count them (plateaus, schedules).

    Keras' callbacks reset their state when training begins. What they changed in the optimizer was
    saved with it, so its variables are restored after the replay.

    Args:
        callbacks: Those of the model; a `ScheduleCallback` starts from `rate`.
        history: Rows of the epochs already done.
        rate: The learning rate before the first epoch.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        history: list[dict[str, float]],
        rate: float,
    ) -> None:
        super().__init__()
        self.callbacks, self.rows, self.rate = callbacks, list(history), rate

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        for callback in self.callbacks:
            if isinstance(callback, ScheduleCallback):
                callback.start_from(self.rate)
        before = [keras.ops.convert_to_numpy(v) for v in self.model.optimizer.variables]
        for row in self.rows:
            for callback in self.callbacks:
                callback.on_epoch_end(int(row["epoch"]) - 1, dict(row))
        if self.rows:
            for variable, value in zip(self.model.optimizer.variables, before, strict=True):
                variable.assign(value)
