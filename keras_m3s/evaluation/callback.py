"""What a model withstands, epoch by epoch."""

import statistics
from collections.abc import Sequence
from typing import Any

import keras

from keras_m3s.evaluation.robustness import robustness


class RobustnessCallback(keras.callbacks.Callback):
    """Adds to each epoch's log the metrics at some missing rates: `val_accuracy@0.5`.

    Put it before callbacks that read these values, such as `EarlyStopping`.

    Examples:
        >>> tested = RobustnessCallback(x_valid, y_valid, rates=(0.5,))
        >>> stop = keras.callbacks.EarlyStopping("val_accuracy@0.5", mode="max", patience=5)
        >>> model.fit(x, y, epochs=50, callbacks=[tested, stop])

    Args:
        x: Validation inputs, as of `robustness`.
        y: Labels.
        rates: Missing rates.
        pattern: Name of a pattern.
        draws: Draws of the holes, whose mean is logged; the same in all epochs.
        **arguments: As of `robustness`.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        rates: Sequence[float] = (0.5,),
        pattern: str = "span",
        draws: int = 1,
        **arguments: Any,
    ) -> None:
        super().__init__()
        self.x, self.y, self.rates = x, y, tuple(rates)
        self.arguments = {"patterns": (pattern,), "draws": draws, "absent": False, **arguments}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is None:
            return
        table = robustness(self.model, self.x, self.y, rates=self.rates, **self.arguments)
        for rate in self.rates:
            found = [result for result in table.results if result.rate == rate]
            for metric in table.metrics:
                mean = statistics.fmean(result.metrics[metric] for result in found)
                logs[f"val_{metric}@{rate:g}"] = mean
