"""Values of missing entries, rescaling of the others, and masks of what is present."""

import dataclasses
from collections.abc import Mapping

import keras
from keras import ops

from keras_m3s.missing.patterns import Place, Tensor, inside


@dataclasses.dataclass(frozen=True)
class Filling:
    """Settings of how missing values are filled.

    Attributes:
        values: Modality -> value of its missing entries, a number or a tensor `(channels,)`;
            default 0.
        rescale: Whether to multiply the remaining values of a modality by 1 / (share left).
        presence: Whether to return a mask of what is present.
    """

    values: Mapping[str, float | Tensor] = dataclasses.field(default_factory=dict)
    rescale: bool = False
    presence: bool = False


def fill(place: Place, missing: Tensor | None, filling: Filling) -> tuple[Tensor, Tensor | None]:
    """Fills the missing values of a modality.

    Args:
        place: The modality. NaN within its true steps is missing; beyond them it is padding and
            becomes 0.
        missing: Bool tensor of what a pattern selects: `(batch, size)`, or of the values' shape;
            `None` for nothing.
        filling: Settings.

    Returns:
        Features of the same shape and dtype, without NaN; and with `filling.presence` a mask, 1.0
        where a value was measured and kept, else 0.0.
    """
    values, given = place.values, filling.values.get(place.name, 0.0)
    drawn = None if missing is None else along(missing, place)
    zero = ops.zeros((), dtype=values.dtype)
    plain = isinstance(given, (int, float)) and given == 0
    if plain and drawn is not None and not (filling.rescale or filling.presence):
        return ops.where(_left(values, drawn), values, zero), None
    never_measured = _never_measured(values)
    hole = _either(drawn, never_measured)
    if hole is None:
        return values, ops.ones_like(values) if filling.presence else None
    if plain and not (filling.rescale or filling.presence):
        return ops.where(hole, zero, values), None
    true = along(_true_steps(place), place)
    kept = ops.logical_and(ops.logical_not(hole), true)
    clean = values if never_measured is None else ops.where(never_measured, zero, values)
    if filling.rescale:
        clean = clean * _rescaling(kept, true, values)
    filled = ops.where(hole, _shaped(given, place), clean)
    if never_measured is not None:
        padding = ops.logical_and(never_measured, ops.logical_not(true))
        filled = ops.where(padding, zero, filled)
    present = ops.broadcast_to(ops.cast(kept, values.dtype), ops.shape(values))
    return filled, present if filling.presence else None


def fill_removed(place: Place, missing: Tensor | None) -> Tensor:
    """The values that a pattern removed from a modality, and zeros elsewhere."""
    values = place.values
    zero = ops.zeros((), dtype=values.dtype)
    if missing is None:
        return ops.zeros_like(values)
    left = ops.logical_not(along(missing, place))
    left = _either(left, _never_measured(values))
    return ops.where(left, zero, values)


def along(mask: Tensor, place: Place) -> Tensor:
    """Adds axes to a mask of positions, so that it broadcasts to the values."""
    rank = len(place.values.shape)
    if len(mask.shape) == rank:
        return mask
    return mask[tuple(slice(None) if i in (0, place.axis) else None for i in range(rank))]


def _never_measured(values: Tensor) -> Tensor | None:
    dtype = keras.backend.standardize_dtype(values.dtype)
    return ops.isnan(values) if "float" in dtype else None


def _left(values: Tensor, drawn: Tensor) -> Tensor:
    """Where values are neither drawn nor NaN, of the values' shape.

    NaN is below and above nothing, so one comparison finds both; in eager PyTorch `isnan` and
    `logical_or` take more than the whole of the rest.
    """
    if "float" not in keras.backend.standardize_dtype(values.dtype):
        return ops.logical_not(drawn)
    least = ops.where(drawn, float("nan"), float("-inf"))
    return ops.greater_equal(values, ops.cast(least, values.dtype))


def _either(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return ops.logical_or(a, b)


def _true_steps(place: Place) -> Tensor:
    position = ops.arange(place.size, dtype="int32") - place.offset
    return inside(position, place.length)


def _rescaling(kept: Tensor, true: Tensor, values: Tensor) -> Tensor:
    """1 / (share left) per sample, broadcasting to the values; 1 if nothing is left."""
    axes = tuple(range(1, len(values.shape)))
    left = ops.sum(ops.cast(kept, "float32"), axis=axes, keepdims=True)
    counted = ops.logical_or(kept, ops.broadcast_to(true, ops.shape(kept)))
    size = ops.sum(ops.cast(counted, "float32"), axis=axes, keepdims=True)
    return ops.cast(ops.where(left > 0, size / ops.maximum(left, 1.0), 1.0), values.dtype)


def _shaped(given: float | Tensor, place: Place) -> Tensor:
    """Adds axes to a filling, so that a vector lies on the channel axis."""
    given = ops.cast(ops.convert_to_tensor(given), place.values.dtype)
    if len(given.shape) == 0:
        return given
    rank = len(place.values.shape)
    at = channel_axis(place.axis, rank)
    return given[tuple(slice(None) if i == at else None for i in range(rank))]


def channel_axis(axis: int, rank: int) -> int:
    """The channel axis: the last, or axis 1 if the positions are on the last axis."""
    return 1 if rank > 2 and axis == rank - 1 else rank - 1
