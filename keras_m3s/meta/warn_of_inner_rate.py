"""A callback that warns where the inner loop, which serving does not run, does the work."""

import warnings
from collections.abc import Mapping
from typing import Any

import keras

APART = 2.0
"""How many times the loss at theta_K that at theta may be before `fit` warns."""


class WarnOfInnerRate(keras.callbacks.Callback):
    """Warns once when adapted weights do much better than those that are served."""

    def __init__(self) -> None:
        super().__init__()
        self.warned = False

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        served, adapted = ((logs or {}).get(name) for name in ("loss", "adapted_loss"))
        if self.warned or epoch == 0 or served is None or adapted is None:
            return
        if float(served) > APART * float(adapted) > 0:
            self.warned = True
            warnings.warn(
                f"The loss of the weights that are served is {float(served):.4g}, after the inner "
                f"steps it is {float(adapted):.4g}: the model needs the inner steps, which serving "
                "does not take. Lower `inner_learning_rate`, or use `WithMissing`.",
                stacklevel=2,
            )
