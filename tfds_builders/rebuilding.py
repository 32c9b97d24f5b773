"""The functions a pickle may call: stand-ins that rebuild arrays, scalars, sets as plain data.

Shapes, types and sizes from the file are checked before NumPy uses them. See `pickles`.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from .limits import ATOMS, DataError, Unread, check_characters, kind

_DTYPE = re.compile(r"[<>|=]?(b1|i[1248]|u[1248]|f[248]|[SU]\d{1,9}|O8?)")


class Reader(Protocol):
    """The unpickler, as far as a stand-in needs it."""

    def made(self, size: int) -> None:
        """Adds to the bytes allocated so far, and checks their limit."""


class Function:
    """A function that a pickle may call but not change."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


class Dtype:
    """Stands for a `numpy.dtype` while reading: plain numbers, strings or objects."""

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str):
            raise DataError(f"a dtype must be named by a string. Received: {kind(code)}.")
        known = _DTYPE.fullmatch(code)
        self.plain = np.dtype(code if known else np.void)
        # Dates, complex numbers, records: nothing that a reader takes.
        self.unread = None if known else Unread(f"array of dtype {code[:20]!r}, which is not read")

    def set(self, state: Any) -> None:
        # (version, byte order, subarray, names, fields, size, alignment, flags[, metadata]):
        # the code says the rest already, so only the byte order is taken over.
        if self.unread is not None:
            return
        order, structure = state[1], state[2:5]
        if structure != (None, None, None) or order not in ("<", ">", "|", "="):
            raise DataError("arrays must be plain, not structured. Received: another dtype.")
        if order in ("<", ">"):
            self.plain = self.plain.newbyteorder(order)


def fill(reader: Reader, array: np.ndarray, state: Any) -> None:
    """Fills an array from a pickled state, whose shape, type and size are checked first."""
    shape, dtype, fortran, raw = state[1:] if len(state) == 5 else state
    shape = _checked_shape(shape)
    if not isinstance(dtype, Dtype):
        raise DataError(f"an array must state its dtype. Received: {kind(dtype)}.")
    plain = dtype.plain
    if dtype.unread is not None:
        _set_objects(array, (), [dtype.unread])
        return
    if plain.hasobject:
        values = _numbers(reader, raw, math.prod(shape))
        if values is None:
            _set_objects(array, shape, raw)
            return
        # numpy lists objects in C order whatever the flag.
        plain, fortran, raw = values.dtype, False, values.tobytes()
    if isinstance(raw, str):
        raw = raw.encode("latin1")  # as Python 2 wrote bytes
    _check_size(raw, shape, plain)
    reader.made(len(raw))
    check_characters(np.frombuffer(raw, np.uint8), plain)
    array.__setstate__((1, shape, plain, bool(fortran), raw))  # type: ignore[arg-type]  # numpy knows no such state


def put(target: Any, items: Iterable[tuple[Any, Any]]) -> None:
    if not isinstance(target, dict):
        raise DataError(f"items must be a dict's. Received: {kind(target)}.")
    items = list(items)
    atoms([key for key, _ in items])
    target.update(items)


def atoms(values: list[Any]) -> list[Any]:
    wrong = next((value for value in values if not isinstance(value, ATOMS)), None)
    if wrong is not None:
        raise DataError(f"keys must be strings or numbers. Received: {kind(wrong)}.")
    return values


def _checked_shape(shape: Any) -> tuple[int, ...]:
    plain = isinstance(shape, tuple) and len(shape) <= 8
    if not plain or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        raise DataError("an array's shape must be a tuple of at most 8 sizes.")
    checked: tuple[int, ...] = shape
    return checked


def _check_size(raw: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    size = math.prod(shape) * dtype.itemsize
    if not isinstance(raw, bytes) or len(raw) != size:
        arrived = f"{len(raw)} bytes" if isinstance(raw, bytes) else kind(raw)
        raise DataError(f"an array {shape} of {dtype} must take {size} bytes. Received: {arrived}.")


def _numbers(reader: Reader, values: Any, size: int) -> np.ndarray | None:
    """The entries of an object array as a flat array if all are numbers, else `None`."""
    if not isinstance(values, list) or len(values) != size:
        arrived = f"{len(values)} entries" if isinstance(values, list) else kind(values)
        raise DataError(f"an object array of {size} must list its entries. Received: {arrived}.")
    reader.made(8 * size)
    if not all(isinstance(value, bool | int | float | np.number) for value in values):
        return None
    array = np.array(values, dtype=None if values else np.float64)
    return None if array.dtype.hasobject else array  # whole numbers of more than 64 bits


def _set_objects(array: np.ndarray, shape: tuple[int, ...], values: list[Any]) -> None:
    array.__setstate__((1, shape, np.dtype(object), False, values))  # type: ignore[arg-type]  # NumPy types this for pickled arrays only


def _reconstruct(reader: Reader, subtype: Any, shape: Any, code: Any) -> np.ndarray:
    """An empty array, which BUILD fills; shape and type given here are placeholders."""
    if subtype is not _NDARRAY:
        raise DataError("arrays must be plain numpy arrays.")
    return np.empty(0, np.int8)


def _scalar(reader: Reader, dtype: Any, raw: Any) -> Any:
    """A NumPy scalar, a number or a string, from its bytes."""
    if not isinstance(dtype, Dtype) or dtype.plain.hasobject:
        raise DataError("a numpy scalar must be a number or a string.")
    if dtype.unread is not None:
        return dtype.unread
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    _check_size(raw, (), dtype.plain)
    check_characters(np.frombuffer(raw, np.uint8), dtype.plain)
    reader.made(len(raw))
    return np.frombuffer(raw, dtype.plain, count=1)[0] if raw else np.zeros((), dtype.plain)[()]


def _from_buffer(reader: Reader, raw: Any, dtype: Any, shape: Any, order: Any) -> Any:
    """An array as protocol 5 pickles it."""
    shape = _checked_shape(shape)
    if not isinstance(dtype, Dtype) or dtype.plain.hasobject or order not in ("C", "F"):
        raise DataError("an array must hold numbers or strings, in order C or F.")
    if dtype.unread is not None:
        return dtype.unread
    _check_size(raw, shape, dtype.plain)
    check_characters(np.frombuffer(raw, np.uint8), dtype.plain)
    return np.ndarray(shape, dtype.plain, raw, order=order)


def _encode(reader: Reader, text: Any, encoding: Any) -> bytes:
    """Bytes as protocol 2 pickles them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise DataError("bytes must be written as latin1 text. Received: another encoding.")
    reader.made(len(text))
    return text.encode("latin1")


def _ordered(reader: Reader, pairs: Any = ()) -> dict[Any, Any]:
    """An ordered dict; Python 2 gives its items in pairs."""
    made: dict[Any, Any] = {}
    put(made, [(key, value) for key, value in pairs])
    return made


def _set(reader: Reader, values: Any = ()) -> set[Any]:
    reader.made(8 * len(values))
    return set(atoms(list(values)))


def _uncalled(*args: Any) -> Any:
    raise DataError("arrays must be written as numpy writes them.")


_NDARRAY = Function(_uncalled)

ADMITTED = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): Function(lambda reader, code, *flags: Dtype(code)),
    ("numpy.core.multiarray", "_reconstruct"): Function(_reconstruct),
    ("numpy.core.multiarray", "scalar"): Function(_scalar),
    ("numpy.core.numeric", "_frombuffer"): Function(_from_buffer),
    ("_codecs", "encode"): Function(_encode),
    ("collections", "OrderedDict"): Function(_ordered),
    # Protocol 2's empty bytes: all that it calls `bytes` for.
    ("builtins", "bytes"): Function(lambda reader: b""),
    ("builtins", "set"): Function(_set),
    ("builtins", "frozenset"): Function(lambda reader, *given: frozenset(_set(reader, *given))),
}
