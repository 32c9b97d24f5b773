"""MAML++'s multi-step loss: every inner step counts, not the last alone.

    for k = 0 .. K-1:
        theta_{k+1} = theta_k - alpha * d loss(theta_k, D1) / d theta_k
    return sum over k of w_k * d loss(theta_k, D2) / d theta_k,  k = 1 .. K     first order
        or d (sum over k of w_k * loss(theta_k, D2)) / d theta                  second order

It takes K query passes, each of which starts from the state that the inner steps left; only the
last one's state, outputs and metrics are kept.

Reference: Antoniou, Edwards & Storkey, How to train your MAML, ICLR 2019, eq. (4); here with equal
weights, w_k = 1 / K, by default. There the weight moves to the last step during training.
"""

import dataclasses
import functools
from collections.abc import Sequence

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
    weights: Sequence[float] | None = None,
) -> tuple[Values, LossOutput, Tensor]:
    """Gradient of the weighted mean of the query losses after each step; see `maml.gradient`.

    Args:
        loss: As for `maml.gradient`, likewise the others.
        theta: Values of the parameters.
        state: State before the first pass.
        support: Batch for the inner steps.
        query: Batch for the outer losses.
        inner: Settings of the inner loop. Its optimizer must have no memory.
        weights: w_1 .. w_K; by default 1 / K each.

    Returns:
        As `maml.gradient`; the output is that of the last step.

    Raises:
        ValueError: The inner optimizer has a memory, or there are not K weights.
    """
    if inner.steps < 2 and weights is None:
        return maml.gradient(loss, theta, state, support, query, inner)
    weights = [1 / inner.steps] * inner.steps if weights is None else weights
    if len(weights) != inner.steps or inner.optimizer.init(theta):
        raise ValueError(
            "MAML++ must have a weight for each inner step, and an inner optimizer without memory. "
            f"Received: weights={weights}, inner_steps={inner.steps}, "
            f"inner_optimizer={inner.optimizer!r}."
        )
    transformed = inner.transform(support)
    one = dataclasses.replace(inner, steps=1, transform=lambda batch: batch, query_only=None)

    def path(values: Values) -> tuple[list[tuple[Values, State]], Tensor]:
        """theta_k and the state that its query pass starts from, k = 1 .. K; the loss at theta."""
        found, before, losses = [], state, []
        for _ in range(inner.steps):
            values, before, at_values, _ = maml.adapt(loss, values, before, transformed, one)
            losses.append(at_values)
            found.append((values, maml.for_query(inner, state, before)))
        return found, losses[0]

    def query_loss(values: Values, before: State) -> tuple[Tensor, LossOutput]:
        return functional.scaled_loss(loss(values, before, query), inner.loss_scale)

    def weighted_loss(values: Values) -> tuple[Tensor, tuple[LossOutput, Tensor]]:
        found, at_theta = path(values)
        outputs = [query_loss(*point) for point in found]
        total = sum(w * scaled for w, (scaled, _) in zip(weights, outputs, strict=True))
        return total, (outputs[-1][1], at_theta)

    if inner.differentiable:
        gradients, (output, at_theta) = backend.gradient(weighted_loss, theta)
        return gradients, output, at_theta
    found, at_theta = path(theta)
    totals: Values = [0.0] * len(theta)
    for weight, (values, before) in zip(weights, found, strict=True):
        gradients, output = backend.gradient(functools.partial(query_loss, before=before), values)
        totals = [total + weight * g for total, g in zip(totals, gradients, strict=True)]
    return totals, output, at_theta
