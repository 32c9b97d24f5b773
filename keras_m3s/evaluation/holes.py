"""Test inputs with holes, made on the host: a compiled model meets the same shapes at all rates."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_m3s.missing.arguments import as_axes, as_groups, grouped_columns
from keras_m3s.missing.filling import Filling
from keras_m3s.missing.layer import MissingModality
from keras_m3s.missing.mixture import Mixture
from keras_m3s.missing.patterns import as_rates
from keras_m3s.missing.transform import Axis, Holes, cut, fixed_draws
from keras_m3s.missing.views import InputView
from keras_m3s.modalities import modalities_in

CHUNK = 1024
"""Rows whose holes are made at once."""

Structure = Any
"""Dict, list or tuple of arrays, or a single array."""


class HoledInputs:
    """Inputs and what is needed to cut holes into them.

    Args:
        x: Inputs of a model: dict, list or tuple of arrays, or a single array.
        modalities: As `MissingModality` takes them.
        names: Names of a list's entries, where `modalities` does not say.
        axis: As `MissingModality` takes it.
        groups: Modalities that are lost together.
        as_nan: Whether holes are NaN, for a model that knows what to do with them, or 0.

    Attributes:
        names: The modalities.
        units: What can be absent by itself: modalities, or groups of them.
    """

    def __init__(
        self,
        x: Structure,
        modalities: Any = None,
        names: Sequence[str] | None = None,
        axis: Axis | Mapping[str, Axis] = "time",
        groups: Sequence[Sequence[str]] | None = None,
        as_nan: bool = False,
    ) -> None:
        listed = names if isinstance(x, (list, tuple)) and modalities is None else modalities
        self.x, self.view = x, InputView(listed)
        features = self.view.split(x)
        self.features = {name: np.asarray(value) for name, value in features.items()}
        known = self.view.names
        self.names = known or modalities_in({n: v.shape for n, v in self.features.items()})
        absent = [name for name in self.names if name not in self.features]
        if absent and not (absent == ["text"] and "text_bert" in self.features):
            raise ValueError(
                f"`x` must hold the modalities {self.names}. Received: {tuple(self.features)}."
            )
        self.axes = as_axes(axis, self.names)
        self.groups = as_groups(groups)
        rates = dict.fromkeys(self.names, (0.0, 0.0))
        self.columns = grouped_columns(self.groups, rates)
        grouped = {name for group in self.groups for name in group}
        self.units = (*self.groups, *((name,) for name in self.names if name not in grouped))
        self.filling = Filling(dict.fromkeys(self.names, float("nan"))) if as_nan else Filling()

    def __len__(self) -> int:
        return len(next(iter(self.features.values())))

    def at(self, rate: float, pattern: str, seed: int) -> Structure:
        """The inputs with holes of a pattern at a rate.

        Args:
            rate: Missing rate within [0, 1].
            pattern: Name of a pattern.
            seed: Of the draws; the same seed gives the same draws at all rates.
        """
        rates = dict.fromkeys(self.names, (rate, rate))
        return self._cut(rates, pattern, fixed_draws(len(self), len(self.names), seed=seed))

    def without(self, modalities: Sequence[str]) -> Structure:
        """The inputs without some modalities as a whole."""
        rates = {name: (1.0, 1.0) if name in modalities else (0.0, 0.0) for name in self.names}
        # At rate 1 every position is missing, whatever the draw.
        return self._cut(rates, "frames", np.zeros((len(self), len(self.names), 2), "float32"))

    def complete(self) -> Structure:
        """The inputs as they are, what was never measured filled as the holes are."""
        return self._cut(dict.fromkeys(self.names, (0.0, 0.0)), "none", None)

    def _cut(
        self, rates: Mapping[str, tuple[float, float]], pattern: str, draws: np.ndarray | None
    ) -> Structure:
        holes = Holes(
            self.names, as_rates(rates), self.axes, Mixture((pattern,)), self.columns,
            filling=self.filling,
        )  # fmt: skip
        parts = []
        for start in range(0, len(self), CHUNK):
            rows = slice(start, start + CHUNK)
            part = {n: ops.convert_to_tensor(v[rows]) for n, v in self.features.items()}
            cut_out = cut(part, None if draws is None else draws[rows], holes)
            parts.append({name: ops.convert_to_numpy(value) for name, value in cut_out.items()})
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        merged = self.view.merge(self.x, whole)
        return keras.tree.map_structure(np.asarray, merged)


def takes_nan(model: keras.Model) -> bool:
    """Whether a model fills values that were never measured by itself."""
    return any(isinstance(layer, MissingModality) for layer in model._flatten_layers())


def input_names(model: keras.Model) -> tuple[str, ...] | None:
    """Names of a Functional model's inputs, in their order; `None` for other models."""
    inner = getattr(model, "model", model)
    inputs = getattr(inner, "inputs", None)
    return tuple(tensor.name for tensor in inputs) if inputs else None
