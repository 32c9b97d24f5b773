"""Patterns of missingness: which positions, frames or modalities are missing for a draw.

Pure functions of draws, one per card in `keras_m3s.registry.patterns`. All patterns use the same
draws, two uniforms in [0, 1) per sample and modality, so that a table of fixed draws serves them
all. The first determines the rate r within the range (low, high), the second what is missing at
that rate:

    span      one run of floor(length * r) positions: the paper's T, see `span`
    frames    each position independently with probability r: LNLN and its followers (protocol P1)
    modality  each modality as a whole with probability r, or one of given conditions: MMIN (P3)
    six-conditions  one of MMIN's six conditions, whatever the rate
    recorded  the missing values of a recorded row, see `MissingModality.adapt`
    none      nothing, for mixtures
    mar, mnar depending on the values, see `keras_m3s.missing.value_patterns`

Reference: M3S, section 3.2; Zhang et al., LNLN, NeurIPS 2024; Zhao et al., MMIN, ACL 2021, section
4.1 (the six conditions).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

Tensor = Any
Rate = tuple[float, float]

MMIN_CONDITIONS: dict[str, tuple[str, ...]] = {
    "azz": ("vision", "text"),
    "zvz": ("audio", "text"),
    "zzl": ("audio", "vision"),
    "avz": ("text",),
    "azl": ("vision",),
    "zvl": ("audio",),
}
"""MMIN's six conditions: name, with z for zeros -> modalities that are missing."""


class Place(NamedTuple):
    """Positions of a modality that can be missing.

    Attributes:
        column: Column of the draws.
        size: Number of positions, including padding.
        length: Number of true steps, int tensor `(batch,)` or a scalar.
        offset: Position of the first true step.
        name: Modality.
        values: Features; `None` for tokens.
        axis: Axis of `values` that the positions are on.
    """

    column: int
    size: Any
    length: Any
    offset: int = 0
    name: str = ""
    values: Tensor = None
    axis: int = 1


class Request(NamedTuple):
    """Arguments of a pattern's function.

    Attributes:
        places: Where to make masks; one or more.
        draws: Float32 tensor `(batch, columns, 2)` in [0, 1).
        rates: Float32 `(columns, 3)`, see `as_rates`.
        names: Names of the columns: modalities, or the first of each group.
        conditions: Sets of missing modalities to choose from.
        recorded: Modality -> bool `(rows, ...)` of the modality's shape: where recorded rows have
            missing values.
    """

    places: Sequence[Place]
    draws: Tensor
    rates: Tensor
    names: tuple[str, ...]
    conditions: Sequence[Sequence[str]] | None = None
    recorded: Mapping[str, Tensor] | None = None


def as_rates(missing_rate: Mapping[str, Rate]) -> np.ndarray:
    """Ranges of missing rates as an array.

    Args:
        missing_rate: Dict modality -> `(low, high)` within [0, 1].

    Returns:
        Float32 array `(modalities, 3)`: low, high and high - low, each rounded once.
    """
    rows = [(low, high, high - low) for low, high in missing_rate.values()]
    return np.array(rows, dtype="float32").reshape(-1, 3)


def span(length: Tensor, draw: Tensor, rate: Rate) -> tuple[Tensor, Tensor]:
    """Start and stop of a run of missing positions.

    Args:
        length: Number of true steps, int; broadcasts with the leading axes of `draw`.
        draw: Float32 tensor `(..., 2)`, the uniforms of rate and start.
        rate: `(low, high)`, the range of missing rates within [0, 1].

    Returns:
        `start` and `stop`, int32 `(...)`: positions start .. stop - 1 are missing, where
        stop - start = floor(length * r) may be 0.
    """
    low, width = (ops.convert_to_tensor(r, "float32") for r in (rate[0], rate[1] - rate[0]))
    return _span(length, draw, low, width)


def _span(length: Tensor, draw: Tensor, low: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    length = ops.cast(length, "float32")
    count = ops.floor(length * (low + width * draw[..., 0]))
    # Rounding in float32 may give length - count + 1, one past the last possible start.
    start = ops.minimum(ops.floor((length - count + 1) * draw[..., 1]), length - count)
    return ops.cast(start, "int32"), ops.cast(start + count, "int32")


def span_masks(request: Request) -> list[Tensor]:
    """One run of missing positions per place, see `span`.

    One fused call: in eager PyTorch, per-op overhead dominates.

    Returns:
        Bool tensors `(batch, size)`, one per place.
    """
    places, draws, rates = request.places, request.draws, request.rates
    columns = [place.column for place in places]
    if columns != list(range(len(request.names))):
        draws, rates = ops.take(draws, columns, axis=1), ops.take(rates, columns, axis=0)
    lengths = [place.length for place in places]
    if not all(isinstance(length, int) for length in lengths):
        rows = ops.shape(draws)[:1]
        lengths = ops.stack([ops.broadcast_to(length, rows) for length in lengths], axis=1)
    start, stop = _span(lengths, draws, rates[:, 0], rates[:, 2])
    return [
        _between(place, start[:, at, None], stop[:, at, None]) for at, place in enumerate(places)
    ]


def frames_masks(request: Request) -> list[Tensor]:
    """Positions that are missing independently of each other; returns as `span_masks`."""
    masks = []
    for place in request.places:
        draw, rate = request.draws[:, place.column], request.rates[place.column]
        position = _positions(place)
        missing = frame_uniforms(draw, position) < (rate[0] + rate[2] * draw[:, :1])
        masks.append(ops.logical_and(missing, inside(position, place.length)))
    return masks


def modality_masks(request: Request) -> list[Tensor]:
    """All true positions of modalities that are missing as a whole; returns as `span_masks`."""
    gone = missing_modalities(request.draws, request.rates, request.names, request.conditions)
    masks = []
    for place in request.places:
        within = inside(_positions(place), place.length)
        masks.append(ops.logical_and(gone[:, place.column, None], within))
    return masks


def conditions_masks(request: Request) -> list[Tensor]:
    """One of `MMIN_CONDITIONS` for each sample; returns as `span_masks`.

    Raises:
        ValueError: Modalities are not those of the conditions.
    """
    if set(request.names) != set().union(*MMIN_CONDITIONS.values()):
        raise ValueError(
            "Pattern 'six-conditions' must have the modalities audio, vision and text. Received: "
            f"{request.names}. For others take pattern='modality' and `conditions=`."
        )
    return modality_masks(request._replace(conditions=tuple(MMIN_CONDITIONS.values())))


def no_masks(request: Request) -> list[Tensor]:
    """Nothing missing, for the complete samples of a mixture of patterns."""
    return [ops.zeros((1, 1), dtype="bool") for _ in request.places]


def missing_modalities(
    draws: Tensor,
    rates: Tensor,
    names: Sequence[str],
    conditions: Sequence[Sequence[str]] | None = None,
) -> Tensor:
    """Which modalities are missing as a whole.

    Args:
        draws: Float32 tensor `(batch, modalities, 2)`.
        rates: As from `as_rates`. Each modality is missing with probability r; if all would be
            missing, one of them, chosen uniformly, is kept. A single modality is never kept.
        names: Names of the modalities.
        conditions: Sets of missing modalities. One of them, chosen uniformly, holds for each
            sample, whatever the rates.

    Returns:
        Bool tensor `(batch, modalities)`.
    """
    if conditions is not None:
        table = np.array([[name in condition for name in names] for condition in conditions])
        last = len(table) - 1
        # In float32 the product may round up to the number of conditions.
        choice = ops.minimum(ops.cast(ops.floor(draws[:, 0, 1] * len(table)), "int32"), last)
        return ops.take(ops.convert_to_tensor(table), choice, axis=0)
    rates = ops.convert_to_tensor(rates, "float32")
    rate = rates[:, 0] + (rates[:, 1] - rates[:, 0]) * draws[:, :, 0]
    missing = draws[:, :, 1] < rate
    if len(names) == 1:
        return missing
    # u / r of a missing modality is uniform in [0, 1), so the largest is a uniform choice.
    share = draws[:, :, 1] / ops.maximum(rate, 1e-30)
    kept = ops.arange(len(names))[None, :] == ops.argmax(share, axis=1)[:, None]
    keep = ops.logical_and(ops.all(missing, axis=1, keepdims=True), kept)
    return ops.logical_and(missing, ops.logical_not(keep))


def recorded_masks(request: Request) -> list[Tensor]:
    """Missing values of a recorded row, the same row for all modalities of a sample.

    Returns:
        Bool tensors of the shapes of the modalities, one per place.

    Raises:
        ValueError: Nothing was recorded for a modality.
    """
    recorded = request.recorded or {}
    absent = [place.name for place in request.places if place.name not in recorded]
    if absent:
        raise ValueError(
            "Pattern 'recorded' must have recorded holes of each modality. Received: none of "
            f"{absent}. Call `adapt(recorded)` on the layer first."
        )
    masks = []
    for place in request.places:
        rows = recorded[place.name]
        last = rows.shape[0] - 1
        choice = ops.cast(ops.floor(request.draws[:, 0, 1] * rows.shape[0]), "int32")
        masks.append(ops.cast(ops.take(rows, ops.minimum(choice, last), axis=0), "bool"))
    return masks


# Random numbers of frames, as a hash of a sample's draw and the frame's number: Chris Wellons'
# lowbias32. Integer overflow is the same on all backends, so the numbers are equal to the last bit.
# A backend's generator would differ, and its numbers would not follow from a table of draws.

GOLDEN = -1640531527  # 0x9E3779B9
MULTIPLIERS = (0x7FEB352D, -2073254261)  # the second is 0x846CA68B
SHIFTS = (16, 15, 16)
BITS = 24  # of a float32 in [0, 1)


def frame_uniforms(draw: Tensor, position: Tensor) -> Tensor:
    """Independent uniforms for the frames of each sample.

    Args:
        draw: Float32 tensor `(batch, 2)` in [0, 1).
        position: Int32 tensor `(steps,)`, the frames' numbers.

    Returns:
        Float32 tensor `(batch, steps)` in [0, 1), multiples of 2^-24.
    """
    words = ops.cast(ops.floor(draw * 2.0**BITS), "int32")
    state = _mix(ops.bitwise_xor(_mix(words[:, 0]), words[:, 1]))
    state = _mix(state[:, None] + position[None, :] * GOLDEN)
    return ops.cast(_shift(state, 32 - BITS), "float32") * 2.0**-BITS


def _mix(state: Tensor) -> Tensor:
    for shift, multiplier in zip(SHIFTS, (*MULTIPLIERS, 1), strict=True):
        state = ops.bitwise_xor(state, _shift(state, shift)) * multiplier
    return state


def _shift(state: Tensor, bits: int) -> Tensor:
    """Logical shift to the right; that of int32 is arithmetic."""
    return ops.bitwise_and(ops.right_shift(state, bits), (1 << (32 - bits)) - 1)


def _positions(place: Place) -> Tensor:
    """Positions relative to the first true step, int32 `(size,)`."""
    return ops.arange(place.size, dtype="int32") - place.offset


def _between(place: Place, start: Tensor, stop: Tensor) -> Tensor:
    position = _positions(place)
    return ops.logical_and(position >= start, position < stop)


def inside(position: Tensor, length: Tensor) -> Tensor:
    """Whether positions are true steps: bool `(batch, size)`; `(1, size)` for a scalar length."""
    length = ops.cast(length, "int32")
    return ops.logical_and(position >= 0, position < ops.reshape(length, (-1, 1)))
