"""The first of two stages: a teacher, trained on complete input, for a model that wants one (MMIN).

The teacher depends on the data, the seed and the model's arguments only. It is not saved: a run
that is cut off before its own first checkpoint trains the same teacher again.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_m3s.data.batches import Batches
from keras_m3s.data.callbacks import SetEpoch, StopNotFinite
from keras_m3s.data.split import Split
from keras_m3s.data.streaming import StreamedSplit
from keras_m3s.experiments.config import Experiment
from keras_m3s.utils import termination

LEARNING_RATE = 5e-4
"""Of stage 1 in MMIN's script of June 2021."""


class KeepBest(keras.callbacks.Callback):
    """Holds the weights of the epoch with the best validation value.

    Args:
        monitor: Name of the value.
        mode: `"min"` or `"max"`.
    """

    def __init__(self, monitor: str, mode: str) -> None:
        super().__init__()
        self.monitor, self.sign = monitor, 1 if mode == "max" else -1
        self.value = -np.inf
        self.weights: list[Any] | None = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if termination.asked():
            raise termination.Stopped(
                "Asked to stop in the first stage, which begins anew next time."
            )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        value = self.sign * float((logs or {})[self.monitor])
        if value > self.value:
            self.value, self.weights = value, self.model.get_weights()


def teach(model: Any, experiment: Experiment, splits: Mapping[str, Split | StreamedSplit]) -> None:
    """Trains the model's first stage and hands it over.

    Args:
        model: The base model, not trained.
        experiment: Gives `first_stage_epochs`, half of them at the full rate, `batch_size`, `seed`.
        splits: `train` and `valid`, taken without holes.

    Raises:
        ValueError: If the model has no first stage.
        NotFiniteError: If its loss is not finite any more.
    """
    stage = model.first_stage()
    if stage is None:
        raise ValueError(
            f"`first_stage_epochs` must be 0 for a model without a first stage. Received: "
            f"{experiment.first_stage_epochs} for {experiment.model}."
        )
    train = Batches(splits["train"], experiment.batch_size, shuffle=True, seed=experiment.seed)
    constant = experiment.first_stage_epochs // 2
    decay = experiment.first_stage_epochs - constant
    best = KeepBest(stage.monitor, stage.monitor_mode)
    stage.compile(stage.published_optimizer(LEARNING_RATE), metrics=stage.task_metrics())
    with termination.graceful():
        stage.fit(
            train,
            shuffle=False,
            validation_data=Batches(splits["valid"], experiment.batch_size),
            epochs=experiment.first_stage_epochs,
            callbacks=[
                SetEpoch(train),
                StopNotFinite(train),
                *stage.training_callbacks(train, constant, decay),
                best,
            ],
            verbose=0,
        )
    stage.set_weights(best.weights)
    model.load_teacher(stage)
