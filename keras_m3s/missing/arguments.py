"""Checks of the arguments and inputs of `MissingModality`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_m3s.missing.transform import AXES, TEXT, Axis
from keras_m3s.modalities import TEXT_BERT, length_key
from keras_m3s.registry import patterns

Range = tuple[float, float]


def as_range(name: str, rate: Any) -> Range:
    """Returns `rate` as `(low, high)`; a number means both."""
    try:
        low, high = (float(rate), float(rate)) if np.ndim(rate) == 0 else map(float, rate)
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    if not 0 <= low <= high <= 1:
        raise ValueError(
            "`missing_rate` must be a range (low, high) with 0 <= low <= high <= 1. "
            f"Received: missing_rate={rate!r} for {name!r}."
        )
    return low, high


def as_axes(axis: Axis | Mapping[str, Axis], names: Sequence[str] | None) -> tuple[Axis, ...]:
    """Returns the axis of each modality."""
    if isinstance(axis, Mapping):
        if names is not None and not set(axis) <= set(names):
            raise ValueError(
                f"`axis` must be of the modalities {tuple(names)}. Received: axis={dict(axis)}."
            )
        each = [axis.get(name, "time") for name in names or tuple(axis)]
    else:
        each = [axis] * len(names or ("",))
    for one in each:
        number = isinstance(one, int) and not isinstance(one, bool) and one != 0
        if one not in AXES and not number:
            raise ValueError(
                f"`axis` must be one of {AXES}, or the number of an axis other than 0. "
                f"Received: axis={one!r}"
            )
    return tuple(each)


def as_conditions(
    conditions: Iterable[Sequence[str]] | None,
    names: Sequence[str],
    modalities: Sequence[str] | None,
) -> tuple[tuple[str, ...], ...] | None:
    """Returns `conditions` as tuples, checked against patterns and modalities."""
    if conditions is None:
        return None
    if not any(patterns.CARDS[name].takes_conditions for name in names):
        taking = [name for name, card in patterns.CARDS.items() if card.takes_conditions]
        raise ValueError(
            f"`conditions` must go with a pattern that takes them, one of {taking}. "
            f"Received: pattern={', '.join(names)!r}."
        )
    # A string is one modality, not a sequence of letters.
    found = tuple((c,) if isinstance(c, str) else tuple(c) for c in conditions)
    known = modalities is not None
    if not found or (known and any(not set(c) < set(modalities or ()) for c in found)):
        raise ValueError(
            "`conditions` must be one or more sets of missing modalities, each leaving one of "
            f"{tuple(modalities) if modalities else 'those of the inputs'}. Received: {found}."
        )
    return found


Fill = float | list[float]
"""A number for all channels, or one for each."""


def as_fillings(fill: Any) -> float | dict[str, Fill]:
    """Returns `fill` as a number, or a dict of numbers and of lists of such."""
    if isinstance(fill, Mapping):
        return {name: _filling(value, fill) for name, value in fill.items()}
    return _number(fill, fill)


def _filling(value: Any, fill: Any) -> Fill:
    if np.ndim(value) == 1 and not isinstance(value, str):
        return [_number(one, fill) for one in np.asarray(value).tolist()]
    return _number(value, fill)


def _number(value: Any, fill: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not np.isfinite(value):
        raise ValueError(
            "`fill` must be a finite number, a dict from modalities to such or to a number for "
            f"each channel, or 'learned' for all modalities. Received: fill={fill!r}."
        )
    return float(value)


def check_channels(fill: Mapping[str, Any], name: str, channels: int | None) -> None:
    """Raises `ValueError` if there are numbers for each channel, but not as many as channels."""
    given = fill.get(name)
    if isinstance(given, list) and channels is not None and len(given) != channels:
        raise ValueError(
            f"`fill` must have a number for each of the {channels} channels of {name!r}. "
            f"Received: {len(given)}."
        )


def as_groups(groups: Iterable[Sequence[str]] | None) -> tuple[tuple[str, ...], ...]:
    """Returns `groups` as tuples of names, each name in one group at most."""
    found = tuple(tuple(group) for group in groups or ())
    named = [name for group in found for name in group]
    if any(isinstance(group, str) for group in groups or ()) or len(named) != len(set(named)):
        raise ValueError(
            "`groups` must be tuples of modalities, each modality in one of them at most. "
            f"Received: groups={groups!r}."
        )
    return found


def grouped_columns(
    groups: Sequence[Sequence[str]], rates: Mapping[str, Range]
) -> dict[str, int] | None:
    """Returns modality -> its column of the draws; `None` if each has its own.

    Raises:
        ValueError: A group names an unknown modality, or its rates differ.
    """
    if not groups:
        return None
    order = list(rates)
    columns = {name: number for number, name in enumerate(order)}
    for group in groups:
        unknown = set(group) - set(order)
        if unknown or len({rates[name] for name in group}) != 1:
            raise ValueError(
                f"A group must be of the modalities {tuple(order)}, all with the same missing "
                f"rate. Received: {tuple(group)}."
            )
        first = min(order.index(name) for name in group)
        columns |= dict.fromkeys(group, first)
    return columns


def check_inputs(
    inputs: Mapping[str, Any], rates: Mapping[str, Range], axes: Sequence[Axis]
) -> Any:
    """Checks the inputs of a call.

    Args:
        inputs: Dict of features and lengths.
        rates: Modality -> range of missing rates.
        axes: Axis of each modality.

    Returns:
        The batch size.

    Raises:
        ValueError: A modality is absent, has too few axes, or batch sizes differ.
    """
    each = dict(zip(rates, axes, strict=True))
    tokens = TEXT_BERT in inputs and each.get(TEXT) == "time"
    absent = [m for m in each if m not in inputs and not (m == TEXT and tokens)]
    if absent:
        raise ValueError(
            f"`inputs` must hold the modalities {tuple(each)}. Received: {tuple(inputs)}. For an "
            "absent modality pass zeros, or NaN."
        )
    present = {m: inputs[m] for m in each if m in inputs}
    for name, value in present.items():
        rank, axis = len(value.shape), each[name]
        if rank < 2 or (isinstance(axis, int) and not -rank < axis < rank):
            raise ValueError(
                f"With axis={axis!r} `{name}` must have shape (batch, ..., dim) with that axis. "
                f"Received: shape {tuple(value.shape)}."
            )
    if tokens:
        present[TEXT_BERT] = inputs[TEXT_BERT]
        if tuple(inputs[TEXT_BERT].shape[1:2]) != (3,):
            raise ValueError(
                "`text_bert` must have shape (batch, 3, steps): token ids, mask, segments. "
                f"Received: shape {tuple(inputs[TEXT_BERT].shape)}."
            )
    lengths = (length_key(m) for m in each)
    counted = {**present, **{key: inputs[key] for key in lengths if key in inputs}}
    sizes = {name: value.shape[0] for name, value in counted.items()}
    if len({size for size in sizes.values() if isinstance(size, int)}) > 1:
        raise ValueError(f"All inputs must have the same batch size. Received: {sizes}.")
    return ops.shape(next(iter(present.values())))[0]
