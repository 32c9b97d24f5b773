"""The loss of a batch as a pure function of a model's parameters and state.

No function here reads or writes a variable, except `assign_state`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import keras

from keras_m3s.utils import keras_private

Tensor: TypeAlias = Any
"""A tensor of Keras' backend, or what the backend converts to one."""

Values: TypeAlias = list[Tensor]
"""Values of a list of variables, in its order."""

Batch: TypeAlias = tuple[Any, Any, Any]
"""`(x, y, sample_weight)`, each a structure of tensors or `None`."""


class State(NamedTuple):
    """Non-parameter state a forward pass may update.

    Attributes:
        non_trainable: Values of `non_trainable_variables`.
        metrics: Values of `metrics_variables`.
    """

    non_trainable: Values
    metrics: Values


class LossOutput(NamedTuple):
    """Result of a forward pass and its loss.

    Attributes:
        loss: Scalar, without the optimizer's loss scale.
        outputs: The model's outputs.
        state: The state afterwards.
        logs: More values for the log of a training step.
    """

    loss: Tensor
    outputs: Any
    state: State
    logs: Mapping[str, Tensor] = {}


LossFunction: TypeAlias = Callable[[Values, State, Batch], LossOutput]
"""`(theta, state, batch) -> LossOutput`, a pure function."""


class OfOptimizer(NamedTuple):
    """What a step takes of the optimizer besides its update.

    Attributes:
        loss_scale: The factor that it puts on a loss, or `None` if it has none.
        averages: Moving averages of the trainable variables, in their order, or `None` if it keeps
            none. Before its first update they are the variables' own values.
    """

    loss_scale: Tensor | None = None
    averages: Values | None = None


BatchGradient: TypeAlias = Callable[
    [Values, State, Batch, OfOptimizer], tuple[Values, LossOutput, Batch]
]
"""`(theta, state, batch, of_optimizer)` to the gradients of the scaled loss, the `LossOutput` whose
loss and state count, and the rows that its outputs are for."""


class Model(Protocol):
    """The part of `keras.Model` used here; Keras is untyped, so mypy checks against this."""

    @property
    def trainable_variables(self) -> list[keras.Variable]: ...
    @property
    def non_trainable_variables(self) -> list[keras.Variable]: ...
    @property
    def metrics_variables(self) -> list[keras.Variable]: ...
    @property
    def optimizer(self) -> keras.optimizers.Optimizer: ...

    def __call__(self, inputs: Any, training: bool | None = None) -> Any: ...

    def compute_loss(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool = True
    ) -> Tensor: ...

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Tensor]: ...


def compute_loss(
    model: Model, trainable: Values, state: State, batch: Batch, training: bool = True
) -> LossOutput:
    """Forward pass and loss of a batch, as a pure function.

    Both run in one stateless scope, so that `add_loss` and regularisers count.

    Args:
        model: Any built and compiled `keras.Model`.
        trainable: Values of `trainable_variables`.
        state: Values of all other variables.
        batch: `(x, y, sample_weight)`.
        training: As in `keras.Model.call`.

    Returns:
        Loss, outputs and the state afterwards.
    """
    x, y, sample_weight = batch
    with stateless_scope(model, trainable, state) as scope:
        outputs = model(x, training=training)
        loss = model.compute_loss(x, y, outputs, sample_weight, training=training)
    return LossOutput(loss, outputs, updated_state(model, state, scope))


def stateless_scope(model: Model, trainable: Values, state: State) -> keras.StatelessScope:
    """A scope in which the model's variables have the given values."""
    variables = [
        *model.trainable_variables,
        *model.non_trainable_variables,
        *model.metrics_variables,
    ]
    values = [*trainable, *state.non_trainable, *state.metrics]
    return keras.StatelessScope(
        state_mapping=list(zip(variables, values, strict=True)), collect_losses=True
    )


def updated_state(model: Model, before: State, scope: keras.StatelessScope) -> State:
    """`before` with the updates that were made in `scope`."""
    return State(
        _updated(scope, model.non_trainable_variables, before.non_trainable),
        _updated(scope, model.metrics_variables, before.metrics),
    )


def _updated(
    scope: keras.StatelessScope, variables: list[keras.Variable], before: Values
) -> Values:
    values = (scope.get_current_value(v) for v in variables)
    return [old if new is None else new for old, new in zip(before, values, strict=True)]


def assign_state(model: Model, before: State, after: State) -> None:
    """Assigns the values that changed to the model's variables."""
    variables = [*model.non_trainable_variables, *model.metrics_variables]
    values = zip(variables, [*before.non_trainable, *before.metrics],
                 [*after.non_trainable, *after.metrics], strict=True)  # fmt: skip
    for variable, old, new in values:
        if new is not old:
            variable.assign(new)


def loss_scale(optimizer: keras.optimizers.Optimizer) -> Tensor | None:
    """The factor that the optimizer puts on a loss, or `None` if it has none."""
    scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if not scales and getattr(optimizer, "loss_scale_factor", None) is None:
        return None
    return optimizer.scale_loss(keras.ops.ones((), "float32"))


def of_optimizer(model: Model, theta: Values) -> OfOptimizer:
    """What a step takes of the optimizer, from its variables' current values.

    Args:
        model: A compiled model whose optimizer is built.
        theta: Values of its trainable variables.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    averages = None
    if optimizer.use_ema:
        started = keras.ops.greater(optimizer.iterations, 0)
        kept = keras_private.averages(optimizer, model.trainable_variables)
        averages = [
            keras.ops.where(started, keras.ops.cast(average, value.dtype), value)
            for average, value in zip(kept, theta, strict=True)
        ]
    return OfOptimizer(loss_scale(model.optimizer), averages)


def scaled_loss(output: LossOutput, scale: Tensor | None) -> tuple[Tensor, LossOutput]:
    """The scaled loss, and the output as it is."""
    return output.loss if scale is None else output.loss * scale, output


def batch_size(x: Any) -> Any:
    """Number of rows of a batch's inputs, an int or a scalar tensor."""
    return keras.ops.shape(next(i for i in keras.tree.flatten(x) if i is not None))[0]
