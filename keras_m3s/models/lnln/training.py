"""LNLN's training: PyTorch's AdamW, and a learning rate with warm-up and cosine decay.

Reference: train.py and core/scheduler.py of Haoyu-ha/LNLN, 80a052c.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_m3s.models.schedule import ScheduleCallback
from keras_m3s.optimizers import GroupedAdam

WARMUP = 0.1
"""Share of the epochs in which the rate rises."""


@keras.saving.register_keras_serializable(package="keras_m3s")
class DecoupledAdam(GroupedAdam):
    """`torch.optim.AdamW`: `GroupedAdam` with decoupled weight decay.

        w <- (1 - lr * weight_decay) w                  then Adam's step, without decay

    Args:
        **kwargs: As of `GroupedAdam`.
    """

    def build(self, variables: Sequence[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        self._decoupled, self._decays = self._decays, (0.0,) * len(self._decays)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        if decay := self._decoupled[index] * self._multipliers[index]:
            shrink = ops.cast(ops.cast(learning_rate, "float32") * decay, variable.dtype)
            self.assign_sub(variable, ops.multiply(variable, shrink))
        super().update_step(gradient, variable, learning_rate)


class WarmupCosine(ScheduleCallback):
    """The published learning rate, set at the start of each epoch.

    With n epochs, epoch e counted from 0 and the first one beyond the warm-up s = floor(.1 n) + 1:

        e <= .1 n       rate e / (.1 n), which is 0 in the first epoch
        e >= s          rate (1 + cos(pi (e - s) / (.9 n))) / 2

    Args:
        epochs: n; `None` for the number that `fit` is given. A single epoch changes no weight.
    """

    def __init__(self, epochs: int | None = None) -> None:
        super().__init__()
        if epochs is not None and epochs < 1:
            raise ValueError(f"`epochs` must be >= 1 or None. Received: epochs={epochs!r}.")
        self.epochs = epochs

    def factor(self, epoch: int) -> float:
        """What the rate is multiplied by in an epoch, counted from 0."""
        epochs = self.epochs or self.params["epochs"]
        warmup = WARMUP * epochs
        if epoch <= warmup:
            return epoch / warmup
        past = min(epoch, epochs - 1) - (math.floor(warmup) + 1)
        return 0.5 * (1.0 + math.cos(math.pi * past / ((1.0 - WARMUP) * epochs)))

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        if (self.epochs or self.params["epochs"]) == 1:
            warnings.warn(
                "The published schedule begins with a rate of 0, so a single epoch changes no "
                "weight. Train for two or more.",
                stacklevel=2,
            )
