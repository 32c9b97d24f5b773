"""The complete input, put together from what holes left and what they removed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from keras import ops

from keras_m3s.modalities import COMPLEMENT, COMPLETE, TEXT_BERT


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


def complete_part(inputs: Mapping[str, Any], key: str) -> Complete | None:
    """An entry of the batch without its holes; `None` if the batch does not tell.

    Args:
        inputs: Batch with `complement`, and maybe `complete`.
        key: A modality of features, or `text_bert`.
    """
    removed = (inputs.get(COMPLEMENT) or {}).get(key)
    if removed is None:
        return None
    if key == TEXT_BERT:
        return complete_tokens(inputs[key], removed)
    return complete_features(inputs[key], removed, (inputs.get(COMPLETE) or {}).get(key))


def complete_features(kept: Any, removed: Any, complete: Any = None) -> Complete:
    """A sequence of features without its holes.

    A step is in a hole where `removed` has a non-zero value that differs from `kept`. Steps of
    zeros, which are padding or were never measured, do not count in the share.

    Args:
        kept: `(batch, steps, dim)`, with holes.
        removed: Same shape: the values in the holes, elsewhere zeros or the values of `kept`; NaN
            counts as 0.
        complete: Same shape: the values before the holes, NaN where nothing was measured. `None`
            where `kept` has them outside the holes, and zeros in those of what was 0.
    """
    kept = ops.convert_to_tensor(kept)
    removed = _without_nan(removed, kept.dtype)
    there = in_holes(kept, removed)
    if complete is None:
        values = ops.where(there, removed, kept)
    else:
        values = _without_nan(complete, kept.dtype)
    steps = ops.any(ops.not_equal(values, 0), axis=-1)
    share = _left(ops.any(there, axis=-1), steps)
    return Complete(values, ops.cast(ops.any(steps, axis=1), "float32"), share)


def in_holes(kept: Any, removed: Any) -> Any:
    """Bool, where something was removed, of the shape of both.

    Args:
        kept: Values with holes, whatever stands in these.
        removed: The values in the holes, elsewhere zeros or the values of `kept`.
    """
    return ops.logical_and(ops.not_equal(removed, 0), ops.not_equal(removed, kept))


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
    measured = ops.cast(ops.any(ops.not_equal(mask, 0), axis=1), "float32")
    return Complete(values, measured, 1.0 - share)


def _without_nan(values: Any, dtype: Any) -> Any:
    values = ops.cast(values, dtype)
    return ops.where(ops.isnan(values), ops.zeros((), dtype), values)


def _left(gone: Any, steps: Any) -> Any:
    """Share of `steps` that is not `gone`, both bool `(batch, steps)`; 1 without any."""
    counted = ops.maximum(ops.sum(ops.cast(steps, "float32"), axis=1), 1.0)
    return 1.0 - ops.sum(ops.cast(gone, "float32"), axis=1) / counted
