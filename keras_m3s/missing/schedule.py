"""Schedules of the missing rate over epochs."""

from collections.abc import Callable
from typing import Any

import keras

from keras_m3s.missing.layer import MissingModality


class MissingRateSchedule(keras.callbacks.Callback):
    """Sets the missing rate of a layer at epoch start, without recompiling.

    Examples:
        >>> easy_first = MissingRateSchedule(lambda epoch: (0.0, min(0.8, 0.1 * epoch)))
        >>> model.fit(x, y, epochs=20, callbacks=[easy_first])

    Args:
        schedule: Function from the epoch, counted from 0, to a `missing_rate` as
            `MissingModality` takes it.
        layer: The layer; default the attribute `missing` of the model that is trained.
    """

    def __init__(
        self, schedule: Callable[[int], Any], layer: MissingModality | None = None
    ) -> None:
        super().__init__()
        self.schedule, self.layer = schedule, layer

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        layer = self.layer or getattr(self.model, "missing", None)
        if not isinstance(layer, MissingModality):
            raise ValueError(
                "`layer` must be a MissingModality, or the model must have one as `missing`. "
                f"Received: layer={self.layer!r}, a {type(self.model).__name__}."
            )
        layer.missing_rate = self.schedule(epoch)
