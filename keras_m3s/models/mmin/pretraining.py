"""Stage 1 of MMIN: its teacher, trained on complete input.

Reference: AIM3-RUC/MMIN 69a45fe, its training script of June 2021.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_m3s.data.batches import Batches
from keras_m3s.data.callbacks import SetEpoch, StopNotFinite
from keras_m3s.models.mmin.utt_fusion import UttFusion

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

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        value = self.sign * float((logs or {})[self.monitor])
        if value > self.value:
            self.value, self.weights = value, self.model.get_weights()


def train_teacher(
    teacher: UttFusion,
    train: Batches,
    valid: Batches,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> UttFusion:
    """Trains a teacher and leaves it with the weights of its best epoch.

    Args:
        teacher: Not trained.
        train: Training data without holes.
        valid: Validation data without holes, which chooses the epoch.
        epochs: Half of them at the full rate, then lower ones.
        callbacks: More callbacks for `fit`.

    Returns:
        `teacher`.

    Raises:
        NotFiniteError: If its loss is not finite.
    """
    constant = epochs // 2
    best = KeepBest(teacher.monitor, teacher.monitor_mode)
    teacher.compile(teacher.published_optimizer(LEARNING_RATE), metrics=teacher.task_metrics())
    teacher.fit(
        train,
        shuffle=False,
        validation_data=valid,
        epochs=epochs,
        callbacks=[
            SetEpoch(train),
            StopNotFinite(train),
            *teacher.training_callbacks(train, constant, epochs - constant),
            best,
            *callbacks,
        ],
        verbose=0,
    )
    teacher.set_weights(best.weights)
    return teacher
