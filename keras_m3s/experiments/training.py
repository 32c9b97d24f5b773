"""`Experiment` -> trained run directory; interrupted, it goes on from where it was saved."""

import dataclasses
import pathlib
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_m3s import models
from keras_m3s.data.batches import Batches
from keras_m3s.data.callbacks import SetEpoch, StopNotFinite
from keras_m3s.data.split import Split
from keras_m3s.data.streaming import StreamedSplit
from keras_m3s.experiments import selection
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.run_directory import DamagedRunError, RunDirectory, environment
from keras_m3s.meta.m3s import M3S
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.missing import MissingModality, fixed_draws
from keras_m3s.models.mmin import pretraining
from keras_m3s.utils import termination
from keras_m3s.utils.backend import set_random_seed, tensorflow_unused

SAVE_EVERY = 10.0
"""Seconds of training that a kill may cost."""


def train(
    experiment: Experiment,
    run: RunDirectory,
    splits: Mapping[str, Split | StreamedSplit],
    callbacks: Sequence[keras.callbacks.Callback] = (),
    observers: Sequence[keras.callbacks.Callback] = (),
) -> WithMissing:
    """Trains an experiment to its end; an interrupted run goes on, a finished one is used.

    Hold the run while you do, see `RunDirectory.locked`.

    Args:
        experiment: What to train.
        run: Where its files are.
        splits: `train` and `valid`, in memory or on disk.
        callbacks: More callbacks for `fit`, to show progress.
        observers: Callbacks that add values to the log of an epoch, for its row of the history.

    Returns:
        The model of the selected epoch.

    Raises:
        ChangedExperimentError: If the directory holds another experiment's run.
        DamagedRunError: If none of its checkpoints can be read.
        NotFiniteError: If the loss is not finite any more; it says at which step, on which rows.
        Stopped: On SIGTERM, saved.
        WriteError: If there is no room for the run's files, or no right to write them.
    """
    ready = prepare(experiment, run, splits, callbacks, observers)
    if not ready.over:
        with termination.graceful():
            ready.model.fit(
                ready.batches,
                shuffle=False,  # of batches, by Keras, from a state that no checkpoint holds
                validation_data=validation_batches(experiment, splits),
                initial_epoch=ready.done,
                epochs=experiment.epochs,
                callbacks=ready.callbacks,
                verbose=0,
            )
    return best_model(run)


@dataclasses.dataclass
class Ready:
    """A run up to its `fit`: new, or as its newest checkpoint left it.

    Attributes:
        model: To be trained.
        batches: What on.
        callbacks: The run's own among them.
        done: Epochs done.
        over: Whether there is none left to do.
    """

    model: WithMissing
    batches: Batches
    callbacks: list[keras.callbacks.Callback]
    done: int
    over: bool


def prepare(
    experiment: Experiment,
    run: RunDirectory,
    splits: Mapping[str, Split | StreamedSplit],
    callbacks: Sequence[keras.callbacks.Callback] = (),
    observers: Sequence[keras.callbacks.Callback] = (),
    share: float = 1.0,
) -> Ready:
    """Begins a run's directory, or finds where it stands.

    Args:
        experiment: As for `train`, which see for errors too.
        run: As for `train`.
        splits: As for `train`.
        callbacks: As for `train`.
        observers: As for `train`.
        share: Of the time that passes, what counts as this run's.
    """
    run.start(experiment)
    fingerprints = {name: split.fingerprint() for name, split in splits.items()}
    run.write_json("environment.json", environment(keras.backend.backend(), fingerprints))

    set_random_seed(experiment.seed)
    batches = train_batches(experiment, splits["train"])
    model = build(experiment, splits["train"])
    rate = float(model.optimizer.learning_rate)
    done, restored = newest_checkpoint(run)
    if restored is not None:
        model = restored
    elif experiment.first_stage_epochs:
        pretraining.teach(model.model, experiment, splits)
    procedure = model.model.training_callbacks(batches)
    keeper = Keeper(run, experiment, model.model, run.read_history()[:done], share)
    return Ready(
        model,
        batches,
        [
            SetEpoch(batches),
            StopNotFinite(batches),
            *procedure,
            *observers,
            keeper,
            Replay(procedure, keeper.history, rate),
            *callbacks,
        ],
        done,
        done >= experiment.epochs or keeper.out_of_patience,
    )


def best_model(run: RunDirectory, compile: bool = True) -> WithMissing:
    """The model of a run's selected epoch.

    Args:
        run: A run that has been trained.
        compile: Whether with its optimizer, metrics and loss.

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
            return keras.saving.load_model(run.best, compile=compile)
    except Exception as error:  # damage shows in many ways: ZIP, HDF5, JSON, shapes
        raise DamagedRunError(
            f"{run.best} must be as keras-m3s wrote it. Received: {error} Bring it back from a "
            "copy, or delete the directory and train the run again."
        ) from error


def newest_checkpoint(run: RunDirectory) -> tuple[int, WithMissing | None]:
    """Epochs done and the model of the newest checkpoint that can be read; `(0, None)` without any.

    Raises:
        DamagedRunError: If there are some and none can be read.
    """
    first: Exception | None = None
    for done, path in run.checkpoints:
        try:
            with tensorflow_unused():
                return done, keras.saving.load_model(path)
        except Exception as error:  # as in `best_model`
            warnings.warn(
                f"{path} cannot be read, the one before it is used: {error}", stacklevel=2
            )
            first = first or error
    if first is None:
        return 0, None
    raise DamagedRunError(
        f"One of the checkpoints in {run.path} must be readable. Received: {first} Delete its "
        "last-*.keras to begin the run anew."
    ) from first


def build(experiment: Experiment, train_split: Split | StreamedSplit) -> WithMissing:
    """The experiment's model, wrapped and compiled, not trained.

    Args:
        experiment: What to build.
        train_split: Training data, for what a model must know of it (number of rows, of classes).
    """
    cls = models.MODELS[experiment.model]
    model = cls(**{**cls.data_arguments(train_split.labels), **experiment.model_arguments})
    missing = transform(
        experiment.missing_rate, experiment.site, experiment.seed, experiment.pattern
    )
    outer: WithMissing
    if experiment.method == "m3s":
        outer = M3S(
            model,
            missing,
            inner_steps=experiment.inner_steps,
            inner_learning_rate=experiment.inner_learning_rate,
            first_order=experiment.first_order,
            site=experiment.site,
        )
    else:
        outer = WithMissing(model, missing, experiment.site)
    outer.compile(model.published_optimizer(experiment.learning_rate), metrics=model.task_metrics())
    return outer


def transform(
    missing_rate: tuple[float, float], site: str, seed: int | None = None, pattern: str = "span"
) -> Any:
    """T for a site: along time on raw sequences, along the features of encoded vectors."""
    options = {} if pattern == "span" else {"pattern": pattern}
    axis = "time" if site == "raw" else "feature"
    return MissingModality(missing_rate, axis=axis, seed=seed, **options)


def train_batches(experiment: Experiment, split: Split | StreamedSplit) -> Batches:
    """Shuffled training data of a method: ORIG brings its own fixed holes, M3S double batches."""
    draws = None
    if experiment.method == "orig":
        draws = fixed_draws(len(split), seed=_stream(experiment.hole_seed, 2 + experiment.seed))
    return Batches(
        split,
        experiment.batch_size,
        shuffle=True,
        seed=experiment.seed,
        double=experiment.method == "m3s",
        draws=draws,
        passes=experiment.passes,
    )


def fixed_batches(experiment: Experiment, split: Split | StreamedSplit, stream: int) -> Batches:
    """Data in order, with the same holes for every method and seed; `stream` tells splits apart."""
    draws = fixed_draws(len(split), seed=_stream(experiment.hole_seed, stream))
    return Batches(split, experiment.batch_size, draws=draws)


def validation_batches(
    experiment: Experiment, splits: Mapping[str, Split | StreamedSplit]
) -> Batches:
    return fixed_batches(experiment, splits["valid"], stream=1)


def _stream(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


class Keeper(keras.callbacks.Callback):
    """Writes history and checkpoints, and stops when patience runs out.

    Args:
        run: Where to write.
        experiment: For its patience.
        model: The base model, which says what validation value counts.
        history: Rows of the epochs already done.
        share: Of the time that passes, what counts as this run's.
    """

    def __init__(
        self,
        run: RunDirectory,
        experiment: Experiment,
        model: models.BaseModel,
        history: list[dict[str, float]],
        share: float = 1.0,
    ) -> None:
        super().__init__()
        self.run, self.share = run, share
        self.experiment = experiment
        self.monitor, self.mode = model.monitor, model.monitor_mode
        self.history = history
        self._saved_at = self._began = time.monotonic()
        self._seconds = run.seconds
        self._newest: pathlib.Path | None = None
        if history:
            self._newest = self._checkpoint_path()

    @property
    def selected_epoch(self) -> int:
        """Index of the epoch that is to be tested, so far."""
        model, select = self.experiment.model, self.experiment.select
        return selection.selected_epoch(self.history, self.monitor, self.mode, model, select)

    @property
    def out_of_patience(self) -> bool:
        patience = self.experiment.patience
        if patience is None or not self.history:
            return False
        best = selection.best_epoch(self.history, self.monitor, self.mode)
        return len(self.history) - 1 - best >= patience

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if termination.asked() and self._saved:
            self._stop()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        row = {"epoch": epoch + 1.0} | {k: float(v) for k, v in sorted((logs or {}).items())}
        self.history.append(row)
        if self.selected_epoch == len(self.history) - 1:
            self._save(self.run.best)
        if self.out_of_patience:
            self.model.stop_training = True
        if termination.asked():
            self._checkpoint()
            self._stop()
        if time.monotonic() - self._saved_at > SAVE_EVERY:
            self._checkpoint()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if not self._saved:
            self._checkpoint()

    @property
    def _saved(self) -> bool:
        """Whether no epoch was done since the newest checkpoint."""
        return not self.history or self._newest == self._checkpoint_path()

    def _checkpoint_path(self) -> pathlib.Path:
        return self.run.path / f"last-{len(self.history):04d}.keras"

    def _checkpoint(self) -> None:
        # The rows first: those beyond the checkpoint are dropped when the run goes on from it.
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
            f"Asked to stop; {len(self.history)} of {self.experiment.epochs} epochs of "
            f"{self.run.path} are saved. The same command goes on from there."
        )

    def _save(self, path: Any) -> None:
        with self.run.writing(path.name) as temporary, tensorflow_unused():
            self.model.save(temporary, overwrite=True)


class Replay(keras.callbacks.Callback):
    """Shows the epochs already done to callbacks that count them (plateaus, schedules).

    Keras' callbacks forget when training begins; what they change in the optimizer was saved with
    it, so that is put back as it was.

    Args:
        callbacks: Those of the model's training; one that has `start_from` is told `rate`.
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
            if hasattr(callback, "start_from"):
                callback.start_from(self.rate)
        before = [keras.ops.convert_to_numpy(v) for v in self.model.optimizer.variables]
        for row in self.rows:
            for callback in self.callbacks:
                callback.on_epoch_end(int(row["epoch"]) - 1, dict(row))
        if self.rows:
            for variable, value in zip(self.model.optimizer.variables, before, strict=True):
                variable.assign(value)
