"""MAML, the meta-gradient of M3S: adapt on support rows, take the gradient on query rows.

    Require: parameters theta, support batch D1, query batch D2, K steps, rates alpha
    theta_0 = theta
    for k = 0 .. K-1:
        theta_{k+1} = theta_k - alpha * d loss(theta_k, D1) / d theta_k
    return d loss(theta_K, D2) / d theta_K             first order: theta_K is a constant
        or d loss(theta_K, D2) / d theta               second order: through the K steps

The first order is the default: the gradient at theta_K, which the optimizer applies to theta, is
M3S' eq. (2).

Another meta-gradient is a function with the same signature, `MetaGradient`, in a file of its own
(`mldg`, `reptile`, `maml_plus_plus`); `adapt` is the inner loop, theta to theta_K. With inner rates
that are parameters themselves (`InnerLoop.learned`) this is Meta-SGD; with rates of 0 for all but
the last layers, ANIL.

Reference: Finn, Abbeel & Levine, Model-agnostic meta-learning for fast adaptation of deep networks,
ICML 2017, algorithm 2 and, for the first order, section 5.2; M3S, Algorithm 1, lines 4 to 11. Li et
al., Meta-SGD, arXiv:1707.09835, eqs. (3) and (4); Raghu et al., Rapid learning or feature reuse
(ANIL), ICLR 2020.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from keras import ops

from keras_m3s.meta import backend, functional
from keras_m3s.meta.functional import Batch, LossFunction, LossOutput, State, Tensor, Values
from keras_m3s.meta.inner_optimizers import SGD, InnerOptimizer

Carry: TypeAlias = tuple[Values, State, Tensor, Tensor, Values]
"""Of the inner loop: theta, the state, the loss at the first theta, the number of steps done, the
inner optimizer's memory."""


@dataclasses.dataclass(frozen=True)
class InnerLoop:
    """Settings of the inner loop.

    Attributes:
        steps: K >= 0, the number of steps on the support batch.
        rates: alpha of each value of theta.
        first_order: Whether theta_K is a constant of the meta-gradient.
        loss_scale: Factor on every loss against underflow (mixed precision), or `None`.
        transform: Applied to the support batch, once for all steps.
        optimizer: What a step does with gradients and rates.
        learned: For each value of theta the position, among theta, of its rate, or `None` where it
            is that of `rates`. `None` if no rate is learned.
        query_only: For each of `state.non_trainable`, whether only the query pass updates it: it
            then finds the value from before the inner loop. `None` if there is none such.
    """

    steps: int
    rates: Sequence[float]
    first_order: bool = True
    loss_scale: Tensor | None = None
    transform: Callable[[Batch], Batch] = lambda batch: batch
    optimizer: InnerOptimizer = dataclasses.field(default_factory=SGD)
    learned: Sequence[int | None] | None = None
    query_only: Sequence[bool] | None = None

    @property
    def differentiable(self) -> bool:
        """Whether theta_K must be differentiable: in theta, or in rates that are learned."""
        return not self.first_order or self.learned is not None

    def rates_of(self, theta: Values) -> list[float | Tensor]:
        """The rate of each value of theta."""
        if self.learned is None:
            return list(self.rates)
        return [
            rate if position is None else theta[position]
            for rate, position in zip(self.rates, self.learned, strict=True)
        ]

    def moving(self) -> list[int]:
        """Positions of the values of theta that the steps change; all if there would be none."""
        learned = self.learned or [None] * len(self.rates)
        rates = zip(self.rates, learned, strict=True)
        found = [i for i, (rate, own) in enumerate(rates) if rate != 0 or own is not None]
        return found or list(range(len(self.rates)))


class Adapted(NamedTuple):
    """What the inner loop returns.

    Attributes:
        theta: theta_K.
        state: The state that the query pass starts from.
        loss: The loss at theta, of the support batch; 0 with K = 0.
        memory: Of the inner optimizer, for the values of theta that move.
    """

    theta: Values
    state: State
    loss: Tensor
    memory: Values


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
    if not inner.differentiable:
        theta, state, first, _ = adapt(loss, theta, state, support, inner)

    def query_loss(values: Values) -> tuple[Tensor, tuple[LossOutput, Tensor]]:
        adapted, after, at_theta = values, state, first
        if inner.differentiable:
            adapted, after, at_theta, _ = adapt(loss, values, state, support, inner)
        scaled, output = functional.scaled_loss(loss(adapted, after, query), inner.loss_scale)
        return scaled, (output, at_theta if inner.steps else output.loss)

    gradients, (output, at_theta) = backend.gradient(query_loss, theta)
    return gradients, output, at_theta


def adapt(
    loss: LossFunction, theta: Values, state: State, support: Batch, inner: InnerLoop
) -> Adapted:
    """The inner loop: K steps of the inner optimizer on the support batch.

    Args:
        loss: As for `gradient`, likewise the others.
        theta: Values of the parameters.
        state: State before the first step.
        support: Batch for the steps.
        inner: Settings. If `inner.differentiable`, theta_K is differentiable with respect to theta,
            the gradients within it only if the order is the second.
    """
    # Referenced here alone, so that its memory is free again when the query pass runs.
    transformed = inner.transform(support)
    moving = inner.moving()

    def step(theta: Values, state: State, first: Tensor, count: Tensor, memory: Values) -> Carry:
        def support_loss(values: Values) -> tuple[Tensor, LossOutput]:
            return functional.scaled_loss(loss(_placed(theta, moving, values), state, transformed),
                               inner.loss_scale)  # fmt: skip

        now = [theta[i] for i in moving]
        gradients, output = backend.gradient(support_loss, now, not inner.first_order)
        gradients = backend.all_reduce_sum(gradients)
        if inner.differentiable and inner.first_order:
            gradients = [ops.stop_gradient(g) for g in gradients]
        if inner.loss_scale is not None:
            gradients = unscale(gradients, inner.loss_scale)
        rates = inner.rates_of(theta)  # not of the first theta, which no step depends on
        rates = [rates[i] for i in moving]
        now, memory = inner.optimizer.update(now, gradients, rates, memory, count)
        first = ops.where(count == 0, ops.cast(output.loss, "float32"), first)
        after = State(output.state.non_trainable, state.metrics)
        return _placed(theta, moving, now), after, first, count + 1, memory

    memory = inner.optimizer.init([theta[i] for i in moving])
    start = theta, state, ops.zeros((), "float32"), ops.zeros((), "int32"), memory
    end = backend.repeat(step, start, inner.steps, inner.differentiable)
    adapted, after, first, _, memory = end
    return Adapted(adapted, for_query(inner, state, after), ops.stop_gradient(first), memory)


def for_query(inner: InnerLoop, before: State, after: State) -> State:
    """The state that the query pass starts from: without updates of what it alone updates.

    Args:
        inner: Gives `query_only`.
        before: State before the inner loop.
        after: State after it.
    """
    if inner.query_only is None:
        return after
    values = zip(inner.query_only, before.non_trainable, after.non_trainable, strict=True)
    return State([old if kept else new for kept, old, new in values], after.metrics)


def unscale(gradients: Values, scale: Tensor) -> Values:
    """Divides by the loss scale; all zeros if any gradient overflowed, which skips the step."""
    gradients = [g / ops.cast(scale, g.dtype) for g in gradients]
    finite = ops.all(ops.stack([ops.all(ops.isfinite(g)) for g in gradients]))
    return [ops.where(finite, g, ops.zeros_like(g)) for g in gradients]


def _placed(theta: Values, positions: Sequence[int], values: Values) -> Values:
    """A copy of theta with other values at some positions."""
    changed = list(theta)
    for position, value in zip(positions, values, strict=True):
        changed[position] = value
    return changed
