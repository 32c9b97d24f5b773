"""Reptile: the way that plain gradient descent goes on a task, taken as a gradient.

    theta_K = K steps of gradient descent on D1, theta_{K+1} = one more on D2
    return (theta - theta_{K+1}) / alpha

which is the sum of the gradients along the way, and computed as such. A value whose alpha is 0 gets
the last of them.

Reference: Nichol, Achiam & Schulman, On first-order meta-learning algorithms, arXiv:1803.02999,
algorithm 1 and section 2, with two minibatches a task.
"""

import dataclasses
from collections.abc import Sequence

from keras import ops

from keras_m3s.meta import backend, functional, maml
from keras_m3s.meta.functional import Batch, LossFunction, LossOutput, State, Tensor, Values
from keras_m3s.meta.inner_optimizers import SGD
from keras_m3s.meta.maml import InnerLoop


def gradient(
    loss: LossFunction,
    theta: Values,
    state: State,
    support: Batch,
    query: Batch,
    inner: InnerLoop,
) -> tuple[Values, LossOutput, Tensor]:
    """Sum of the gradients of K steps on support rows and one on query rows; see `maml.gradient`.

    Args:
        loss: As for `maml.gradient`, likewise the others.
        theta: Values of the parameters.
        state: State before the first pass.
        support: Batch for the inner steps.
        query: Batch for the last gradient.
        inner: Settings of the inner loop, of the first order and with plain gradient descent.

    Returns:
        As `maml.gradient`.

    Raises:
        ValueError: The inner loop is another one.
    """
    plain = type(inner.optimizer) is SGD and not inner.optimizer.momentum
    if inner.differentiable or not plain:
        raise ValueError(
            "Reptile must have an inner loop of the first order, of plain SGD at rates that are "
            f"not learned. Received: first_order={inner.first_order}, "
            f"inner_optimizer={inner.optimizer!r}, learned={inner.learned}."
        )
    summing = dataclasses.replace(inner, optimizer=_SummingSGD())
    adapted, after, at_theta, sums = maml.adapt(loss, theta, state, support, summing)

    def query_loss(values: Values) -> tuple[Tensor, LossOutput]:
        return functional.scaled_loss(loss(values, after, query), inner.loss_scale)

    gradients, output = backend.gradient(query_loss, adapted)
    for position, total in zip(inner.moving(), sums, strict=True):
        if inner.rates[position]:
            scaled = total if inner.loss_scale is None else total * inner.loss_scale
            # The sums are of all replicas already, and the optimizer sums over them once more.
            gradients[position] += scaled / backend.over_all_replicas(ops.ones((), scaled.dtype))
    return gradients, output, at_theta if inner.steps else output.loss


class _SummingSGD(SGD):
    """Gradient descent that remembers the sum of the gradients."""

    def init(self, theta: Values) -> Values:
        return [ops.zeros_like(value) for value in theta]

    def update(
        self,
        theta: Values,
        gradients: Values,
        rates: Sequence[float | Tensor],
        memory: Values,
        step: Tensor,
    ) -> tuple[Values, Values]:
        moved, _ = super().update(theta, gradients, rates, [], step)
        return moved, [total + g for total, g in zip(memory, gradients, strict=True)]
