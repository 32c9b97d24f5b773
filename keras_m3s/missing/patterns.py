"""Patterns of missingness: which positions, frames or modalities a draw takes away.

Pure functions of draws, one a pattern, which its card in `keras_m3s.registry.patterns` names. A draw
is two uniforms in [0, 1) for each sample and modality, whatever the pattern, so that tables of fixed
draws serve them all. With the first a rate r is drawn from the
range (low, high); the second says what is missing at that rate:

    span      one run of floor(length * r) positions: the paper's T, see `span`
    frames    each position by itself with probability r: LNLN and its followers (protocol P1)
    modality  each modality as a whole with probability r, or one of given conditions: MMIN (P3)

Reference: M3S, section 3.2; Zhang et al., LNLN, NeurIPS 2024; Zhao et al., MMIN, ACL 2021, section
4.1 (the six conditions).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

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


class Place(NamedTuple):
    """A sequence that can have holes.

    Attributes:
        column: Its modality's place among the draws.
        size: Number of positions, true and padded.
        length: Number of true steps, int tensor `(batch,)` or a scalar.
        offset: Position of the first true step.
    """

    column: int
    size: Any
    length: Any
    offset: int = 0


def span(length: Any, draw: Any, rate: Any) -> tuple[Any, Any]:
    """Where a hole starts and ends.

    Args:
        length: Number of true steps: int tensor of `draw`'s leading axes, or what
            broadcasts to it.
        draw: Float32 tensor `(..., 2)`, the uniforms of rate and start.
        rate: `(low, high)`, the range of missing rates within [0, 1]; floats, or arrays that
            broadcast as `length` does.

    Returns:
        `start` and `stop`, int32 `(...)`: positions start .. stop - 1 are missing,
        stop - start = floor(length * r), and nothing is where that is 0.
    """
    low, width = (ops.convert_to_tensor(r, "float32") for r in (rate[0], rate[1] - rate[0]))
    length = ops.cast(length, "float32")
    count = ops.floor(length * (low + width * draw[..., 0]))
    # Rounding in float32 may reach length - count + 1 itself, one past the last start there is.
    start = ops.minimum(ops.floor((length - count + 1) * draw[..., 1]), length - count)
    return ops.cast(start, "int32"), ops.cast(start + count, "int32")


def span_masks(
    places: Sequence[Place], draws: Any, missing_rate: Mapping[str, Rate], conditions: None = None
) -> list[Any]:
    """Masks of one run of missing positions in each place; see `span`.

    One fused call: in eager PyTorch, per-op overhead dominates.

    Args:
        places: One or more.
        draws: Float32 tensor `(batch, modalities, 2)`, in the order of `missing_rate`.
        missing_rate: Dict modality -> `(low, high)`.
        conditions: Not used by this pattern.

    Returns:
        Bool tensors `(batch, size)`, one a place.
    """
    rates = list(missing_rate.values())
    columns = [place.column for place in places]
    if columns != list(range(len(rates))):
        draws = ops.take(draws, columns, axis=1)
    lengths = [place.length for place in places]
    if not all(isinstance(length, int) for length in lengths):
        rows = ops.shape(draws)[:1]
        lengths = ops.stack([ops.broadcast_to(length, rows) for length in lengths], axis=1)
    start, stop = span(lengths, draws, np.array([rates[column] for column in columns]).T)
    return [
        _between(place, start[:, at, None], stop[:, at, None]) for at, place in enumerate(places)
    ]


def frames_masks(
    places: Sequence[Place], draws: Any, missing_rate: Mapping[str, Rate], conditions: None = None
) -> list[Any]:
    """Masks of positions that are missing independently; arguments as for `span_masks`."""
    rates = list(missing_rate.values())
    masks = []
    for place in places:
        low, high = rates[place.column]
        draw = draws[:, place.column]
        position = _positions(place)
        missing = frame_uniforms(draw, position) < (low + (high - low) * draw[:, :1])
        masks.append(ops.logical_and(missing, _inside(position, place.length)))
    return masks


def modality_masks(
    places: Sequence[Place],
    draws: Any,
    missing_rate: Mapping[str, Rate],
    conditions: Sequence[Sequence[str]] | None = None,
) -> list[Any]:
    """Masks of all true positions of the modalities that are missing as a whole.

    Args:
        places: As for `span_masks`, likewise `draws` and `missing_rate`.
        conditions: Sets of missing modalities to choose from, see `missing_modalities`.
    """
    gone = missing_modalities(draws, missing_rate, conditions)
    masks = []
    for place in places:
        inside = _inside(_positions(place), place.length)
        masks.append(ops.logical_and(gone[:, place.column, None], inside))
    return masks


def missing_modalities(
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


def _positions(place: Place) -> Any:
    """Int32 `(size,)`, counted from the first true step."""
    return ops.arange(place.size, dtype="int32") - place.offset


def _between(place: Place, start: Any, stop: Any) -> Any:
    position = _positions(place)
    return ops.logical_and(position >= start, position < stop)


def _inside(position: Any, length: Any) -> Any:
    length = ops.cast(length, "int32")
    return ops.logical_and(position >= 0, position < ops.reshape(length, (-1, 1)))
