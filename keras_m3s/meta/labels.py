"""Labels that were never given: NaN."""

from typing import Any

import keras
from keras import ops

Tensor = Any


def without_nan(y: Any, y_pred: Any, sample_weight: Any) -> tuple[Any, Any]:
    """Labels and weights with which entries that are NaN count for nothing.

    A row of an output whose label is NaN as a whole has weight 0. Where only some entries of a row
    are NaN, the prediction takes their place, so that losses of the difference are 0 there.

    Args:
        y: Labels: a tensor, or a structure of one for each output.
        y_pred: Predictions in the same structure.
        sample_weight: A tensor `(batch,)`, a structure of such, or `None`.

    Returns:
        Labels and weights; as they came where no label is floating.
    """
    if y is None or not any(map(_is_floating, keras.tree.flatten(y))):
        return y, sample_weight
    if not isinstance(y, (dict, list, tuple)):
        return _masked(y, y_pred, sample_weight)
    if isinstance(y, dict):
        keys: Any = list(y)
    else:
        keys = range(len(y))
    if type(y_pred) is not type(y) or len(y_pred) != len(y):
        return y, sample_weight
    labels, weights = {}, {}
    one_for_all = not isinstance(sample_weight, (dict, list, tuple))
    for key in keys:
        weight = sample_weight if one_for_all else sample_weight[key]
        labels[key], weights[key] = _masked(y[key], y_pred[key], weight)
    if isinstance(y, dict):
        return labels, weights
    return type(y)(labels.values()), type(y)(weights.values())


def _is_floating(value: Any) -> bool:
    return hasattr(value, "dtype") and "float" in keras.backend.standardize_dtype(value.dtype)


def _masked(y: Tensor, y_pred: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    if not _is_floating(y):
        return y, weight
    nan = ops.isnan(y)
    rest = tuple(range(1, len(y.shape)))
    lost = ops.all(nan, axis=rest) if rest else nan
    same = hasattr(y_pred, "shape") and tuple(y_pred.shape[1:]) == tuple(y.shape[1:])
    stand_in = ops.stop_gradient(ops.cast(y_pred, y.dtype)) if same else ops.zeros((), y.dtype)
    labels = ops.where(nan, stand_in, y)
    counts = ops.cast(ops.logical_not(lost), keras.backend.floatx())
    if weight is None:
        return labels, counts
    weight = ops.cast(weight, counts.dtype)
    return labels, ops.reshape(counts, (-1, *[1] * (len(weight.shape) - 1))) * weight
