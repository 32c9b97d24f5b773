"""What no file may do: hold something else than it must, or unfold to far more than it stores.

What is compressed, or said in few bytes, may unfold at most `MOST_UNFOLDED` times, beyond a size
that never hurts.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

MOST_UNFOLDED = 200
"""Sequences padded with zeros compress well, but not like a file made to fill the memory."""

HARMLESS = 2**24
"""Bytes that may unfold from anything."""


DEEPEST = 32
"""Containers inside one another."""


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
    """Collects the errors of several checks, so that one does not hide the next.

    `with problems.noted(): check()` for each, then `problems.raise_any()`.
    """

    def __init__(self) -> None:
        self.found: list[str] = []

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Keeps a `DataError` raised inside, and goes on behind the block."""
        try:
            yield
        except DataError as error:
            self.found += [one for one in error.problems if one not in self.found]

    def raise_any(self) -> None:
        """Raises all that was noted as one `DataError`; does nothing if there was none."""
        if self.found:
            raise DataError(*self.found)


@dataclasses.dataclass(frozen=True)
class Unread:
    """Stands for a value of a kind that is not read: an error only where that value is needed.

    Attributes:
        what: What the file holds in its place.
    """

    what: str


ATOMS = (str, bytes, int, float, type(None), np.generic)
"""What is one value, and what may be a key."""


def check_unfolded(place: str, stored: int, unfolded: int) -> None:
    """Refuses what would fill the memory.

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
    """Bytes that plain content takes where nothing in it is shared, as a copy of it would.

    Args:
        content: Dicts, lists, tuples, sets, strings, numbers, arrays of these.

    Raises:
        DataError: it is something else, nested too deeply, or holds itself.
    """
    return _Tree().measure(content)[0]


class _Tree:
    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int]] = {}

    def measure(self, value: Any, depth: int = 0) -> tuple[int, int]:
        """Bytes, and containers inside one another.

        Raises:
            DataError: it is no plain data, or nested too deeply.
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
    """What a value is called in messages."""
    return type(value).__name__.lstrip("_").lower()


def check_characters(raw: np.ndarray, dtype: np.dtype[Any]) -> None:
    """Strings of numpy are numbers to numpy: those beyond Unicode break whoever reads them.

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
