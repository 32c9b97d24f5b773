"""Labels of a user's own data: classes or scores."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from . import columns
from .describing import describe
from .limits import DataError, Problems

LABEL = "label"
LEAVE_OUT = "Leave these examples out."
TO_PREDICT = "Or, to predict from it, `keras-m3s predict RUN FILE` needs no labels."


KEYS = (LABEL, "regression_labels", "classification_labels", "labels")
"""Keys of labels, here and in the schemas of MMSA and MulT."""


def are_in(split: Any) -> bool:
    """Whether a split has labels, in whichever schema."""
    return isinstance(split, Mapping) and any(split.get(key) is not None for key in KEYS)


def nowhere(place: str, key: str, splits: Iterable[str]) -> str:
    """What is wrong with data in whose splits there are no labels at all.

    Args:
        place: Name of the source.
        key: How labels are called.
        splits: Names of the splits.
    """
    return (
        f"{place}: {key} must be in each split, a class or a score for each example. "
        f"Received: none in any of {list(splits)}. Add them. {TO_PREDICT}"
    )


def classified(
    place: str, splits: Mapping[str, tuple[Any, Sequence[str]]]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Converts labels to int32 classes or float32 scores.

    Strings and integers are classes. Unless they are 0, 1, 2, ... already, they are numbered in
    sorted order, with a warning.

    Args:
        place: Name of the source, for messages.
        splits: Split -> its labels and the ids of its examples.

    Returns:
        The labels; the names of the classes, if they were numbered.

    Raises:
        DataError: The labels are neither, differ in kind between splits, or in number from the ids.
    """
    if all(values is None for values, _ in splits.values()):
        message = nowhere(place, f"`{LABEL}`", splits)
        raise DataError(message)
    problems, found = Problems(), {}
    for split, (values, ids) in splits.items():
        with problems.noted():
            found[split] = _column(f"{place}, {split}", values, ids)
    problems.raise_any()
    kinds = {split: _kind(array) for split, array in found.items()}
    if len(set(kinds.values())) > 1:
        raise DataError(f"{place}: labels must be of one kind in all splits. Received: {kinds}.")
    joined = np.concatenate(list(found.values()))
    if joined.dtype.kind == "f":
        if joined.size > 1 and np.all(joined == np.round(joined)):
            warnings.warn(
                f"{place}: `{LABEL}` holds whole numbers, {joined.min():g} to {joined.max():g}, "
                "stored as floats: they are scores. Classes must be stored as ints.",
                stacklevel=4,
            )
        return {split: array.astype(np.float32) for split, array in found.items()}, ()
    values = np.unique(joined)
    if len(values) > columns.MOST_CLASSES:
        raise DataError(
            f"{place}: `{LABEL}` must name at most {columns.MOST_CLASSES} classes. Received: "
            f"{len(values)}. Store scores as floats."
        )
    if joined.dtype.kind != "U" and len(values) > max(20, len(joined) // 2):
        warnings.warn(
            f"{place}: `{LABEL}` holds {len(values)} different whole numbers, which are classes. "
            "Store scores as floats.",
            stacklevel=4,
        )
    names = tuple(str(value) for value in values)
    if joined.dtype.kind != "U" and np.array_equal(values, np.arange(len(values))):
        return {split: array.astype(np.int32) for split, array in found.items()}, ()
    _say_numbers(place, names)
    return {
        split: np.searchsorted(values, array).astype(np.int32) for split, array in found.items()
    }, names


def _say_numbers(place: str, names: Sequence[str]) -> None:
    shown = ", ".join(f"{name!r} is {number}" for number, name in enumerate(names[:12]))
    more = f", and {len(names) - 12} more" if len(names) > 12 else ""
    warnings.warn(f"{place}: classes were numbered in their order: {shown}{more}.", stacklevel=5)


def _kind(array: np.ndarray) -> str:
    return {"f": "scores", "U": "strings"}.get(array.dtype.kind, "whole numbers")


def _column(place: str, values: Any, ids: Sequence[str]) -> np.ndarray:
    """Converts the labels of a split to strings, int64 or finite float64."""
    if values is None:
        raise DataError(
            f"{place}: `{LABEL}` must be there, a class or a score for each example. Received: "
            "none. Without labels, `keras-m3s predict` reads it."
        )
    array = np.asarray(values) if isinstance(values, list | tuple) else values
    if isinstance(array, np.ndarray) and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if not isinstance(array, np.ndarray) or array.shape != (len(ids),):
        advice = " One-hot classes are `array.argmax(axis=1)`." if np.ndim(array) == 2 else ""
        raise DataError(
            f"{place}: `{LABEL}` must hold one number or name for each of {len(ids)} examples. "
            f"Received: {describe(values)}.{advice}"
        )
    if array.dtype.kind == "O" and not any(isinstance(one, str) for one in array):
        array = columns.numbers(place, LABEL, array)
    if array.dtype.kind in "SUO":
        names = np.array(columns.strings(place, LABEL, array))
        if "" in names:
            raise DataError(f"{place}: `{LABEL}` must name a class for each example. Received: "
                            f"{int((names == '').sum())} empty. {LEAVE_OUT}")  # fmt: skip
        strange = [name for name in np.unique(names).tolist() if not name.isprintable()]
        if strange:
            raise DataError(f"{place}: `{LABEL}` must name classes in one line each. "
                            f"Received: {strange[0][:40]!r}.")  # fmt: skip
        return names
    if array.dtype.kind not in "fiub":
        raise DataError(f"{place}: `{LABEL}` must hold numbers or names. "
                        f"Received: {describe(array)}.")  # fmt: skip
    if array.dtype.kind == "f":
        columns.finite(place, LABEL, array, ids, LEAVE_OUT)
        return array.astype(np.float64)
    return array.astype(np.int64)
