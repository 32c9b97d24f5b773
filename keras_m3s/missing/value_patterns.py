"""Patterns that depend on the values: missing at random (MAR) and not at random (MNAR).

    mnar  self-masking: values above mean + offset * deviation of their sequence and channel
    mar   logistic: some channels of a sequence are complete; a logistic model of them, with random
          weights, determines which steps of the other channels are missing

Both are as in PyGrinder, but for a drawn rate r. The offset of `mnar` is the normal quantile of
1 - r, so that a share r of normally distributed values is missing; the intercept of `mar` is
fitted so that a share r of the steps of its channels is missing on average. Values that are missing
already (NaN) are not counted.

Reference: WenjieDu/PyGrinder, `mnar_x` and `mar_logistic`; Ipsen et al., "not-MIWAE: Deep
Generative Modelling with Missing not at Random Data", ICLR 2021.
"""

import numpy as np
from keras import ops

from keras_m3s.missing.patterns import Place, Request, Tensor, frame_uniforms, inside

OBSERVED_SHARE = 0.5
"""Share of channels that `mar` keeps complete, at least one."""

BISECTIONS = 40
"""Bisection steps on [-50, 50] for the intercept, to a precision of 1e-10."""


def mnar_masks(request: Request) -> list[Tensor]:
    """Masks of values above a threshold of their sequence and channel.

    Returns:
        Bool tensors of the shapes of the modalities, one per place.
    """
    masks = []
    for place in request.places:
        steps, counted = _steps_first(place)
        rate = _rate(request, place)[:, None, None]
        # The quantiles at rates 0 and 1 are infinite: nothing or everything is missing.
        offset = 2**0.5 * ops.erfinv(1 - 2 * rate)
        mean, deviation = _moments(steps, counted)
        missing = ops.logical_and(steps > mean + offset * deviation, counted)
        missing = ops.where(rate <= 0, ops.zeros_like(missing), missing)
        missing = ops.where(rate >= 1, counted, missing)
        masks.append(_as_values(missing, place))
    return masks


def mar_masks(request: Request) -> list[Tensor]:
    """Masks of steps of some channels, with a probability that depends on the other channels.

    Nothing is missing in a modality of one channel.

    Returns:
        Bool tensors of the shapes of the modalities, one per place.
    """
    masks = []
    for place in request.places:
        steps, counted = _steps_first(place)
        channels = steps.shape[-1]
        draw = request.draws[:, place.column]
        observed = _observed(draw, channels)
        mean, deviation = _moments(steps, counted)
        scaled = ops.where(counted, (steps - mean) / ops.maximum(deviation, 1e-6), 0.0)
        weights = _normal(draw, channels * channels, 1)
        weights = ops.reshape(weights, (-1, channels, channels))
        score = ops.matmul(scaled * observed[:, None, :], weights)
        center, spread = _moments(score, counted)
        score = (score - center) / ops.maximum(spread, 1e-6)
        chance = ops.sigmoid(score + _intercept(score, counted, _rate(request, place)))
        position = ops.arange(ops.shape(steps)[1] * channels, dtype="int32") + 10_000
        uniform = ops.reshape(frame_uniforms(draw, position), ops.shape(steps))
        missing = ops.logical_and(uniform < chance, counted)
        masks.append(_as_values(ops.logical_and(missing, observed[:, None, :] == 0), place))
    return masks


def _rate(request: Request, place: Place) -> Tensor:
    """The drawn missing rate of each sample `(batch,)`."""
    rate, draw = request.rates[place.column], request.draws[:, place.column]
    return rate[0] + rate[2] * draw[:, 0]


def _steps_first(place: Place) -> tuple[Tensor, Tensor]:
    """Values float32 `(batch, steps, channels)` with 0 for NaN, and a mask of true values."""
    if place.values is None:
        raise ValueError(
            "Patterns that depend on the values must have values. Received: token ids. Take "
            "another pattern for the text, as in pattern={'audio': 'mnar', 'text': 'span'}."
        )
    values = ops.cast(ops.moveaxis(place.values, place.axis, 1), "float32")
    channels = int(np.prod(values.shape[2:]))
    values = ops.reshape(values, (*ops.shape(values)[:2], channels))
    position = ops.arange(place.size, dtype="int32") - place.offset
    measured = ops.logical_not(ops.isnan(values))
    counted = ops.logical_and(measured, inside(position, place.length)[:, :, None])
    return ops.where(counted, values, 0.0), counted


def _as_values(missing: Tensor, place: Place) -> Tensor:
    """Reshapes a mask `(batch, steps, channels)` to the shape of the values."""
    moved = ops.shape(ops.moveaxis(place.values, place.axis, 1))
    return ops.moveaxis(ops.reshape(missing, moved), 1, place.axis)


def _moments(steps: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over counted steps, `(batch, 1, channels)`."""
    weight = ops.cast(counted, "float32")
    count = ops.maximum(ops.sum(weight, axis=1, keepdims=True), 1.0)
    mean = ops.sum(steps * weight, axis=1, keepdims=True) / count
    variance = ops.sum(ops.square(steps - mean) * weight, axis=1, keepdims=True) / count
    return mean, ops.sqrt(variance)


def _observed(draw: Tensor, channels: int) -> Tensor:
    """1.0 at channels that stay complete, a random subset per sample: `(batch, channels)`."""
    count = channels if channels == 1 else max(int(OBSERVED_SHARE * channels), 1)
    order = frame_uniforms(draw, ops.arange(channels, dtype="int32") + 1_000_000)
    rank = ops.argsort(ops.argsort(order, axis=1), axis=1)
    return ops.cast(rank < count, "float32")


def _normal(draw: Tensor, count: int, stream: int) -> Tensor:
    """Standard normal numbers `(batch, count)` from a sample's draw."""
    position = ops.arange(count, dtype="int32") + stream * 2_000_000
    uniform = frame_uniforms(draw, position) + 2.0**-25
    return 2**0.5 * ops.erfinv(2 * uniform - 1)


def _intercept(score: Tensor, counted: Tensor, rate: Tensor) -> Tensor:
    """b for which the mean of sigmoid(score + b) is the rate, `(batch, 1, channels)`."""
    weight = ops.cast(counted, "float32")
    total = ops.maximum(ops.sum(weight, axis=1, keepdims=True), 1.0)
    low, high = -50.0 * ops.ones_like(total), 50.0 * ops.ones_like(total)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        mean = ops.sum(ops.sigmoid(score + middle) * weight, axis=1, keepdims=True) / total
        above = mean > rate[:, None, None]
        low, high = ops.where(above, low, middle), ops.where(above, middle, high)
    return (low + high) / 2
