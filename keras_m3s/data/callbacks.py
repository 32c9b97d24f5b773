"""Callbacks for training on `Batches`: the epoch number, and a stop at a NaN or infinite loss."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_m3s.data.batches import Batches


class SetEpoch(keras.callbacks.Callback):
    """Sets `Batches.epoch` to the epoch of `fit`, so that a resumed run has the same batches.

    Args:
        batches: The batches that `fit` trains on.
    """

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.batches.epoch = epoch


SHOWN_IDS = 8
"""Number of ids in the message of `NotFiniteError`; its attribute `ids` has all."""


class NotFiniteError(FloatingPointError):
    """The training or validation loss became NaN or infinite.

    Attributes:
        epoch: Number of the epoch, from 1.
        step: Number of the step in it, from 1.
        ids: Ids of all rows of the step's batch.
    """

    def __init__(self, value: float, name: str, epoch: int, step: int, ids: list[str]) -> None:
        self.epoch, self.step, self.ids = epoch, step, ids
        shown = ", ".join(ids[:SHOWN_IDS])
        more = f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
        super().__init__(
            f"The loss must stay finite. Received: {name}={value} at step {step} of epoch {epoch}, "
            f"whose batch was {shown}{more}. Lower the learning rates, or look at these rows with "
            "`keras-m3s inspect`; the run can go on from its last checkpoint."
        )


class StopNotFinite(keras.callbacks.Callback):
    """Stops training when the loss becomes NaN or infinite, and names the batch's rows.

    Raises `NotFiniteError`. The check is free: for any callback with `on_train_batch_end`, Keras
    copies the loss of each step to the host.

    Args:
        batches: The batches that `fit` trains on, in order and one per step.
    """

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches = batches
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        # A running mean over the epoch, which stays NaN or infinite.
        self._check("loss", (logs or {})["loss"], batch)
        self._check("adapted_loss", (logs or {}).get("adapted_loss", 0.0), batch)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        # The last update of an epoch shows in the validation loss only.
        self._check("val_loss", (logs or {}).get("val_loss", 0.0), len(self.batches) - 1)

    def _check(self, name: str, value: float, batch: int) -> None:
        if np.isfinite(value):
            return
        self.batches.epoch = self.epoch  # prefetching may have moved on to the next epoch
        ids = [self.batches.split.ids[row] for row in self.batches.rows(batch)]
        raise NotFiniteError(float(value), name, self.epoch + 1, batch + 1, ids)
