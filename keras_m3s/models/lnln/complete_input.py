"""The input as it was before its holes, and what LNLN's losses are told of it."""

from typing import Any, NamedTuple

from keras import ops


class Complete(NamedTuple):
    """A modality with what its holes removed put back.

    Attributes:
        values: Features `(batch, steps, dim)` or tokens `(batch, 3, steps)`.
        measured: Float `(batch,)`, 1.0 where a sample has anything of this modality.
        kept: Float `(batch,)`, share of its steps (of its words) that are in no hole.
    """

    values: Any
    measured: Any
    kept: Any


def complete_features(kept: Any, removed: Any) -> Complete:
    """A sequence of features without its holes.

    A step is in a hole where `removed` has something that `kept` has not. Steps of zeros alone,
    which are padding or were never measured, count neither as kept nor as removed.

    Args:
        kept: `(batch, steps, dim)`, with holes.
        removed: Same shape: what was in the holes, and zeros or `kept` elsewhere.
    """
    kept, removed = ops.convert_to_tensor(kept), ops.convert_to_tensor(removed)
    removed = ops.cast(removed, kept.dtype)
    something = ops.not_equal(removed, 0)
    values = ops.where(something, removed, kept)
    gone = ops.any(ops.logical_and(something, ops.not_equal(removed, kept)), axis=-1)
    steps = ops.any(ops.not_equal(values, 0), axis=-1)
    return Complete(values, ops.cast(ops.any(steps, axis=1), "float32"), _left(gone, steps))


def complete_tokens(kept: Any, removed: Any) -> Complete:
    """Tokens without their holes; [CLS] and [SEP], which holes leave, count in no share.

    Args:
        kept: `(batch, 3, steps)` int: ids with [UNK] in the holes, mask, segments.
        removed: Same shape: the ids that were in the holes, and 0 or those of `kept` elsewhere.
            Only its ids are read.
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


def _left(gone: Any, steps: Any) -> Any:
    """Share of `steps` that is not `gone`, both bool `(batch, steps)`; 1 without any."""
    counted = ops.maximum(ops.sum(ops.cast(steps, "float32"), axis=1), 1.0)
    return 1.0 - ops.sum(ops.cast(gone, "float32"), axis=1) / counted
