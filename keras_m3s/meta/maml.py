"""MAML, the meta-gradient of M3S: adapt on support rows, take the gradient on query rows.

    Require: parameters theta, support batch D1, query batch D2, K steps, rates alpha
    theta_0 = theta
    for k = 0 .. K-1:
        theta_{k+1} = theta_k - alpha * d loss(theta_k, D1) / d theta_k
    return d loss(theta_K, D2) / d theta_K             first order: theta_K is a constant
        or d loss(theta_K, D2) / d theta               second order: through the K steps

The first order is the default: the gradient at theta_K, which the optimizer applies to theta, is
M3S' eq. (2).

Another meta-gradient is a function beside `gradient` with the same signature, `MetaGradient`;
`adapt` is the inner loop, theta to theta_K. A subclass of `MetaModel` sets it as `_gradient`.

Reference: Finn, Abbeel & Levine, Model-agnostic meta-learning for fast adaptation of deep networks,
ICML 2017, algorithm 2 and, for the first order, section 5.2; M3S, Algorithm 1, lines 4 to 11.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from keras import ops

from keras_m3s.meta import backend
from keras_m3s.meta.functional import Batch, LossFunction, LossOutput, State, Tensor, Values

Carry: TypeAlias = tuple[Values, State, Tensor, Tensor]
"""Of the inner loop: theta, the state, the loss at the first theta, the number of steps done."""


@dataclasses.dataclass(frozen=True)
class InnerLoop:
    """Settings of the inner loop.

    Attributes:
        steps: K >= 0, the number of steps on the support batch.
        rates: alpha of each value of theta.
        first_order: Whether theta_K is a constant of the meta-gradient.
        loss_scale: Factor on every loss against underflow (mixed precision), or `None`.
        transform: Applied to the support batch, once for all steps.
        query_only: For each of `state.non_trainable`, whether only the query pass updates it: it
            then finds the value from before the inner loop. `None` if there is none such.
    """

    steps: int
    rates: Sequence[float]
    first_order: bool = True
    loss_scale: Tensor | None = None
    transform: Callable[[Batch], Batch] = lambda batch: batch
    query_only: Sequence[bool] | None = None


class MetaGradient(Protocol):
    """The signature of `gradient`, and of any other meta-gradient."""

    def __call__(
        self,
        loss: LossFunction,
        theta: Values,
        state: State,
        support: Batch,
        query: Batch,
        inner: InnerLoop,
    ) -> tuple[Values, LossOutput, Tensor]: ...


def gradient(
    loss: LossFunction,
    theta: Values,
    state: State,
    support: Batch,
    query: Batch,
    inner: InnerLoop,
) -> tuple[Values, LossOutput, Tensor]:
    """Gradient of the query loss after K steps on the support batch.

    Non-trainable state runs through all K + 1 passes, except `inner.query_only`; metrics are
    updated by the query pass alone.

    Args:
        loss: Pure function of parameters, state and batch.
        theta: Values of the parameters.
        state: State before the first pass.
        support: Batch for the inner steps.
        query: Batch for the outer loss.
        inner: Settings of the inner loop.

    Returns:
        Gradients of the query loss times `inner.loss_scale`, one for each of `theta`, what the
        query pass returned, and the loss at theta: of the support batch, or with K = 0 of the
        query batch.
    """
    first = ops.zeros((), "float32")
    if inner.first_order:
        theta, state, first = adapt(loss, theta, state, support, inner)

    def query_loss(values: Values) -> tuple[Tensor, tuple[LossOutput, Tensor]]:
        adapted, after, at_theta = values, state, first
        if not inner.first_order:
            adapted, after, at_theta = adapt(loss, values, state, support, inner)
        scaled, output = _scaled(loss(adapted, after, query), inner.loss_scale)
        return scaled, (output, at_theta if inner.steps else output.loss)

    gradients, (output, at_theta) = backend.gradient(query_loss, theta)
    return gradients, output, at_theta


def adapt(
    loss: LossFunction, theta: Values, state: State, support: Batch, inner: InnerLoop
) -> tuple[Values, State, Tensor]:
    """The inner loop: K steps of gradient descent on the support batch.

    Args:
        loss: As for `gradient`, likewise the others.
        theta: Values of the parameters.
        state: State before the first step.
        support: Batch for the steps.
        inner: Settings. With `first_order=False` theta_K is differentiable with respect to theta.

    Returns:
        theta_K, the state that the query pass starts from, and the loss at theta; 0 with K = 0.
    """
    differentiable = not inner.first_order
    # Referenced here alone, so that its memory is free again when the query pass runs.
    transformed = inner.transform(support)

    def step(theta: Values, state: State, first: Tensor, count: Tensor) -> Carry:
        def support_loss(values: Values) -> tuple[Tensor, LossOutput]:
            return _scaled(loss(values, state, transformed), inner.loss_scale)

        gradients, output = backend.gradient(support_loss, theta, differentiable)
        gradients = backend.all_reduce_sum(gradients)
        if inner.loss_scale is not None:
            gradients = _unscale(gradients, inner.loss_scale)
        theta = [t - a * g for t, a, g in zip(theta, inner.rates, gradients, strict=True)]
        first = ops.where(count == 0, ops.cast(output.loss, "float32"), first)
        return theta, State(output.state.non_trainable, state.metrics), first, count + 1

    nothing = ops.zeros((), "float32"), ops.zeros((), "int32")
    start = (theta, state, *nothing)
    adapted, after, first, _ = backend.repeat(step, start, inner.steps, differentiable)
    first = ops.stop_gradient(first)
    if inner.query_only is None:
        return adapted, after, first
    values = zip(inner.query_only, state.non_trainable, after.non_trainable, strict=True)
    return adapted, State([old if kept else new for kept, old, new in values], after.metrics), first


def _scaled(output: LossOutput, scale: Tensor | None) -> tuple[Tensor, LossOutput]:
    """The scaled loss, and the output as it is."""
    return output.loss if scale is None else output.loss * scale, output


def _unscale(gradients: Values, scale: Tensor) -> Values:
    """Divides by the loss scale; all zeros if any gradient overflowed, which skips the step."""
    gradients = [g / ops.cast(scale, g.dtype) for g in gradients]
    finite = ops.all(ops.stack([ops.all(ops.isfinite(g)) for g in gradients]))
    return [ops.where(finite, g, ops.zeros_like(g)) for g in gradients]
