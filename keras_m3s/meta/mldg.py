"""MLDG: a step must help the rows it is made on and, K steps later, those it is not made on.

    return d loss(theta, D1) / d theta + d loss(theta_K, D2) / d theta_K          first order
        or d (loss(theta, D1) + loss(theta_K, D2)) / d theta                      second order

MAML drops the first term: it cares for the weights after the inner steps alone, these are the
weights that are served. In the first order this costs what `maml.gradient` does, since the first
inner step has that gradient already.

Reference: Li et al., Learning to generalize: meta-learning for domain generalization, AAAI 2018,
algorithm 1 with beta = 1.
"""

import dataclasses

from keras import ops

from keras_m3s.meta import backend, functional, maml
from keras_m3s.meta.functional import Batch, LossFunction, LossOutput, State, Tensor, Values
from keras_m3s.meta.maml import InnerLoop


def gradient(
    loss: LossFunction,
    theta: Values,
    state: State,
    support: Batch,
    query: Batch,
    inner: InnerLoop,
) -> tuple[Values, LossOutput, Tensor]:
    """Gradient of the support loss at theta and the query loss at theta_K; see `maml.gradient`.

    Args:
        loss: As for `maml.gradient`, likewise the others.
        theta: Values of the parameters.
        state: State before the first pass.
        support: Batch for the inner steps.
        query: Batch for the outer loss.
        inner: Settings of the inner loop.

    Returns:
        As `maml.gradient`.
    """
    if not inner.steps:
        return maml.gradient(loss, theta, state, support, query, inner)
    once = dataclasses.replace(inner, transform=lambda batch: batch)
    transformed = inner.transform(support)

    def support_loss(values: Values) -> tuple[Tensor, LossOutput]:
        return functional.scaled_loss(loss(values, state, transformed), inner.loss_scale)

    at_theta, first = backend.gradient(support_loss, theta)
    after = State(first.state.non_trainable, state.metrics)
    if inner.first_order and inner.learned is None and not inner.optimizer.init(theta):
        # The first inner step has its gradient already, and an optimizer without memory.
        reduced = backend.all_reduce_sum(at_theta)
        if inner.loss_scale is not None:
            reduced = maml.unscale(reduced, inner.loss_scale)
        zero = ops.zeros((), "int32")
        moved, _ = inner.optimizer.update(theta, reduced, inner.rates, [], zero)
        rest = dataclasses.replace(once, steps=inner.steps - 1)
        adapted, after, *_ = maml.adapt(loss, moved, after, transformed, rest)
        after = maml.for_query(inner, state, after)
        none = dataclasses.replace(once, steps=0, query_only=None)
        gradients, output, _ = maml.gradient(loss, adapted, after, support, query, none)
    else:
        gradients, output, _ = maml.gradient(loss, theta, state, transformed, query, once)
    total = [g + h for g, h in zip(at_theta, gradients, strict=True)]
    return total, output, first.loss
