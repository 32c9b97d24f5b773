"""Checks of numbers that a model is made with."""

import numbers
from typing import Any


def require_int(name: str, value: Any, least: int = 1) -> None:
    """Raises `ValueError` unless a value is an int of at least `least`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"`{name}` must be an int >= {least}. Received: {name}={value!r}.")


def require_number(name: str, value: Any) -> None:
    """Raises `ValueError` unless a value is a number, such as the factor of a loss."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise ValueError(f"`{name}` must be a number. Received: {name}={value!r}.")


def require_rate(name: str, value: Any) -> None:
    """Raises `ValueError` unless a value is a dropout rate, in [0, 1)."""
    require_number(name, value)
    if not 0 <= value < 1:
        raise ValueError(f"`{name}` must be in [0, 1). Received: {name}={value!r}.")
