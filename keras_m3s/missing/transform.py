"""T(X;F), the augmented missing modality transform (M3S, section 3.2), as pure functions.

For each sample and modality a rate r ~ U(low, high) and a start are drawn; the run of
k = floor(length * r) values from the start on is set to zero:

    draws = (u_rate, u_start)            two uniforms in [0, 1): all the randomness there is
    r     = low + (high - low) * u_rate
    k     = floor(length * r)
    start = floor((length - k + 1) * u_start)       uniform on 0 .. length - k
    x[start : start + k] = 0

A draw is data: `sample_draws` and `fixed_draws` make draws, `apply` is a function of features,
lengths and draws. With `axis="time"` the run lies on the true steps of a sequence, with
`axis="feature"` on the last axis of an encoded vector. Other patterns than the paper's run, made
from the same draws, are in `keras_m3s.missing.patterns`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_m3s import registry
from keras_m3s.missing.patterns import Place
from keras_m3s.modalities import COMPLEMENT, MODALITIES, TEXT_BERT, length_key
from keras_m3s.registry import patterns

UNKNOWN_TOKEN = 100
"""[UNK] in BERT's vocabularies, English and Chinese."""

Rates = Mapping[str, tuple[float, float]]


def sample_draws(batch_size: Any, modalities: int = len(MODALITIES), seed: Any = None) -> Any:
    """Fresh draws for a batch.

    Args:
        batch_size: Number of samples, an int or a scalar tensor.
        modalities: Number of modalities.
        seed: As in `keras.random.uniform`: an int, a `keras.random.SeedGenerator` or `None`.

    Returns:
        Float32 tensor `(batch_size, modalities, 2)` in [0, 1): the uniforms of rate and start.
    """
    return keras.random.uniform((batch_size, modalities, 2), seed=seed, dtype="float32")


def fixed_draws(size: int, modalities: int = len(MODALITIES), *, seed: int) -> np.ndarray:
    """The same draws every time, row by row, for data whose holes must not change.

    ORIG trains on them, and all methods are tested on them. Row `i` depends on `seed` and `i` only.

    Args:
        size: Number of samples in the data set.
        modalities: Number of modalities.
        seed: Non-negative int.

    Returns:
        Float32 array `(size, modalities, 2)` in [0, 1), to be indexed by example.
    """
    return np.random.default_rng(seed).random((size, modalities, 2), dtype=np.float32)


def apply(
    inputs: Mapping[str, Any],
    draws: Any,
    missing_rate: Rates,
    axis: str = "time",
    pattern: str = patterns.PAPER,
    conditions: Sequence[Sequence[str]] | None = None,
) -> Any:
    """Cuts the holes that the draws decide; a pure function.

    Args:
        inputs: Dict of features and lengths, see `keras_m3s.modalities`. Entries that are no
            feature of a modality pass through. A nested dict `complement` of features is kept
            only where the holes are: X(1-m) beside X m.
        draws: Float tensor `(batch, modalities, 2)`, in the order of `missing_rate`.
        missing_rate: Dict modality -> `(low, high)`.
        axis: `"time"`: holes on axis 1, on the true steps if `{modality}_length` is given.
            `text_bert` `(batch, 3, steps)` loses tokens to [UNK] (id 100), [CLS] and [SEP] stay.
            `"feature"`: holes on the last axis.
        pattern: Name of a pattern, see `keras_m3s.missing.patterns`.
        conditions: The sets of missing modalities to choose from, for a pattern that takes such.

    Returns:
        A new dict with the same keys, shapes and dtypes; each tensor is new where it changed.

    Reference: M3S, section 3.2.
    """
    outputs = dict(inputs)
    complement = dict(inputs.get(COMPLEMENT) or {})
    places = {}
    for column, modality in enumerate(missing_rate):
        if modality in inputs:
            places[modality, "kept"] = _place(column, inputs, modality, axis)
        if modality in complement:
            places[modality, "removed"] = _place(column, {**inputs, **complement}, modality, axis)
        if modality == "text" and TEXT_BERT in inputs and axis == "time":
            places[TEXT_BERT, "kept"] = _place_of_tokens(column, inputs[TEXT_BERT])
    draws = ops.cast(draws, "float32")
    if not places:
        return outputs
    registry.require("pattern", pattern, patterns.CARDS)
    make_masks = registry.load(patterns.CARDS[pattern].masks)
    masks = make_masks(list(places.values()), draws, missing_rate, conditions)
    for (name, part), missing in zip(places, masks, strict=True):
        if name == TEXT_BERT:
            outputs[name] = _hide_tokens(inputs[name], missing)
        elif part == "kept":
            outputs[name] = _zero_where(missing, inputs[name], axis)
        else:
            complement[name] = _zero_where(ops.logical_not(missing), complement[name], axis)
    if complement:
        outputs[COMPLEMENT] = complement
    return outputs


def _place(column: int, features: Mapping[str, Any], modality: str, axis: str) -> Place:
    """Where a modality's features have holes."""
    values = features[modality]
    at = 1 if axis == "time" else len(values.shape) - 1
    size = values.shape[at] or ops.shape(values)[at]
    length = features.get(length_key(modality)) if axis == "time" else None
    length = size if length is None else ops.clip(ops.cast(length, "int32"), 0, size)
    return Place(column, size, length)


def _place_of_tokens(column: int, text_bert: Any) -> Place:
    """Position 0 is [CLS], the last true one is [SEP]."""
    words = ops.maximum(ops.sum(ops.cast(text_bert[:, 1], "int32"), axis=1) - 2, 0)
    return Place(column, text_bert.shape[2] or ops.shape(text_bert)[2], words, offset=1)


def _zero_where(missing: Any, features: Any, axis: str) -> Any:
    rank = len(features.shape)
    at = 1 if axis == "time" else rank - 1
    # Beside the axis of the holes, one value for all.
    missing = missing[tuple(slice(None) if i in (0, at) else None for i in range(rank))]
    return ops.where(missing, ops.zeros((), dtype=features.dtype), features)


def _hide_tokens(text_bert: Any, missing: Any) -> Any:
    """Replaces missing token ids by [UNK]."""
    ids, present, segments = text_bert[:, 0], text_bert[:, 1], text_bert[:, 2]
    unknown = ops.cast(UNKNOWN_TOKEN, ids.dtype)
    return ops.stack([ops.where(missing, unknown, ids), present, segments], axis=1)
