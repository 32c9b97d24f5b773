"""Callbacks of training on `Batches`: the order of an epoch, a stop at a loss not finite."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_m3s.data.batches import Batches


class SetEpoch(keras.callbacks.Callback):
    """Keeps `Batches.epoch` equal to the epoch of `fit`, so that a resumed run goes on as it would.

    Args:
        batches: What `fit` trains on.
    """

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.batches.epoch = epoch


NAMED = 8
"""Rows of a batch whose ids stand in the message; the error has all."""


class NotFiniteError(FloatingPointError):
    """The loss of a training is NaN or infinite.

    Attributes:
        epoch: The epoch, from 1.
        step: The step in it, from 1.
        ids: Of all rows of the step's batch.
    """

    def __init__(self, value: float, name: str, epoch: int, step: int, ids: list[str]) -> None:
        self.epoch, self.step, self.ids = epoch, step, ids
        named = ", ".join(ids[:NAMED])
        more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
        super().__init__(
            f"The loss must stay finite. Received: {name}={value} at step {step} of epoch {epoch}, "
            f"whose batch was {named}{more}. Lower the learning rates, or look at these rows with "
            "`keras-m3s inspect`; the run can go on from its last checkpoint."
        )


class StopNotFinite(keras.callbacks.Callback):
    """Ends training with `NotFiniteError` at the first step whose loss is not finite.

    Keras brings the loss of each step to the host for any callback that sees batches, so to look at
    it costs nothing.

    Args:
        batches: What is trained on, in its order, one batch a step.
    """

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches = batches
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        # The mean so far in the epoch: once not finite, it stays so.
        self._check("loss", (logs or {})["loss"], batch)
        self._check("adapted_loss", (logs or {}).get("adapted_loss", 0.0), batch)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        # The last update may ruin the model after its loss was taken: validation shows it.
        self._check("val_loss", (logs or {}).get("val_loss", 0.0), len(self.batches) - 1)

    def _check(self, name: str, value: float, batch: int) -> None:
        if np.isfinite(value):
            return
        self.batches.epoch = self.epoch  # batches may have been drawn ahead, of the next one
        ids = [self.batches.split.ids[row] for row in self.batches.rows(batch)]
        raise NotFiniteError(float(value), name, self.epoch + 1, batch + 1, ids)
