"""Training of an experiment into its run directory; an interrupted run resumes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_m3s.data.batches import Batches
from keras_m3s.data.callbacks import SetEpoch, StopNotFinite
from keras_m3s.data.split import SplitLike
from keras_m3s.experiments import own_model
from keras_m3s.experiments.averaging import ValidateAverages
from keras_m3s.experiments.build import build, needs_spec, train_batches, validation_batches
from keras_m3s.experiments.checkpoints import (
    ReplayHistory,
    RunCheckpoint,
    best_model,
    newest_checkpoint,
)
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.environment import record
from keras_m3s.experiments.labels import check_labels
from keras_m3s.experiments.programs import TRAINING, Programs
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.experiments.spec import spec_of
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.models.hooks import of as hooks_of
from keras_m3s.registry import models
from keras_m3s.utils import termination
from keras_m3s.utils.backend import set_random_seed


def train(
    experiment: Experiment,
    run: RunDirectory,
    splits: Mapping[str, SplitLike],
    callbacks: Sequence[keras.callbacks.Callback] = (),
    observers: Sequence[keras.callbacks.Callback] = (),
    programs: Programs | None = None,
) -> WithMissing:
    """Trains an experiment to its end; an interrupted run is resumed, a finished one returned.

    Hold the run's lock meanwhile, see `RunDirectory.locked`.

    Args:
        experiment: What to train.
        run: Its directory.
        splits: `train` and `valid`, in memory or on disk.
        callbacks: More callbacks for `fit`, to show progress.
        observers: Callbacks that add values to an epoch's log, for its row of the history.
        programs: Where to share what is compiled.

    Returns:
        The model of the selected epoch.

    Raises:
        ChangedExperimentError: If the directory holds a run of another experiment, or one that was
            begun on other data or another backend.
        DamagedRunError: If none of its checkpoints can be read.
        NotFiniteError: If the loss becomes NaN or infinite; it names the step and its rows.
        Stopped: On SIGTERM, after saving.
        ValueError: If the labels cannot be trained on.
        WriteError: If the run's files cannot be written.
    """
    setup = set_up(experiment, run, splits, callbacks, observers)
    if not setup.finished:
        if programs is not None:
            programs.share(setup.model, experiment, TRAINING)
        with termination.graceful():
            setup.model.fit(
                setup.batches,
                shuffle=False,  # of batches, by Keras, from a state that no checkpoint holds
                validation_data=validation_batches(experiment, splits),
                initial_epoch=setup.epochs_done,
                epochs=experiment.epochs,
                callbacks=setup.callbacks,
                verbose=0,
            )
    return best_model(run)


@dataclasses.dataclass
class TrainingSetup:
    """What `fit` needs, fresh or restored from the newest checkpoint.

    Attributes:
        model: The model to train.
        batches: Training batches.
        callbacks: All callbacks, the run's own among them.
        epochs_done: Number of epochs already done.
        finished: Whether there is none left to do.
    """

    model: WithMissing
    batches: Batches
    callbacks: list[keras.callbacks.Callback]
    epochs_done: int
    finished: bool


def set_up(
    experiment: Experiment,
    run: RunDirectory,
    splits: Mapping[str, SplitLike],
    callbacks: Sequence[keras.callbacks.Callback] = (),
    observers: Sequence[keras.callbacks.Callback] = (),
) -> TrainingSetup:
    """Starts a run, or restores it from its newest checkpoint.

    Args:
        experiment: As for `train`, also for errors.
        run: As for `train`.
        splits: As for `train`.
        callbacks: As for `train`.
        observers: As for `train`.
    """
    num_classes = check_labels(experiment.dataset, splits)
    run.start(experiment)
    if not run.checkpoints:
        run.best.unlink(missing_ok=True)  # of an interrupted start, maybe on other data
    record(run, keras.backend.backend(), splits)

    set_random_seed(experiment.seed)
    batches = train_batches(experiment, splits["train"])
    spec = spec_of(splits["train"], num_classes) if needs_spec(experiment) else None
    model = build(experiment, splits["train"], num_classes, spec)
    if spec is not None and models.is_own(experiment.model):
        own_model.keep(experiment, run, spec)
    learning_rate = float(model.optimizer.learning_rate)
    epochs_done, restored = newest_checkpoint(run)
    if restored is not None:
        model = restored
    elif experiment.first_stage_epochs:
        _pretrain(model.model, experiment, splits)
    of_model = hooks_of(model.model).training_callbacks(batches)
    checkpoint = RunCheckpoint(run, experiment, model.model, run.read_history()[:epochs_done])
    return TrainingSetup(
        model,
        batches,
        [
            SetEpoch(batches),
            StopNotFinite(batches),
            ValidateAverages(),
            *of_model,
            *observers,
            checkpoint,
            ReplayHistory(of_model, checkpoint.history, learning_rate),
            *callbacks,
        ],
        epochs_done,
        epochs_done >= experiment.epochs or checkpoint.out_of_patience,
    )


def _pretrain(model: keras.Model, experiment: Experiment, splits: Mapping[str, SplitLike]) -> None:
    """Trains the first stage of a model that has one, on complete input.

    It depends on the data, the seed and the model's arguments only, and is not saved: a run that is
    interrupted before its first checkpoint repeats it.
    """
    train = Batches(splits["train"], experiment.batch_size, shuffle=True, seed=experiment.seed)
    valid = Batches(splits["valid"], experiment.batch_size)
    with termination.graceful():
        hooks_of(model).pretrain(train, valid, experiment.first_stage_epochs, [_StopOnRequest()])


class _StopOnRequest(keras.callbacks.Callback):
    """Ends a first stage on SIGTERM."""

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if termination.asked():
            raise termination.Stopped(
                "Stopped on request in the first stage, which starts over next time."
            )
