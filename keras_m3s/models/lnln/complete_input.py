"""The complete input, put together from what holes left and what they removed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from keras import ops


class Complete(NamedTuple):
    """A modality without its holes.

    Attributes:
        values: Features `(batch, steps, dim)` or tokens `(batch, 3, steps)`.
        measured: Float `(batch,)`, 1.0 for samples that have values of this modality, else 0.0.
        kept: Float `(batch,)`, share of the steps (of the words) outside the holes.
    """

    values: Any
    measured: Any
    kept: Any


def complete_features(kept: Any, removed: Any) -> Complete:
    """A sequence of features without its holes.

    A step is in a hole where `removed` has a non-zero value that differs from `kept`. Steps of
    zeros, which are padding or were never measured, do not count in the share.

    Args:
        kept: `(batch, steps, dim)`, with holes.
        removed: Same shape: the values in the holes, elsewhere zeros or the values of `kept`.
    """
    kept, removed = ops.convert_to_tensor(kept), ops.convert_to_tensor(removed)
    removed = ops.cast(removed, kept.dtype)
    something = ops.not_equal(removed, 0)
    values = ops.where(something, removed, kept)
    gone = ops.any(ops.logical_and(something, ops.not_equal(removed, kept)), axis=-1)
    steps = ops.any(ops.not_equal(values, 0), axis=-1)
    return Complete(values, ops.cast(ops.any(steps, axis=1), "float32"), _left(gone, steps))


def complete_tokens(kept: Any, removed: Any) -> Complete:
    """Tokens without their holes; [CLS] and [SEP], never in a hole, do not count in the share.

    Args:
        kept: `(batch, 3, steps)` int: ids with [UNK] in the holes, mask, segments.
        removed: Same shape: the ids in the holes, elsewhere 0 or the ids of `kept`; its mask and
            segments are not read.
    """
    kept = ops.cast(kept, "int32")
    ids, mask = kept[:, 0], kept[:, 1]
    before = ops.cast(removed, "int32")[:, 0]
    gone = ops.logical_and(ops.not_equal(before, 0), ops.not_equal(before, ids))
    gone = ops.logical_and(gone, ops.not_equal(mask, 0))
    values = ops.stack([ops.where(gone, before, ids), mask, kept[:, 2]], axis=1)
    words = ops.maximum(ops.sum(mask, axis=1) - 2, 1)
    share = ops.sum(ops.cast(gone, "float32"), axis=1) / ops.cast(words, "float32")
    return Complete(values, ops.ones_like(share), 1.0 - share)


def given_at_all(measured: Any, inputs: Any, modality: str) -> Any:
    """Without the samples that have nothing but NaN, whatever stands in their holes.

    Args:
        measured: Float `(batch,)`, see `Complete`.
        inputs: Batch as the loss gets it, before `WithMissing` cut its holes: NaN is still NaN.
        modality: Name of the modality.
    """
    given = inputs.get(modality) if isinstance(inputs, Mapping) else None
    if given is None:
        return measured
    given = ops.convert_to_tensor(given)
    absent = ops.all(ops.isnan(given), axis=tuple(range(1, len(given.shape))))
    return measured * ops.cast(ops.logical_not(absent), measured.dtype)


def _left(gone: Any, steps: Any) -> Any:
    """Share of `steps` that is not `gone`, both bool `(batch, steps)`; 1 without any."""
    counted = ops.maximum(ops.sum(ops.cast(steps, "float32"), axis=1), 1.0)
    return 1.0 - ops.sum(ops.cast(gone, "float32"), axis=1) / counted
