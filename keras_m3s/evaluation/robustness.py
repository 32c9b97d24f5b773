"""`robustness`: what a model withstands, by its own metrics."""

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from keras_m3s import registry
from keras_m3s.evaluation.holes import HoledInputs, input_names, takes_nan
from keras_m3s.evaluation.table import Result, RobustnessTable
from keras_m3s.registry import patterns as cards

Score = Callable[[Any, Any], Mapping[str, float]]
"""Labels and predictions -> metrics by name."""

ALL_SUBSETS = 4
"""Units of which every combination is left out; of more, only single ones and pairs."""


def robustness(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    rates: Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8),
    patterns: Sequence[str] = ("span", "modality"),
    draws: int = 5,
    absent: bool = True,
    modalities: Any = None,
    axis: Any = "time",
    groups: Sequence[Sequence[str]] | None = None,
    sample_weight: Any = None,
    batch_size: int = 64,
    seed: int = 0,
    score: Score | None = None,
) -> RobustnessTable:
    """Evaluates a compiled model on test data with holes, by its own loss and metrics.

    Holes are cut before the data reaches the model, from draws that depend on `seed` alone: every
    model that is tested meets the same ones, at all rates with the same draws, and one compiled
    program serves all rates. A model that has a `MissingModality` inside gets NaN for what is
    missing, any other 0.

    Examples:
        >>> table = robustness(model, x_test, y_test, rates=(0, 0.5), patterns=("span",))
        >>> print(table)
        >>> table.plot("robustness.png")

    Args:
        model: Any compiled `keras.Model`, wrapped or not.
        x: Test inputs: dict, list or tuple of arrays, or one array.
        y: Labels.
        rates: Missing rates within [0, 1].
        patterns: Names of patterns of missingness, see `keras_m3s.missing.patterns`.
        draws: Draws of the holes for each pattern and rate above 0.
        absent: Whether to test without each modality and each combination as well.
        modalities: As of `MissingModality`; `None`: the entries of a dict, the names of a model's
            inputs.
        axis: As of `MissingModality`.
        groups: Modalities that are lost together.
        sample_weight: As of `keras.Model.evaluate`.
        batch_size: As of `keras.Model.evaluate`.
        seed: Of the draws.
        score: Function of labels and predictions that returns metrics by name, in place of the
            model's own; the model then need not be compiled.

    Returns:
        A table that prints and plots itself.

    Raises:
        ValueError: The model is not compiled, or an argument is out of range.
    """
    _check(model, rates, patterns, draws, compiled=score is None)
    inputs = HoledInputs(x, modalities, input_names(model), axis, groups, takes_nan(model))

    def evaluated(holed: Any) -> dict[str, float]:
        if score is not None:
            predictions = model.predict(holed, batch_size=batch_size, verbose=0)
            return {name: float(value) for name, value in score(y, predictions).items()}
        with warnings.catch_warnings():
            # A wrapper would say that it cuts no holes: they are in the inputs already.
            warnings.filterwarnings("ignore", message="Without `draws`")
            found = model.evaluate(
                holed, y, batch_size=batch_size, sample_weight=sample_weight, verbose=0,
                return_dict=True,
            )  # fmt: skip
        return {name: float(value) for name, value in found.items()}

    complete = evaluated(inputs.complete())
    results = []
    for pattern, rate in itertools.product(patterns, rates):
        if rate == 0:
            results.append(Result(pattern, 0.0, (), 0, complete))
            continue
        for draw in range(draws):
            metrics = evaluated(inputs.at(rate, pattern, seed + draw))
            results.append(Result(pattern, float(rate), (), draw, metrics))
    if absent:
        for units in combinations(inputs.units):
            left_out = tuple(name for unit in units for name in unit)
            metrics = evaluated(inputs.without(left_out))
            results.append(Result(None, None, left_out, 0, metrics))
    return RobustnessTable(tuple(results), complete, inputs.names)


def combinations(units: Sequence[Sequence[str]]) -> list[tuple[Sequence[str], ...]]:
    """What is left out together: all proper subsets, or of many units single ones and pairs."""
    most = len(units) - 1 if len(units) <= ALL_SUBSETS else 2
    return [c for size in range(1, most + 1) for c in itertools.combinations(units, size)]


def _check(
    model: keras.Model,
    rates: Sequence[float],
    patterns: Sequence[str],
    draws: int,
    compiled: bool,
) -> None:
    if compiled and not getattr(model, "compiled", False):
        raise ValueError(
            "`model` must be compiled, with the metrics that count. "
            "Received: one that is not. Call `model.compile(loss=..., metrics=[...])`."
        )
    for rate in rates:
        if not 0 <= rate <= 1:
            raise ValueError(f"`rates` must be within [0, 1]. Received: {tuple(rates)}.")
    for pattern in patterns:
        registry.require("patterns", pattern, cards.CARDS)
    if draws < 1:
        raise ValueError(f"`draws` must be >= 1. Received: draws={draws}.")
