"""A learning rate that follows the epoch, over interrupted, resumed and repeated calls of `fit`."""

import weakref
from typing import Any

import keras

_LAST_SET: weakref.WeakKeyDictionary[Any, tuple[float, float]] = weakref.WeakKeyDictionary()
"""Optimizer -> the rate that a schedule last set, and the full rate that it is a part of."""


class ScheduleCallback(keras.callbacks.Callback):
    """Sets the rate of each epoch: the full rate times `factor(epoch)`.

    The full rate is the one that the optimizer has before its first scheduled epoch. A later `fit`
    with the same optimizer starts from it again, unless the rate was changed in between. A loaded
    optimizer has the rate of the epoch that it was saved in: with `initial_epoch` the schedule is
    divided out of it, which rounds. It is exact if `start_from` tells the full rate.
    """

    def __init__(self) -> None:
        super().__init__()
        self.base: float | None = None

    def factor(self, epoch: int) -> float:
        """What the full rate is multiplied by in an epoch, counted from 0."""
        raise NotImplementedError(f"{type(self).__name__} must define `factor`.")

    def start_from(self, rate: float) -> None:
        """Sets the full rate, after training has begun."""
        self.base = rate

    def on_train_begin(self, logs: Any = None) -> None:
        self.base = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        optimizer = self.model.optimizer
        if self.base is None:
            self.base = self._full_rate(epoch)
        optimizer.learning_rate = self.base * self.factor(epoch)
        _LAST_SET[optimizer] = float(optimizer.learning_rate), self.base

    def _full_rate(self, epoch: int) -> float:
        optimizer = self.model.optimizer
        rate = float(optimizer.learning_rate)
        last, base = _LAST_SET.get(optimizer, (None, 0.0))
        if rate == last:
            return base
        before = self.factor(epoch - 1) if epoch else 1.0
        if not rate or not before:
            raise ValueError(
                "The optimizer's learning rate must be > 0 when a schedule starts. Received: "
                f"learning_rate={rate:g}, initial_epoch={epoch}. Set `optimizer.learning_rate` to "
                "the full rate; to resume after an epoch of rate 0, call `start_from(rate)` in "
                "`on_train_begin`."
            )
        return rate / before
