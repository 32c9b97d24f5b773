"""T(X;F), the augmented missing modality transform (M3S, section 3.2), as pure functions.

For each sample and modality, a rate r ~ U(low, high) and a start are drawn, and a run of
k = floor(length * r) values is set to zero:

    draws = (u_rate, u_start)            two uniforms in [0, 1), the only randomness
    r     = low + (high - low) * u_rate
    k     = floor(length * r)
    start = floor((length - k + 1) * u_start)       uniform on 0 .. length - k
    x[start : start + k] = 0

Draws are data: `sample_draws` and `fixed_draws` make them, and `apply` is a function of features,
lengths and draws. With `axis="time"` the run lies within the true steps of a sequence, with
`axis="feature"` on the last axis of an encoded vector. `keras_m3s.missing.patterns` has further
patterns, which use the same draws.

NaN means that a value was never measured, and counts as missing too.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_m3s import registry
from keras_m3s.missing.filling import Filling, fill, fill_removed
from keras_m3s.missing.mixture import Mixture
from keras_m3s.missing.patterns import Place, Request, Tensor, as_rates
from keras_m3s.modalities import COMPLEMENT, MODALITIES, TEXT_BERT, length_key, presence_key
from keras_m3s.registry import patterns

UNKNOWN_TOKEN = 100
"""[UNK] in BERT's vocabularies, English and Chinese."""

TEXT = "text"

AXES = ("time", "feature")

Rates = Mapping[str, tuple[float, float]]
Axis = str | int


def sample_draws(batch_size: Any, modalities: int = len(MODALITIES), seed: Any = None) -> Tensor:
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
    """Draws that are the same on every call, for missingness that must not change.

    ORIG trains with them, and all methods are tested with them. Row `i` depends on `seed` and `i`
    only.

    Args:
        size: Number of samples in the data set.
        modalities: Number of modalities.
        seed: Non-negative int.

    Returns:
        Float32 array `(size, modalities, 2)` in [0, 1), to be indexed by example.
    """
    return np.random.default_rng(seed).random((size, modalities, 2), dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class Holes:
    """Settings of the transform: rates, axes, patterns, and the values of missing entries.

    Attributes:
        names: The modalities, in the order of the draws.
        rates: Float32 array or tensor `(modalities, 3)`, see `keras_m3s.missing.patterns.as_rates`.
        axes: Axis of each modality's holes: `"time"` (axis 1; the only axis of a vector),
            `"feature"` (the last), or a number.
        mixture: The patterns and their shares.
        columns: Modality -> its column of the draws, where groups share one; `None`: one each.
        conditions: Sets of missing modalities, for a pattern that chooses among them.
        filling: Values of missing entries.
        recorded: See `keras_m3s.missing.patterns.Request`.
    """

    names: tuple[str, ...]
    rates: Tensor
    axes: tuple[Axis, ...]
    mixture: Mixture = dataclasses.field(default_factory=Mixture)
    columns: Mapping[str, int] | None = None
    conditions: Sequence[Sequence[str]] | None = None
    filling: Filling = dataclasses.field(default_factory=Filling)
    recorded: Mapping[str, Tensor] | None = None


def apply(
    inputs: Mapping[str, Any],
    draws: Tensor,
    missing_rate: Rates,
    axis: Axis = "time",
    pattern: str = patterns.PAPER,
    conditions: Sequence[Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Sets to zero what the draws select and what was never measured (NaN); a pure function.

    Args:
        inputs: Dict of features and lengths, see `keras_m3s.modalities`. Other entries pass
            unchanged. Of a nested dict `complement` of features, only what is removed here is kept:
            X(1-m) beside X m; of its `text_bert` the ids in the holes, elsewhere 0.
        draws: Float tensor `(batch, modalities, 2)`, in the order of `missing_rate`; `None` for NaN
            alone.
        missing_rate: Dict modality -> `(low, high)`.
        axis: `"time"`: axis 1, within the true steps if `{modality}_length` is given. In
            `text_bert` `(batch, 3, steps)` tokens become [UNK] (id 100); [CLS] and [SEP] are kept.
            `"feature"`: the last axis. An int: that axis of the batch.
        pattern: Name of a pattern, see `keras_m3s.missing.patterns`.
        conditions: Sets of missing modalities to choose from, for a pattern that takes them.

    Returns:
        A new dict with the same keys, shapes and dtypes; each tensor is new where it changed.

    Raises:
        ValueError: There is no such pattern.

    Reference: M3S, section 3.2.
    """
    names = tuple(missing_rate)
    mixture = Mixture((pattern,))
    registry.require("pattern", pattern, patterns.CARDS)
    rates = as_rates(missing_rate)
    axes: tuple[Axis, ...] = (axis,) * len(names)
    return cut(inputs, draws, Holes(names, rates, axes, mixture, conditions=conditions))


def cut(inputs: Mapping[str, Any], draws: Tensor | None, holes: Holes) -> dict[str, Any]:
    """As `apply`, with all settings of the layer.

    Args:
        inputs: As for `apply`.
        draws: As for `apply`, in the order of `holes.names`.
        holes: Settings.
    """
    outputs = dict(inputs)
    complement = dict(inputs.get(COMPLEMENT) or {})
    places: dict[tuple[str, str], Place] = {}
    for number, (modality, axis) in enumerate(zip(holes.names, holes.axes, strict=True)):
        column = number if holes.columns is None else holes.columns[modality]
        if modality in inputs:
            places[modality, "kept"] = _place(column, inputs, modality, axis)
        if modality in complement:
            places[modality, "removed"] = _place(column, {**inputs, **complement}, modality, axis)
        if modality == TEXT and axis == "time":
            for part, source in (("kept", inputs), ("removed", complement)):
                if TEXT_BERT in source:
                    places[TEXT_BERT, part] = _place_of_tokens(column, source[TEXT_BERT])
        elif modality == TEXT and TEXT_BERT in complement:
            complement[TEXT_BERT] = _removed_tokens(complement[TEXT_BERT], None)
    masks = _masks(list(places.values()), draws, holes) if places else []
    for ((name, part), place), missing in zip(places.items(), masks, strict=True):
        if name == TEXT_BERT and part == "removed":
            complement[name] = _removed_tokens(complement[name], missing)
        elif name == TEXT_BERT:
            if missing is not None:
                outputs[name] = _hide_tokens(inputs[name], missing)
        elif part == "removed":
            complement[name] = fill_removed(place, missing)
        else:
            outputs[name], present = fill(place, missing, holes.filling)
            if present is not None:
                outputs[presence_key(name)] = present
    if complement:
        outputs[COMPLEMENT] = complement
    return outputs


def _masks(places: Sequence[Place], draws: Tensor | None, holes: Holes) -> Sequence[Tensor | None]:
    """Masks of what the draws select, one per place; `None` without draws."""
    if draws is None:
        return [None] * len(places)
    names, rates = holes.names, ops.convert_to_tensor(holes.rates, "float32")
    draws = ops.cast(draws, "float32")
    if holes.columns is not None:
        firsts = list(dict.fromkeys(holes.columns.values()))  # the first modality of each group
        names = tuple(names[i] for i in firsts)
        draws, rates = ops.take(draws, firsts, axis=1), ops.take(rates, firsts, axis=0)
        places = [place._replace(column=firsts.index(place.column)) for place in places]
    request = Request(places, draws, rates, names, holes.conditions, holes.recorded)
    return holes.mixture.masks(request)


def _place(column: int, features: Mapping[str, Any], modality: str, axis: Axis) -> Place:
    """The positions of a modality that can be missing."""
    values = features[modality]
    at = axis_of(axis, len(values.shape))
    size = values.shape[at] or ops.shape(values)[at]
    # Lengths count steps; they do not apply to the feature axis.
    steps = axis != "feature"
    length = features.get(length_key(modality)) if steps else None
    length = size if length is None else ops.clip(ops.cast(length, "int32"), 0, size)
    return Place(column, size, length, 0, modality, values, at)


def axis_of(axis: Axis, rank: int) -> int:
    """Number of an axis in a batch of a given rank.

    Args:
        axis: `"time"`, `"feature"` or a number.
        rank: Rank of the batch, at least 2; with rank 2 both names mean axis 1.
    """
    if isinstance(axis, int):
        return axis % rank
    return 1 if axis == "time" else rank - 1


def _place_of_tokens(column: int, text_bert: Tensor) -> Place:
    """The words of a text: position 0 is [CLS], the last true one is [SEP]."""
    words = ops.maximum(ops.sum(ops.cast(text_bert[:, 1], "int32"), axis=1) - 2, 0)
    size = text_bert.shape[2] or ops.shape(text_bert)[2]
    return Place(column, size, words, offset=1, name=TEXT_BERT)


def _hide_tokens(text_bert: Tensor, missing: Tensor) -> Tensor:
    """Replaces missing token ids by [UNK]."""
    ids, present, segments = text_bert[:, 0], text_bert[:, 1], text_bert[:, 2]
    unknown = ops.cast(UNKNOWN_TOKEN, ids.dtype)
    return ops.stack([ops.where(missing, unknown, ids), present, segments], axis=1)


def _removed_tokens(text_bert: Tensor, missing: Tensor | None) -> Tensor:
    """The token ids that a pattern removed, and 0 elsewhere."""
    ids, present, segments = text_bert[:, 0], text_bert[:, 1], text_bert[:, 2]
    zeros = ops.zeros_like(ids)
    removed = zeros if missing is None else ops.where(missing, ids, zeros)
    return ops.stack([removed, present, segments], axis=1)
