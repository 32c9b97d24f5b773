"""A training pass of a wrapper: its rows with draws, its loss, what it adds to the log."""

import functools

import keras
from keras import ops

from keras_m3s.meta import backend, consistency, consistent_loss, functional
from keras_m3s.meta.consistent_loss import Wrapper
from keras_m3s.meta.draws import add_draws
from keras_m3s.meta.functional import (
    Batch,
    LossFunction,
    LossOutput,
    OfOptimizer,
    State,
    Tensor,
    Values,
    batch_size,
)
from keras_m3s.missing import MissingModality
from keras_m3s.modalities import DRAWS


def loss_of(model: Wrapper, of_optimizer: OfOptimizer) -> LossFunction:
    """The loss of a training pass, as a pure function."""
    if model.consistency is None:
        return functools.partial(functional.compute_loss, model)
    return functools.partial(consistent_loss.compute_loss, model, of_optimizer.averages)


def with_draws(
    model: Wrapper,
    theta: Values,
    state: State,
    *batches: tuple[Batch, MissingModality | None],
) -> tuple[list[Batch], State]:
    """Batches as modalities with draws, and the state after drawing.

    Args:
        model: The wrapper.
        theta: Values of its trainable variables.
        state: Values of all others.
        *batches: Pairs of `(x, y, sample_weight)` and the layer to draw from; without one a batch
            stays as it is.
    """
    drawn: list[Batch] = []
    with functional.stateless_scope(model, theta, state) as scope:
        for (x, *others), layer in batches:
            if layer is None:
                drawn.append((x, *others))
                continue
            features = model._features(x)
            if model.consistency is None:
                drawn.append((add_draws(features, layer), *others))
            else:
                drawn.append(paired((features, *others), layer, model.consistency.teacher))
    return drawn, functional.updated_state(model, state, scope)


def paired(batch: Batch, missing: MissingModality, teacher: str | None) -> Batch:
    """The batch with draws: with no teacher each row twice, one after the other, under two draws.

    Args:
        batch: `(x, y, sample_weight)`. If `x` has draws, each row's first is its own.
        missing: T.
        teacher: As of `Consistency`.
    """
    x, *others = batch
    if teacher is not None:
        return (add_draws(x, missing), *others)
    features = {name: value for name, value in x.items() if name != DRAWS}
    if DRAWS not in x:
        doubled, *others = consistency.twice((features, *others))
        return (add_draws(doubled, missing), *others)
    fresh = backend.rows_of_this_replica(missing.sample_draws, batch_size(features))
    draws = ops.stack([x[DRAWS], ops.cast(fresh, x[DRAWS].dtype)], axis=1)
    doubled, *others = consistency.twice((features, *others))
    return ({**doubled, DRAWS: ops.reshape(draws, (-1, *draws.shape[2:]))}, *others)


def mean_penalty() -> keras.metrics.Mean:
    """The metric of the penalty."""
    return keras.metrics.Mean(consistent_loss.NAME)


def with_mean_penalty(
    model: Wrapper, theta: Values, output: LossOutput, batch: Batch
) -> LossOutput:
    """The output with the mean of the penalties so far in place of the last one, if there is one.

    Args:
        model: The wrapper.
        theta: Values of its trainable variables.
        output: Of the pass.
        batch: Its rows.
    """
    if model._penalty is None:
        return output
    penalty = output.logs[consistent_loss.NAME]
    return with_mean(model, theta, output, batch, model._penalty, penalty)


def with_mean(
    model: Wrapper,
    theta: Values,
    output: LossOutput,
    batch: Batch,
    metric: keras.metrics.Mean,
    value: Tensor,
) -> LossOutput:
    """The output with a metric updated in its state, and the metric's result in its logs.

    Args:
        model: The wrapper, one of whose metrics it is.
        theta: Values of its trainable variables.
        output: Of the pass.
        batch: Its rows.
        metric: The metric.
        value: What to add to it.
    """
    with functional.stateless_scope(model, theta, output.state) as scope:
        metric.update_state(value, sample_weight=batch_size(batch[0]))
        logs = {**output.logs, metric.name: metric.result()}
    state = functional.updated_state(model, output.state, scope)
    return LossOutput(output.loss, output.outputs, state, logs)
