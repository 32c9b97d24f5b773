"""The meta step on JAX: state goes in and comes out, `fit` compiles the whole of it."""

from collections.abc import Callable
from typing import Any

import jax
import keras

from keras_m3s.meta import functional
from keras_m3s.meta.functional import State


def gradient(fn: Callable[[Any], Any], values: list[Any], again: bool = False) -> tuple[Any, Any]:
    """Gradients of `fn(values) -> (scalar, aux)` and `aux`; always differentiable `again`."""
    del again
    gradients, aux = jax.grad(fn, has_aux=True)(values)
    return gradients, aux


def repeat(
    step: Callable[..., Any], start: tuple[Any, Any], times: int, again: bool = False
) -> tuple[Any, Any]:
    """`times` applications of `step`, compiled once.

    Differentiated (second order), it keeps what goes from one step to the next and computes what is
    within a step again: otherwise memory would grow with the passes, not with the parameters.
    """
    del again
    if times < 2:
        return step(*start) if times else start
    step = jax.checkpoint(step)
    return jax.lax.fori_loop(0, times, lambda _, carry: step(*carry), start)


def sum_over_replicas(gradients: list[Any]) -> list[Any]:
    """The program already is the global one: nothing to sum."""
    return gradients


def every_second(rows: Any, first: Any) -> Any:
    """Rows `first`, `first` + 2, ..."""
    return rows[first::2]


def rows_of_this_replica(sample: Callable[[Any], Any], batch_size: Any) -> Any:
    return sample(batch_size)


class Objective(functional.Objective):
    """Keras' own steps on JAX, with forward pass and loss in one scope."""

    def compute_loss_and_updates(
        self: Any,
        trainable_variables: list[Any],
        non_trainable_variables: list[Any],
        metrics_variables: list[Any],
        x: Any,
        y: Any,
        sample_weight: Any,
        training: bool = False,
        optimizer_variables: Any = None,
    ) -> Any:
        state = State(non_trainable_variables, metrics_variables)
        done = self.objective(trainable_variables, state, (x, y, sample_weight), training)
        loss = done.loss
        if training:
            scale = loss_scale(self.optimizer, optimizer_variables)
            loss = loss if scale is None else loss * scale
        return loss, (done.loss, done.outputs, done.state.non_trainable, done.state.metrics)


def loss_scale(optimizer: Any, variables: list[Any]) -> Any:
    """What the optimizer multiplies a loss by, or `None` where it leaves it as it is."""
    with keras.StatelessScope(state_mapping=list(zip(optimizer.variables, variables, strict=True))):
        return functional.loss_scale(optimizer)


class MetaStep:
    """`train_step` of `MetaModel`, stateless."""

    def train_step(self: Any, state: Any, data: Any) -> Any:
        trainable, non_trainable, optimizer_variables, metrics = state
        scale = loss_scale(self.optimizer, optimizer_variables)
        gradients, done, query = self.meta_gradient(
            trainable,
            State(non_trainable, metrics),
            keras.utils.unpack_x_y_sample_weight(data),
            scale,
        )
        trainable, optimizer_variables = self.optimizer.stateless_apply(
            optimizer_variables, gradients, trainable
        )
        x, y, sample_weight = query
        logs, metrics = self._update_metrics_variables(
            done.state.metrics, done.loss, x, y, done.outputs, sample_weight
        )
        return logs, (trainable, done.state.non_trainable, optimizer_variables, metrics)
