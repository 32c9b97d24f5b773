"""Patterns of missingness: which positions, frames or modalities a draw takes away.

Pure functions of draws. A draw is two uniforms in [0, 1) for each sample and modality, whatever the
pattern, so that tables of fixed draws serve them all. With the first a rate r is drawn from the
range (low, high); the second says what is missing at that rate:

    span      one run of floor(length * r) positions: the paper's T, see `span`
    frames    each position by itself with probability r: LNLN and its followers (protocol P1)
    modality  each modality as a whole with probability r, or one of given conditions: MMIN (P3)

Reference: M3S, section 3.2; Zhang et al., LNLN, NeurIPS 2024; Zhao et al., MMIN, ACL 2021, section
4.1 (the six conditions).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

PATTERNS = ("span", "frames", "modality")

MMIN_CONDITIONS: dict[str, tuple[str, ...]] = {
    "azz": ("vision", "text"),
    "zvz": ("audio", "text"),
    "zzl": ("audio", "vision"),
    "avz": ("text",),
    "azl": ("vision",),
    "zvl": ("audio",),
}
"""MMIN's six conditions: its names (z for zeros) -> the modalities that are missing."""

Rate = tuple[float, float]


def span(length: Any, draw: Any, rate: Rate) -> tuple[Any, Any]:
    """Where a hole starts and ends.

    Args:
        length: Int tensor `(batch,)`, number of true steps, or a scalar.
        draw: Float32 tensor `(batch, 2)`, the uniforms of rate and start.
        rate: `(low, high)`, the range of missing rates within [0, 1].

    Returns:
        `start` and `stop`, int32 `(batch,)`: positions start .. stop - 1 are missing,
        stop - start = floor(length * r), and nothing is where that is 0.
    """
    low, high = rate
    length = ops.cast(length, "float32")
    count = ops.floor(length * (low + (high - low) * draw[:, 0]))
    # Rounding in float32 may reach length - count + 1 itself, one past the last start there is.
    start = ops.minimum(ops.floor((length - count + 1) * draw[:, 1]), length - count)
    return ops.cast(start, "int32"), ops.cast(start + count, "int32")


def span_mask(size: int, length: Any, draw: Any, rate: Rate, offset: int = 0) -> Any:
    """Mask of the missing positions: bool tensor `(batch, size)`; see `span`.

    Args:
        size: Number of positions, true and padded.
        length: Int tensor `(batch,)`, number of true steps.
        draw: Float32 tensor `(batch, 2)`.
        rate: `(low, high)`.
        offset: Position of the first true step.
    """
    start, stop = span(length, draw, rate)
    position = ops.arange(size, dtype="int32")[None, :] - offset
    return ops.logical_and(position >= start[:, None], position < stop[:, None])


def frames_mask(size: int, length: Any, draw: Any, rate: Rate, offset: int = 0) -> Any:
    """Mask of positions that are missing each by itself; arguments as for `span_mask`."""
    low, high = rate
    position = ops.arange(size, dtype="int32") - offset
    missing = frame_uniforms(draw, position) < (low + (high - low) * draw[:, :1])
    return ops.logical_and(missing, _inside(position, length))


def whole_mask(size: int, length: Any, gone: Any, offset: int = 0) -> Any:
    """Mask of all true positions where a modality is gone.

    Args:
        size: Number of positions, true and padded.
        length: Int tensor `(batch,)`, number of true steps.
        gone: Bool tensor `(batch,)`, see `gone_modalities`.
        offset: Position of the first true step.
    """
    position = ops.arange(size, dtype="int32") - offset
    return ops.logical_and(gone[:, None], _inside(position, length))


def gone_modalities(
    draws: Any,
    missing_rate: Mapping[str, Rate],
    conditions: Sequence[Sequence[str]] | None = None,
) -> Any:
    """Which modalities are missing as a whole.

    Args:
        draws: Float32 tensor `(batch, modalities, 2)`, in the order of `missing_rate`.
        missing_rate: Dict modality -> `(low, high)`: each is missing with probability r, but one
            is kept: where all would be missing, any of them is with the same chance. With a single
            modality nothing is kept.
        conditions: Sets of missing modalities; then one of them, each with the same chance, holds
            for a sample, and the rates do not count.

    Returns:
        Bool tensor `(batch, modalities)`.
    """
    names = tuple(missing_rate)
    if conditions is not None:
        table = np.array([[name in condition for name in names] for condition in conditions])
        last = len(table) - 1
        # float32 may round the product up to the number of conditions itself.
        choice = ops.minimum(ops.cast(ops.floor(draws[:, 0, 1] * len(table)), "int32"), last)
        return ops.take(ops.convert_to_tensor(table), choice, axis=0)
    ranges = ops.convert_to_tensor(list(missing_rate.values()), dtype="float32")
    rate = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * draws[:, :, 0]
    missing = draws[:, :, 1] < rate
    if len(names) == 1:
        return missing
    # Of a missing modality u / r is uniform in [0, 1): the largest is any of them.
    share = draws[:, :, 1] / ops.maximum(rate, 1e-30)
    kept = ops.arange(len(names))[None, :] == ops.argmax(share, axis=1)[:, None]
    keep = ops.logical_and(ops.all(missing, axis=1, keepdims=True), kept)
    return ops.logical_and(missing, ops.logical_not(keep))


# Random numbers for frames, from a sample's draw and the frame's number alone: a hash of 32 bits,
# by Chris Wellons' lowbias32. Integers wrap around alike on all backends, so the numbers are equal
# to the last bit; a backend's own generator would differ, and could not be part of a table.

GOLDEN = -1640531527  # 0x9E3779B9
MULTIPLIERS = (0x7FEB352D, -2073254261)  # the second is 0x846CA68B
SHIFTS = (16, 15, 16)
BITS = 24  # of a float32 in [0, 1)


def frame_uniforms(draw: Any, position: Any) -> Any:
    """Independent uniforms for the frames of each sample.

    Args:
        draw: Float32 tensor `(batch, 2)` in [0, 1).
        position: Int32 tensor `(steps,)`, numbers of the frames.

    Returns:
        Float32 tensor `(batch, steps)` in [0, 1), multiples of 2^-24.
    """
    words = ops.cast(ops.floor(draw * 2.0**BITS), "int32")
    state = _mix(ops.bitwise_xor(_mix(words[:, 0]), words[:, 1]))
    state = _mix(state[:, None] + position[None, :] * GOLDEN)
    return ops.cast(_shift(state, 32 - BITS), "float32") * 2.0**-BITS


def _mix(state: Any) -> Any:
    for shift, multiplier in zip(SHIFTS, (*MULTIPLIERS, 1), strict=True):
        state = ops.bitwise_xor(state, _shift(state, shift)) * multiplier
    return state


def _shift(state: Any, bits: int) -> Any:
    """To the right with zeros coming in, which int32 would not do by itself."""
    return ops.bitwise_and(ops.right_shift(state, bits), (1 << (32 - bits)) - 1)


def _inside(position: Any, length: Any) -> Any:
    length = ops.cast(length, "int32")
    return ops.logical_and(position >= 0, position < ops.reshape(length, (-1, 1)))
