"""What stands in a hole, and what tells that there is one."""

import dataclasses
from collections.abc import Mapping

import keras
from keras import ops

from keras_m3s.missing.patterns import Place, Tensor, inside


@dataclasses.dataclass(frozen=True)
class Filling:
    """What is put into holes.

    Attributes:
        values: Modality -> what stands in its holes: a number, or a tensor `(channels,)`; 0 for a
            modality that is not in it.
        rescale: Whether what is left of a modality is multiplied by 1 / (share left).
        presence: Whether to tell what is there.
    """

    values: Mapping[str, float | Tensor] = dataclasses.field(default_factory=dict)
    rescale: bool = False
    presence: bool = False


def fill(place: Place, missing: Tensor | None, filling: Filling) -> tuple[Tensor, Tensor | None]:
    """A modality with its holes filled.

    Args:
        place: The modality. A NaN within its true steps is a hole; one beyond them is padding and
            becomes 0.
        missing: Bool tensor of the drawn holes: `(batch, size)`, or of the values' shape; `None`
            for none.
        filling: What to put there.

    Returns:
        Features of the same shape and dtype, without NaN, and where `filling.presence` 1.0 where a
        value was measured and kept, else 0.0.
    """
    values, given = place.values, filling.values.get(place.name, 0.0)
    drawn = None if missing is None else along(missing, place)
    never_measured = _never_measured(values)
    hole = _either(drawn, never_measured)
    if hole is None:
        return values, ops.ones_like(values) if filling.presence else None
    plain = isinstance(given, (int, float)) and given == 0
    zero = ops.zeros((), dtype=values.dtype)
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
    """What drawn holes removed of a modality, zero elsewhere and where nothing was measured."""
    values = place.values
    zero = ops.zeros((), dtype=values.dtype)
    if missing is None:
        return ops.zeros_like(values)
    left = ops.logical_not(along(missing, place))
    left = _either(left, _never_measured(values))
    return ops.where(left, zero, values)


def along(mask: Tensor, place: Place) -> Tensor:
    """A mask of positions as one that broadcasts to the values; one of all values as it is."""
    rank = len(place.values.shape)
    if len(mask.shape) == rank:
        return mask
    # Beside the axis of the holes, one value for all.
    return mask[tuple(slice(None) if i in (0, place.axis) else None for i in range(rank))]


def _never_measured(values: Tensor) -> Tensor | None:
    dtype = keras.backend.standardize_dtype(values.dtype)
    return ops.isnan(values) if "float" in dtype else None


def _either(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return ops.logical_or(a, b)


def _true_steps(place: Place) -> Tensor:
    position = ops.arange(place.size, dtype="int32") - place.offset
    return inside(position, place.length)


def _rescaling(kept: Tensor, true: Tensor, values: Tensor) -> Tensor:
    """1 / (share left) of each sample, broadcasting to the values; 1 where nothing is left."""
    axes = tuple(range(1, len(values.shape)))
    left = ops.sum(ops.cast(kept, "float32"), axis=axes, keepdims=True)
    counted = ops.logical_or(kept, ops.broadcast_to(true, ops.shape(kept)))
    size = ops.sum(ops.cast(counted, "float32"), axis=axes, keepdims=True)
    return ops.cast(ops.where(left > 0, size / ops.maximum(left, 1.0), 1.0), values.dtype)


def _shaped(given: float | Tensor, place: Place) -> Tensor:
    """A filling that broadcasts to the values: vectors lie on the channels."""
    given = ops.cast(given, place.values.dtype)
    if len(given.shape) == 0:
        return given
    rank = len(place.values.shape)
    at = channel_axis(place.axis, rank)
    return given[tuple(slice(None) if i == at else None for i in range(rank))]


def channel_axis(axis: int, rank: int) -> int:
    """The axis of the channels: the last, or axis 1 where the holes lie on the last of several."""
    return 1 if rank > 2 and axis == rank - 1 else rank - 1
