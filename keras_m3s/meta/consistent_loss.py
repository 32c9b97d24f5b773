"""The loss of a training pass with a consistency penalty, as a pure function."""

from typing import Any, Protocol

import keras
from keras import ops

from keras_m3s.meta import consistency
from keras_m3s.meta.functional import (
    Batch,
    LossOutput,
    Model,
    State,
    Values,
    stateless_scope,
    updated_state,
)
from keras_m3s.meta.inputs import TRANSFORMED
from keras_m3s.modalities import DRAWS

NAME = "consistency"
"""Of the penalty in the log."""


class Wrapper(Model, Protocol):
    """The part of `WithMissing` that its training passes use."""

    @property
    def consistency(self) -> consistency.Consistency | None: ...
    @property
    def model(self) -> keras.Model: ...
    @property
    def _penalty(self) -> keras.metrics.Mean | None: ...

    def _features(self, inputs: Any) -> dict[str, Any]: ...


def compute_loss(
    model: Wrapper, averages: Values | None, theta: Values, state: State, batch: Batch
) -> LossOutput:
    """`functional.compute_loss` of a wrapper, plus its penalty, which is in `logs` too.

    Args:
        model: A wrapper with `consistency`.
        averages: Averaged weights in the order of `theta`, for the teacher that has them.
        theta: Values of `trainable_variables`.
        state: Values of all other variables.
        batch: `(x, y, sample_weight)` as `passes.paired` makes it, maybe with T applied already.

    Raises:
        ValueError: There are no averages and the teacher needs them, or a name is unknown.
    """
    settings, (x, y, sample_weight) = model.consistency, batch
    assert settings is not None
    with stateless_scope(model, theta, state) as scope:
        with consistency.recorded(model.model, settings.layer) as found:
            outputs = model(x, training=True)
        loss = model.compute_loss(x, y, outputs, sample_weight, training=True)
    after = updated_state(model, state, scope)
    compared = found
    if settings.layer is None:
        compared = _predictions(model.model, outputs)
        settings.check_names(compared)
    if settings.teacher is None:
        first, second = consistency.halves(compared)
    else:
        values = theta if settings.teacher == "complete" else averages
        if values is None:
            raise ValueError(
                "With teacher='average' the optimizer must average the weights. Received: one with "
                "use_ema=False. Compile with, for example, keras.optimizers.Adam(use_ema=True)."
            )
        measured = {name: value for name, value in x.items() if name not in (DRAWS, TRANSFORMED)}
        stopped = [ops.stop_gradient(value) for value in values]
        with (
            stateless_scope(model, stopped, after),
            consistency.recorded(model.model, settings.layer) as seen,
        ):
            taught = model(measured, training=False)
        first = compared
        second = seen if settings.layer else _predictions(model.model, taught)
        _check_alike(first, second)
        second = keras.tree.map_structure(ops.stop_gradient, second)
    penalty = settings.penalty(model.model, y, first, second)
    return LossOutput(loss + ops.cast(penalty, loss.dtype), outputs, after, {NAME: penalty})


def _predictions(model: keras.Model, outputs: Any) -> Any:
    """What is compared of a model's outputs: all, unless it says which are its predictions."""
    of = getattr(model, "prediction_of", None)
    return outputs if of is None else of(outputs)


def _check_alike(first: Any, second: Any) -> None:
    """Raises unless a teacher's outputs are those of the training pass."""
    shapes = [
        keras.tree.map_structure(lambda array: tuple(array.shape), one) for one in (first, second)
    ]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "With a teacher a model must return in training what it returns otherwise. "
            f"Received: outputs of shapes {shapes[0]} in training, {shapes[1]} otherwise. Name a "
            "layer that is called as often in both with `Consistency(layer=...)`, or give the "
            "model a method `prediction_of(outputs)` that returns what is compared."
        )
