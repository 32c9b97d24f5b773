"""Mixtures of patterns: one is drawn for each sample, by given shares."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from keras import ops

from keras_m3s import registry
from keras_m3s.missing.filling import along
from keras_m3s.missing.patterns import Request, Tensor, frame_uniforms
from keras_m3s.registry import patterns

Spec = str | Mapping[str, "float | str | Mapping[str, float]"]
"""What `MissingModality(pattern=...)` takes."""

CHOICE = -1
"""Position whose uniform selects the pattern; positions of frames are not negative."""


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Patterns and their shares.

    Attributes:
        names: The patterns.
        upto: Float32 array or tensor `(columns, patterns)`: cumulative shares for each column of
            the draws, the last of them 1; `None` for a single pattern.
        joint: Whether all modalities of a sample have the same pattern.
    """

    names: tuple[str, ...] = (patterns.PAPER,)
    upto: Tensor | None = None
    joint: bool = True

    def masks(self, request: Request) -> list[Tensor]:
        """Masks of what is missing, one per place: bool `(batch, size)` or of the values' shape."""
        made = [registry.load(patterns.CARDS[name].masks)(request) for name in self.names]
        if self.upto is None:
            return list(made[0])
        return [
            self._mixed(request, at, [masks[at] for masks in made])
            for at in range(len(request.places))
        ]

    def _mixed(self, request: Request, at: int, masks: Sequence[Tensor]) -> Tensor:
        place = request.places[at]
        column = 0 if self.joint else place.column
        position = ops.full((1,), CHOICE, dtype="int32")
        uniform = frame_uniforms(request.draws[:, column], position)
        upto = ops.convert_to_tensor(self.upto)[column]
        whole = [place.values is not None and len(m.shape) > 2 for m in masks]
        result = None
        for number, mask in enumerate(masks):
            low = 0.0 if number == 0 else upto[number - 1]
            chosen = ops.logical_and(uniform >= low, uniform < upto[number])
            if any(whole):
                mask = along(mask, place)
                chosen = ops.reshape(chosen, (-1, *[1] * (len(place.values.shape) - 1)))
            mask = ops.logical_and(mask, chosen)
            result = mask if result is None else ops.logical_or(result, mask)
        return result


def parse(
    spec: Spec, modalities: Sequence[str] | None
) -> tuple[tuple[str, ...], np.ndarray | None, bool]:
    """Parses `pattern` of `MissingModality`.

    Args:
        spec: A pattern's name; pattern -> share; or modality -> either.
        modalities: Names of the modalities, if they are known.

    Returns:
        Names, `upto` and `joint` of a `Mixture`.

    Raises:
        ValueError: A pattern is unknown, shares are negative or sum to 0, or a modality has no
            pattern.
    """
    if isinstance(spec, str):
        registry.require("pattern", spec, patterns.CARDS)
        return (spec,), None, True
    if not isinstance(spec, Mapping) or not spec:
        raise ValueError(
            "`pattern` must be a name, a dict from patterns to shares, or a dict from modalities "
            f"to either. Received: pattern={spec!r}."
        )
    shares = {name: float(v) for name, v in spec.items() if isinstance(v, (int, float))}
    if len(shares) == len(spec):
        names = tuple(shares)
        return names, _summed([_shares(shares, names)] * len(modalities or ("",))), True
    each: dict[str, Mapping[str, float]] = {}
    for modality, one in spec.items():
        if not isinstance(one, (str, Mapping)):
            raise ValueError(
                "`pattern` must give each modality a name or a dict of shares. "
                f"Received: {one!r} for {modality!r}."
            )
        each[modality] = {one: 1.0} if isinstance(one, str) else one
    if modalities is not None and set(each) != set(modalities):
        raise ValueError(
            f"`pattern` must have an entry for each of {tuple(modalities)}. "
            f"Received: {tuple(each)}."
        )
    names = tuple(dict.fromkeys(name for mapping in each.values() for name in mapping))
    return names, _summed([_shares(each[m], names) for m in modalities or tuple(each)]), False


def _shares(spec: Mapping[str, float], names: Sequence[str]) -> list[float]:
    for name in spec:
        registry.require("pattern", name, patterns.CARDS)
    shares = [float(spec.get(name, 0.0)) for name in names]
    if min(shares) < 0 or not 0 < sum(shares) < float("inf"):
        raise ValueError(
            f"Shares of patterns must be >= 0, and one of them above 0. Received: {dict(spec)}."
        )
    return shares


def _summed(shares: Sequence[Sequence[float]]) -> np.ndarray:
    table = np.array(shares, "float64")
    summed = np.cumsum(table / table.sum(axis=1, keepdims=True), axis=1)
    # Exactly 1 from the last pattern with a share on; the others have none.
    summed[summed >= 1 - 1e-12] = 1.0
    return summed.astype("float32")
