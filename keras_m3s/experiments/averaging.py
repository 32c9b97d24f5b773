"""Averaged weights of a run: what is validated, selected, saved as the best, tested and served.

    a_1 = w_1,    a_t = momentum a_(t-1) + (1 - momentum) w_t        after each batch t

The optimizer keeps the averages (Keras' `use_ema`). Training goes on from w; outside of `averaged`
the variables hold w, so that a resumed run goes on exactly.

`keras.callbacks.SwapEMAWeights` does not serve here (Keras 3.15): on TensorFlow it swaps by adding
and subtracting, which rounds w; after early stopping the model is left with w; and it keeps w for
no checkpoint of the last epoch.

Reference: Polyak & Juditsky, SIAM J. Control Optim. 30, 1992.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import ops

from keras_m3s.utils import keras_private


@contextlib.contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """A scope in which a model's trainable weights are their averages.

    Without averages it changes nothing. Other variables, such as the statistics of batch
    normalisation, are not averaged.

    Args:
        model: A compiled model; `use_ema` of its optimizer says whether there are averages.
    """
    pairs = _pairs(model)
    # Copies: two JAX variables that share memory cannot both be given to a compiled step.
    before = [ops.copy(variable) for variable, _ in pairs]
    for variable, average in pairs:
        variable.assign(ops.copy(average))
    try:
        yield
    finally:
        for (variable, _), value in zip(pairs, before, strict=True):
            variable.assign(value)


def _pairs(model: keras.Model) -> list[tuple[keras.Variable, keras.Variable]]:
    """Trainable variables with their averages, once there has been a step."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not int(ops.convert_to_numpy(optimizer.iterations)):
        return []
    return keras_private.averaged_variables(model)


class ValidateAverages(keras.callbacks.Callback):
    """Validation within `fit` on averaged weights, if the optimizer keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self._scope = contextlib.ExitStack()

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._scope.enter_context(averaged(self.model))

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._scope.close()
