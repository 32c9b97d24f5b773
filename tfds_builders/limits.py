"""Limits on what is read from files: their content and the memory that it takes.

Compressed or repeated content may take at most `MOST_UNFOLDED` times its size in the file, unless
it is smaller than `HARMLESS`.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

MOST_UNFOLDED = 200
"""Limit of the compression ratio; sequences padded with zeros stay below it."""

HARMLESS = 2**24
"""Bytes of memory that content may take whatever its size in the file."""


DEEPEST = 32
"""Largest depth of nested containers."""


class DataError(ValueError):
    """A file that does not hold what it must.

    Args:
        problem: What is wrong; the message.
        more: What is wrong besides, where all of a file has been looked at.
    """

    def __init__(self, problem: str, *more: str) -> None:
        super().__init__(problem)
        self.problems = (problem, *more)


class Problems:
    """Collects the errors of several checks.

    Call each check in `with problems.noted():`, then `problems.raise_any()`.
    """

    def __init__(self) -> None:
        self.found: list[str] = []

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Records a `DataError` that is raised in the block, and continues after the block."""
        try:
            yield
        except DataError as error:
            self.found += [one for one in error.problems if one not in self.found]

    def raise_any(self) -> None:
        """Raises all recorded problems as one `DataError`, if there are any."""
        if self.found:
            raise DataError(*self.found)


@dataclasses.dataclass(frozen=True)
class Unread:
    """Placeholder of a value that is not read; an error is raised only if the value is needed.

    Attributes:
        what: What the file holds in its place.
    """

    what: str


ATOMS = (str, bytes, int, float, type(None), np.generic)
"""Types of values that are no containers; they may be keys of a dict."""


def check_unfolded(place: str, stored: int, unfolded: int) -> None:
    """Raises an error if content would take far more memory than it has bytes in the file.

    Args:
        place: What is read, for the message.
        stored: Bytes in the file.
        unfolded: Bytes in memory.

    Raises:
        DataError: `unfolded` is out of proportion.
    """
    if unfolded > HARMLESS and unfolded > MOST_UNFOLDED * max(stored, 1):
        raise DataError(
            f"{place} must unfold to at most {MOST_UNFOLDED} times its size in the file. Received: "
            f"{stored} bytes that claim to be {unfolded}. Save it again without compression, if "
            "you trust it."
        )


def unfolded(content: Any) -> int:
    """Memory in bytes of a deep copy of plain content, in which nothing is shared.

    Args:
        content: Dicts, lists, tuples, sets, strings, numbers, arrays of these.

    Raises:
        DataError: A value is of another type, nested too deeply, or contains itself.
    """
    return _Tree().measure(content)[0]


class _Tree:
    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int]] = {}

    def measure(self, value: Any, depth: int = 0) -> tuple[int, int]:
        """Memory in bytes, and depth of nested containers.

        Raises:
            DataError: A value is not plain data, or nested too deeply.
        """
        objects = isinstance(value, np.ndarray) and value.dtype.hasobject
        if isinstance(value, np.ndarray) and not objects:
            return value.nbytes + 8, 0
        if isinstance(value, (*ATOMS, Unread)):
            if isinstance(value, int) and value.bit_length() > 64:
                raise DataError("whole numbers must fit into 64 bits. Received: a larger one.")
            return (len(value) if isinstance(value, str | bytes) else 0) + 8, 0
        if not objects and not isinstance(value, dict | list | tuple | set | frozenset):
            raise DataError(f"the pickle must hold plain data. Received: {kind(value)}.")
        if id(value) not in self._known:
            if depth > DEEPEST:
                raise DataError(
                    f"containers must be nested at most {DEEPEST} deep. Received: more."
                )
            inside = [*value, *value.values()] if isinstance(value, dict) else value
            inside = inside.flat if isinstance(inside, np.ndarray) else inside
            sizes = [self.measure(one, depth + 1) for one in inside]
            height = 1 + max((one[1] for one in sizes), default=0)
            self._known[id(value)] = sum(one[0] for one in sizes) + 8, height
        size, height = self._known[id(value)]
        if depth + height > DEEPEST + 1:
            raise DataError(f"containers must be nested at most {DEEPEST} deep. Received: more.")
        return size, height


def kind(value: Any) -> str:
    """Name of a value's type in messages."""
    return type(value).__name__.lstrip("_").lower()


def check_characters(raw: np.ndarray, dtype: np.dtype[Any]) -> None:
    """Checks that NumPy strings hold valid code points, which NumPy itself does not check.

    Args:
        raw: The bytes, uint8.
        dtype: What they stand for.

    Raises:
        DataError: there are such.
    """
    if dtype.kind != "U" or not raw.size:
        return
    codes = raw.view(np.dtype(np.uint32).newbyteorder(dtype.byteorder))
    if codes.max() > 0x10FFFF or ((codes >= 0xD800) & (codes < 0xE000)).any():
        raise DataError("strings must hold characters of Unicode. Received: other numbers.")
