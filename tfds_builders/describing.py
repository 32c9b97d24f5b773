"""Describes values from files in a few words, for messages."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .limits import Unread

SHOWN = 40
"""Number of characters of a value that are shown."""


def describe(value: Any) -> str:
    """Type and size; of lists, object arrays and strings also what the entries are.

    Such as "array (4, 7, 2) of float32", "list of 24 str, the first '-2.82'".
    """
    if isinstance(value, Unread):
        return value.what
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, Mapping):
        return f"dict with keys {sorted(map(str, value))[:12]}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"{type(value).__name__} of {len(value)}{_entries(list(value))}"
    if isinstance(value, str | bytes | int | float | np.generic):
        return f"{type(value).__name__} {_shown(value)}"
    return type(value).__name__


def _array(array: np.ndarray) -> str:
    if not array.dtype.hasobject:
        text = array.dtype.kind in "SU" and array.size
        first = f", the first {_shown(array.flat[0])}" if text else ""
        return f"array {array.shape} of {array.dtype}{first}"
    if array.ndim == 0:
        return describe(array[()])
    return f"object array {array.shape} of{_entries(array.ravel().tolist()) or ' nothing'}"


def _entries(entries: Sequence[Any]) -> str:
    """Kinds of entries, the most frequent first, and the first of the rarest kind."""
    if not entries:
        return ""
    kinds = Counter(map(_kind, entries)).most_common()
    if len(kinds) == 1:
        return f" {kinds[0][0]}, the first {_brief(entries[0])}"
    rare = kinds[-1][0]
    row = next(row for row, entry in enumerate(entries) if _kind(entry) == rare)
    names = " and ".join(name for name, _ in kinds[:3])
    return f" {names}, entry {row} the first {rare}: {_brief(entries[row])}"


def _kind(value: Any) -> str:
    return "array" if isinstance(value, np.ndarray) else type(value).__name__


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return f"{value.shape} of {value.dtype}"
    if isinstance(value, list | tuple | set | frozenset | Mapping):
        return f"of {len(value)}"
    return value.what if isinstance(value, Unread) else _shown(value)


def _shown(value: Any) -> str:
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
