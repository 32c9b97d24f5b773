"""The loss of one batch as a pure function of the model's state."""

from typing import Any, NamedTuple

import keras


class State(NamedTuple):
    """Values of all that a pass may change beside the parameters."""

    non_trainable: list[Any]
    metrics: list[Any]


class Pass(NamedTuple):
    """What a pass leaves: loss, the model's outputs, and the state after it."""

    loss: Any
    outputs: Any
    state: State


class Objective:
    """Mixin for a `keras.Model` (hence `self: Any`): forward pass and loss, values to values."""

    def scope(self: Any, trainable: list[Any], state: State) -> keras.StatelessScope:
        """A scope in which the model's variables have these values."""
        variables = [
            *self.trainable_variables,
            *self.non_trainable_variables,
            *self.metrics_variables,
        ]
        values = [*trainable, *state.non_trainable, *state.metrics]
        return keras.StatelessScope(
            state_mapping=list(zip(variables, values, strict=True)), collect_losses=True
        )

    def state_after(self: Any, scope: keras.StatelessScope, before: State) -> State:
        """The state that the scope's updates lead to."""
        return State(
            _current(scope, self.non_trainable_variables, before.non_trainable),
            _current(scope, self.metrics_variables, before.metrics),
        )

    def objective(
        self: Any, trainable: list[Any], state: State, data: Any, training: bool = True
    ) -> Pass:
        """Forward pass and loss of a batch.

        Forward pass and loss share one scope, so that `add_loss` and regularisers count.

        Args:
            trainable: Values of `trainable_variables`.
            state: Values of `non_trainable_variables` and `metrics_variables`.
            data: `(x, y, sample_weight)`.
            training: As in `keras.Model.call`.

        Returns:
            `Pass` with the unscaled scalar loss.
        """
        x, y, sample_weight = data
        with self.scope(trainable, state) as scope:
            outputs = self(x, training=training)
            loss = self.compute_loss(x, y, outputs, sample_weight, training=training)
        return Pass(loss, outputs, self.state_after(scope, state))


def _current(scope: Any, variables: list[Any], before: list[Any]) -> list[Any]:
    values = (scope.get_current_value(v) for v in variables)
    return [old if new is None else new for old, new in zip(before, values, strict=True)]


def loss_scale(optimizer: Any) -> Any:
    """What the optimizer multiplies a loss by, or `None` where it leaves it as it is."""
    scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if not scales and getattr(optimizer, "loss_scale_factor", None) is None:
        return None
    return optimizer.scale_loss(keras.ops.ones((), "float32"))


def commit(model: Any, before: State, after: State) -> None:
    """Writes what changed into the model's variables."""
    variables = [*model.non_trainable_variables, *model.metrics_variables]
    values = zip(variables, [*before.non_trainable, *before.metrics],
                 [*after.non_trainable, *after.metrics], strict=True)  # fmt: skip
    for variable, old, new in values:
        if new is not old:
            variable.assign(new)


def rows(x: Any) -> Any:
    """Number of samples in a batch."""
    return keras.ops.shape(next(i for i in keras.tree.flatten(x) if i is not None))[0]
