"""`Experiment` -> trained run directory; an interrupted run resumes where it was saved."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_m3s.data.batches import Batches
from keras_m3s.data.callbacks import SetEpoch, StopNotFinite
from keras_m3s.data.split import SplitLike
from keras_m3s.experiments.build import build, train_batches, validation_batches
from keras_m3s.experiments.checkpoints import (
    ReplayHistory,
    RunCheckpoint,
    best_model,
    newest_checkpoint,
)
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.run_directory import RunDirectory, environment
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.models.base import BaseModel
from keras_m3s.utils import termination
from keras_m3s.utils.backend import set_random_seed


def train(
    experiment: Experiment,
    run: RunDirectory,
    splits: Mapping[str, SplitLike],
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
    """What `fit` needs, fresh or restored from the newest checkpoint.

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
    splits: Mapping[str, SplitLike],
    callbacks: Sequence[keras.callbacks.Callback] = (),
    observers: Sequence[keras.callbacks.Callback] = (),
) -> Ready:
    """Begins a run's directory, or finds where it stands.

    Args:
        experiment: As for `train`, which see for errors too.
        run: As for `train`.
        splits: As for `train`.
        callbacks: As for `train`.
        observers: As for `train`.
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
        _pretrain(model.model, experiment, splits)
    procedure = model.model.training_callbacks(batches)
    keeper = RunCheckpoint(run, experiment, model.model, run.read_history()[:done])
    return Ready(
        model,
        batches,
        [
            SetEpoch(batches),
            StopNotFinite(batches),
            *procedure,
            *observers,
            keeper,
            ReplayHistory(procedure, keeper.history, rate),
            *callbacks,
        ],
        done,
        done >= experiment.epochs or keeper.out_of_patience,
    )


def _pretrain(model: BaseModel, experiment: Experiment, splits: Mapping[str, SplitLike]) -> None:
    """Trains the first stage of a model that has one, on complete input.

    It depends on the data, the seed and the model's arguments only, and is not saved: a run that is
    cut off before its own first checkpoint trains the same first stage again.
    """
    train = Batches(splits["train"], experiment.batch_size, shuffle=True, seed=experiment.seed)
    valid = Batches(splits["valid"], experiment.batch_size)
    with termination.graceful():
        model.pretrain(train, valid, experiment.first_stage_epochs, [_StopOnRequest()])


class _StopOnRequest(keras.callbacks.Callback):
    """Ends a first stage when the process is asked to stop."""

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if termination.asked():
            raise termination.Stopped(
                "Asked to stop in the first stage, which begins anew next time."
            )
