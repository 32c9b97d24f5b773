"""`Experiment` -> trained run directory; interrupted, it goes on from where it was saved."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_m3s import models
from keras_m3s.batches import Batches, SetEpoch
from keras_m3s.data import Split
from keras_m3s.experiment import Experiment
from keras_m3s.meta.m3s import M3S
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.missing import MissingModality, fixed_draws
from keras_m3s.runs import RunDirectory, environment
from keras_m3s.stream import StreamedSplit

SAVE_EVERY = 10.0
"""Seconds of training that a kill may cost."""


def train(
    experiment: Experiment,
    run: RunDirectory,
    splits: Mapping[str, Split | StreamedSplit],
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> WithMissing:
    """Trains an experiment to its end; an interrupted run goes on, a finished one is used.

    Args:
        experiment: What to train.
        run: Where its files are.
        splits: `train` and `valid`, in memory or on disk.
        callbacks: More callbacks for `fit`, to show progress.

    Returns:
        The model of the best validation value.

    Raises:
        ChangedExperimentError: If the directory holds another experiment's run.
        FloatingPointError: If the loss is not finite any more.
    """
    run.start(experiment)
    fingerprints = {name: split.fingerprint() for name, split in splits.items()}
    run.write_json("environment.json", environment(keras.backend.backend(), fingerprints))

    keras.utils.set_random_seed(experiment.seed)
    batches = train_batches(experiment, splits["train"])
    model = build(experiment, splits["train"])
    done = 0
    if run.last:
        done, checkpoint = run.last
        model = keras.saving.load_model(checkpoint)
    procedure = model.model.training_callbacks(batches)
    keeper = Keeper(run, experiment, model.model, run.read_history()[:done])
    if done < experiment.epochs and not keeper.out_of_patience:
        model.fit(
            batches,
            shuffle=False,  # of batches, by Keras, from a state that no checkpoint holds
            validation_data=fixed_batches(experiment, splits["valid"], stream=1),
            initial_epoch=done,
            epochs=experiment.epochs,
            callbacks=[
                SetEpoch(batches),
                *procedure,
                keeper,
                Replay(procedure, keeper.history),
                *callbacks,
            ],
            verbose=0,
        )
    return keras.saving.load_model(run.best)


def build(experiment: Experiment, train_split: Split | StreamedSplit) -> WithMissing:
    """The experiment's model, wrapped and compiled, not trained.

    Args:
        experiment: What to build.
        train_split: Training data, for what a model must know of it (number of rows, of classes).
    """
    cls = models.MODELS[experiment.model]
    model = cls(**{**cls.data_arguments(train_split.labels), **experiment.model_arguments})
    missing = transform(experiment.missing_rate, experiment.site, experiment.seed)
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


def transform(missing_rate: tuple[float, float], site: str, seed: int | None = None) -> Any:
    """T for a site: along time on raw sequences, along the features of encoded vectors."""
    return MissingModality(missing_rate, axis="time" if site == "raw" else "feature", seed=seed)


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
    )


def fixed_batches(experiment: Experiment, split: Split | StreamedSplit, stream: int) -> Batches:
    """Data in order, with the same holes for every method and seed; `stream` tells splits apart."""
    draws = fixed_draws(len(split), seed=_stream(experiment.hole_seed, stream))
    return Batches(split, experiment.batch_size, draws=draws)


def _stream(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


class Keeper(keras.callbacks.Callback):
    """Writes history and checkpoints, and stops when patience or the numbers run out.

    Args:
        run: Where to write.
        experiment: For its patience.
        model: The base model, which says what validation value counts.
        history: Rows of the epochs already done.
    """

    def __init__(
        self,
        run: RunDirectory,
        experiment: Experiment,
        model: models.BaseModel,
        history: list[dict[str, float]],
    ) -> None:
        super().__init__()
        self.run = run
        self.patience = experiment.patience
        self.monitor, self.sign = model.monitor, -1 if model.monitor_mode == "min" else 1
        self.history = history
        self._saved_at = time.monotonic()

    @property
    def best_epoch(self) -> int:
        """Index of the best epoch so far, the first of equals."""
        return int(np.argmax([self.sign * row[self.monitor] for row in self.history]))

    @property
    def out_of_patience(self) -> bool:
        if self.patience is None or not self.history:
            return False
        return len(self.history) - 1 - self.best_epoch >= self.patience

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        row = {"epoch": epoch + 1.0} | {k: float(v) for k, v in sorted((logs or {}).items())}
        if not np.isfinite([row["loss"], row[self.monitor]]).all():
            raise FloatingPointError(
                f"The loss must stay finite. Received: loss={row['loss']}, "
                f"{self.monitor}={row[self.monitor]} in epoch {epoch + 1}. Lower the learning "
                "rates; the run can go on from its last checkpoint."
            )
        self.history.append(row)
        if self.best_epoch == len(self.history) - 1:
            self._save(self.run.best)
        if self.out_of_patience:
            self.model.stop_training = True
        if time.monotonic() - self._saved_at > SAVE_EVERY:
            self._checkpoint()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._checkpoint()

    def _checkpoint(self) -> None:
        # The rows first: those beyond the checkpoint are dropped when the run goes on from it.
        self.run.write_csv("history.csv", self.history)
        older = set(self.run.path.glob("last-*.keras"))
        newest = self.run.path / f"last-{len(self.history):04d}.keras"
        self._save(newest)
        for path in older - {newest}:
            path.unlink()
        self._saved_at = time.monotonic()

    def _save(self, path: Any) -> None:
        with self.run.writing(path.name) as temporary:
            self.model.save(temporary, overwrite=True)


class Replay(keras.callbacks.Callback):
    """Shows the epochs already done to callbacks that count them (plateaus, schedules).

    Keras' callbacks forget when training begins; what they change in the optimizer was saved with
    it, so that is put back as it was.
    """

    def __init__(
        self, callbacks: Sequence[keras.callbacks.Callback], history: list[dict[str, float]]
    ) -> None:
        super().__init__()
        self.callbacks, self.rows = callbacks, list(history)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        before = [keras.ops.convert_to_numpy(v) for v in self.model.optimizer.variables]
        for row in self.rows:
            for callback in self.callbacks:
                callback.on_epoch_end(int(row["epoch"]) - 1, dict(row))
        if self.rows:
            for variable, value in zip(self.model.optimizer.variables, before, strict=True):
                variable.assign(value)
