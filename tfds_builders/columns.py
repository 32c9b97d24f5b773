"""Converts the columns of a feature file, one entry per segment, to arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .describing import describe
from .limits import DataError

LEAVE_OUT = "Leave these segments out: a label of 0 would call them neutral."
REPLACE = "Replace them by 0, or leave these segments out."

MOST_CLASSES = 10_000
"""Limit of class numbers, since a model has one output per number up to the largest."""


def numbers(place: str, key: str, values: Any) -> np.ndarray:
    """Numbers as an array `(N,)`, from a list or array in which each entry is one number.

    Args:
        place: File and split, for messages.
        key: Name of the column, for messages.
        values: What the file holds.

    Raises:
        DataError: it is something else.
    """
    if isinstance(values, list | tuple):
        values = _stacked(values)
    elif isinstance(values, np.ndarray) and values.dtype.kind in "OSU" and values.ndim:
        values = _stacked(values.ravel().tolist(), values)
    good = isinstance(values, np.ndarray) and values.dtype.kind in "fiub" and values.ndim
    if not good or values.size != len(values):
        raise DataError(
            f"{place}: `{key}` must hold one number a segment, shape (N,). "
            f"Received: {describe(values)}.{_advice(key, values)}"
        )
    return np.asarray(values.reshape(-1), dtype=None if values.dtype.kind != "b" else np.int32)


def _stacked(entries: Sequence[Any], otherwise: Any = None) -> Any:
    """Converts entries of one number each to an array; NaN for None and "".

    An entry may be an array `(1,)`. If some entry is no number, returns `otherwise`, by default the
    entries.
    """
    otherwise = entries if otherwise is None else otherwise
    flat = [_single(entry) for entry in entries]
    if not all(isinstance(one, int | float | np.number | np.bool_) for one in flat):
        return otherwise
    array = np.array(flat, dtype=None if flat else np.float64)
    return otherwise if array.dtype.hasobject else array


def _single(entry: Any) -> Any:
    """Returns the element of an array of size 1, and NaN for an empty entry."""
    if isinstance(entry, np.ndarray) and entry.size == 1:
        entry = entry.flat[0]
    return np.nan if entry is None or (isinstance(entry, str) and not entry) else entry


def _advice(key: str, values: Any) -> str:
    if "classification" in key:
        if isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind in "fiub":
            return " Where each row has one 1, `array.argmax(axis=1)` gives the classes."
        return " Number the classes from 0 on."
    texts = values.ravel().tolist() if isinstance(values, np.ndarray) else values
    if isinstance(texts, list | tuple) and any(isinstance(one, str | bytes) for one in texts):
        return " Save them as numbers."
    return ""


def strings(place: str, key: str, values: Any) -> list[str]:
    """Strings as a list, from a list or array of strings or of bytes in UTF-8.

    Raises:
        DataError: An entry is no string; the message names the first.
    """
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if not isinstance(values, list | tuple) and getattr(values, "ndim", 0) != 1:
        raise DataError(f"{place}: `{key}` must list strings. Received: {describe(values)}.")
    try:
        found = [value.decode() if isinstance(value, bytes) else value for value in values]
        "".join(value for value in found if isinstance(value, str)).encode()
    except UnicodeError as error:
        raise DataError(f"{place}: `{key}` must be text in UTF-8. Received: {error}.") from None
    if not all(isinstance(value, str) for value in found):
        raise DataError(f"{place}: `{key}` must list strings. Received: {describe(values)}.")
    return [str(value) for value in found]


def transcripts(place: str, key: str, values: Any) -> list[str]:
    """As `strings`, for columns that no model reads; None and NaN become empty strings."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        values = values.tolist()
    if isinstance(values, list | tuple):
        values = ["" if _absent(value) else value for value in values]
        values = [str(value) if isinstance(value, int | float) else value for value in values]
    return strings(place, key, values)


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def finite(
    place: str, key: str, array: np.ndarray, ids: Sequence[str], advice: str = REPLACE
) -> np.ndarray:
    """An array as float32, all of it finite.

    Args:
        place: File and split, for messages.
        key: Its name, for messages.
        array: Numbers `(N, ...)`.
        ids: `N` names of segments, for messages.
        advice: What to do about values that are not finite.

    Raises:
        DataError: a value is NaN or infinite; segment and position are named.
    """
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    wrong = ~np.isfinite(array)
    if wrong.any():
        first = np.unravel_index(wrong.argmax(), wrong.shape)
        row = int(first[0])
        silence = " (audio may hold -inf)" if advice == REPLACE else ""
        raise DataError(
            f"{place}: `{key}` must be finite{silence}. Received: {int(wrong.sum())} values of NaN "
            f"or inf, the first {array[first]} in segment {_named(ids, row)}, position "
            f"{tuple(map(int, first))}. {advice}"
        )
    return array


def integers(
    place: str, key: str, array: np.ndarray, ids: Sequence[str], advice: str = REPLACE
) -> np.ndarray:
    """An array of whole numbers as int32.

    Raises:
        DataError: A value is not a whole number, or too large.
    """
    if array.dtype.kind == "f":
        finite(place, key, array, ids, advice)
        array = array.astype(np.float64)  # 2**31 is no float16
    if array.size and (np.any(array != np.round(array)) or np.abs(array).max() >= 2**31):
        raise DataError(f"{place}: `{key}` must hold whole numbers below 2**31. "
                        f"Received: values {array.min()}..{array.max()}.")  # fmt: skip
    return array.astype(np.int32)


def classes(place: str, key: str, array: np.ndarray, ids: Sequence[str]) -> np.ndarray:
    """Class labels as int32, numbered from 0.

    Raises:
        DataError: They are numbered otherwise; the message lists the classes.
    """
    found = integers(place, key, array, ids, LEAVE_OUT)
    if found.min() < 0 or found.max() >= MOST_CLASSES:
        there = np.unique(found)
        lowest = int(there[0])
        remedy = f"subtract {lowest}, so that the lowest is 0" if lowest < 0 else "number them anew"
        raise DataError(
            f"{place}: `{key}` must number the classes from 0 on, below {MOST_CLASSES}. Received: "
            f"the classes {_some(there)}. In all splits, {remedy}; scores go under "
            "`regression_labels`."
        )
    return found


def _some(numbers: np.ndarray) -> str:
    listed = numbers.tolist()
    return ", ".join(map(str, listed if len(listed) <= 8 else [*listed[:4], "...", *listed[-3:]]))


def lengths(place: str, key: str, array: np.ndarray, steps: int, ids: Sequence[str]) -> np.ndarray:
    """Lengths as int32 `(N,)`, each at most the number of steps of the array.

    Raises:
        DataError: A length is larger or negative; the message names its segment.
    """
    length = integers(place, key, array, ids, "Give each segment its number of steps.")
    wrong = (length < 0) | (length > steps)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{place}: `{key}` must lie in 0..{steps}, the steps of the array. Received: "
            f"{int(wrong.sum())} beyond, the first {length[row]} in segment {_named(ids, row)}. "
            "Cut the lengths where the arrays were cut."
        )
    return length


def _named(ids: Sequence[str], row: int) -> str:
    return repr(ids[row]) if row < len(ids) else str(row)
