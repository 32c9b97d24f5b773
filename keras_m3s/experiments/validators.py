"""What the fields of an `Experiment` may be."""

import math
from collections.abc import Callable, Mapping
from typing import Any

FILLS: tuple[str, ...] = ("zero", "mean", "learned")
"""What stands in a hole: 0, as in the paper; the mean of the channel in the training data; or a
trainable number for each channel. A number is one as well."""


def _is_rate(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 <= value < math.inf


def _is_range(value: Any) -> bool:
    pair = isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_is_rate, value))
    return pair and value[0] <= value[1] <= 1


def _is_rates(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_rate, value.values()))


def _is_fill(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value in FILLS if isinstance(value, str) else number and math.isfinite(value)


def _is_momentum(value: Any) -> bool:
    return _is_rate(value) and 0 < value < 1


Validator = tuple[str, Callable[[Any], bool]]
"""What a value must be, in words, and whether one is."""


def _integer(least: int) -> Validator:
    return f"a whole number >= {least}", lambda v: type(v) is int and v >= least


def _optional(validator: Validator) -> Validator:
    return f"{validator[0]}, or None", lambda v: v is None or validator[1](v)


NAME: Validator = ("a name", lambda v: isinstance(v, str))
RANGE: Validator = ("a range (low, high) with 0 <= low <= high <= 1", _is_range)
RATE: Validator = ("a finite number >= 0", _is_rate)
MAPPING: Validator = ("a mapping", lambda v: isinstance(v, Mapping))

VALIDATORS: dict[str, Validator] = {
    "dataset": NAME,
    "missing_rate": RANGE,
    "test_missing_rate": RANGE,
    "seed": _integer(0),
    "hole_seed": _integer(0),
    "batch_size": _integer(1),
    "epochs": _integer(1),
    "patience": _optional(_integer(1)),
    "learning_rate": _optional(RATE),
    "inner_learning_rate": (
        f"{RATE[0]}, or a mapping of path patterns to such",
        lambda v: _is_rate(v) or _is_rates(v),
    ),
    "inner_steps": _integer(0),
    "first_order": ("True or False", lambda v: isinstance(v, bool)),
    "first_stage_epochs": _integer(0),
    "model_arguments": MAPPING,
    "fill": (f"one of {FILLS} or a finite number", _is_fill),
    "model_source": _optional(NAME),
    "averaging": _optional(("a number within (0, 1)", _is_momentum)),
}
"""Of the fields that are not one of a list of names."""


def validate(name: str, value: Any, validator: Validator) -> None:
    """Raises `ValueError` unless a value is what its field must be."""
    expected, is_valid = validator
    if not is_valid(value):
        raise ValueError(f"`{name}` must be {expected}. Received: {name}={value!r}.")
