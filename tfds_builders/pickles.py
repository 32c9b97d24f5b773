"""Reads pickles that hold numpy arrays and plain containers, and nothing else.

A pickle is a program: any function it names is called with arguments of its choice. Here every
name it may use is answered by a stand-in of ours that rebuilds one kind of plain data, and any
other name is refused before it is even looked up. Not even numpy's own functions are handed out:
`numpy.dtype.__setstate__` believes whatever flags a file claims, so that bytes could pass for an
array of object pointers.

A few bytes of such a program can also ask for all memory or all time: a place in the memo beyond
any list, one array made ten thousand times, tuples of tuples as keys, whose hash visits every path.
So the unpickler is the one that the standard library has in Python, whose steps can be replaced:
what it makes is counted against the size of the file, and keys are strings and numbers.
"""

import math
import os
import pathlib
import pickle
import re
import struct
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .limits import ATOMS, check_characters, check_unfolded, kind, unfolded
from .limits import DataError as DataError

# What a damaged stream makes the unpickler, or numpy at its call, raise. Anything else (a broken
# disk, an error of ours) passes as it is.
_DAMAGE = (pickle.UnpicklingError, struct.error, EOFError, ValueError, TypeError, LookupError,
           AttributeError, OverflowError, MemoryError, RecursionError,
           AssertionError)  # fmt: skip

_DTYPE = re.compile(r"[<>|=]?(b1|i[1248]|u[1248]|f[248]|[SU]\d{1,9}|O8?)")

# Steps that make objects of classes, or reach for what lies outside the file.
_REFUSED = (pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.PERSID,
            pickle.BINPERSID, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER,
            pickle.READONLY_BUFFER)  # fmt: skip


def load(path: str | os.PathLike[str]) -> Any:
    """Content of a pickle file; no code of the file runs.

    Args:
        path: Pickle of any protocol, written by Python 2 or 3, with numpy 1 or 2.

    Returns:
        Dicts, lists, tuples, sets, strings, numbers and numpy arrays. Object arrays of strings or
        of numbers come back as arrays of those.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: the file is cut off, is no pickle, holds something else, or far more than its
            size.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"A pickle file must lie at the path given. Received: {path}")
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            content = _PlainUnpickler(file, size).load()
            check_unfolded("the pickle", size, unfolded(content))
            return content
        except DataError as error:
            raise DataError(f"{path.name}: {error}") from None
        except _DAMAGE as error:
            raise DataError(
                f"{path.name} must be a whole pickle file. "
                f"Reading it failed with {type(error).__name__}: {error}. "
                f"It has {size} bytes: compare size and SHA-256 with the source, "
                "and download it again."
            ) from error


_Unpickler: Any = pickle._Unpickler


class _PlainUnpickler(_Unpickler):
    """Args: an open file, and its size in bytes."""

    dispatch = dict(_Unpickler.dispatch)

    def __init__(self, file: Any, size: int) -> None:
        super().__init__(file, encoding="latin1")
        self._size, self._made = size, 0

    def made(self, size: int) -> None:
        """Counts bytes that are about to be made."""
        self._made += size
        check_unfolded("the pickle", self._size, self._made)

    def find_class(self, module: str, name: str) -> Any:
        # As numpy 1 and Python 3 call them.
        known = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        admitted = _ADMITTED.get((known, name))
        if admitted is None:
            raise DataError(
                "the pickle must hold numpy arrays, numbers, strings and plain containers only. "
                f"Received: a reference to `{module}.{name}`, refused without running it. "
                "If you trust the file, load it where it was made and save plain numpy arrays."
            )
        return admitted

    def load_reduce(self) -> None:
        args, function = self.stack.pop(), self.stack[-1]
        if not isinstance(function, _Function) or not isinstance(args, tuple):
            raise DataError(f"calls must rebuild plain data. Received: {kind(function)}.")
        self.stack[-1] = function.call(self, *args)

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Dtype):
            target.set(state)
        elif isinstance(target, np.ndarray):
            _fill(self, target, state)
        else:
            raise DataError(f"a state must be an array's. Received: that of {kind(target)}.")

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _put(self.stack[-1], [(key, value)])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        _put(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    def load_additems(self) -> None:
        items, target = _atoms(self.pop_mark()), self.stack[-1]
        if not isinstance(target, set):
            raise DataError(f"members must be a set's. Received: {kind(target)}.")
        target.update(items)

    def load_frozenset(self) -> None:
        self.stack.append(frozenset(_atoms(self.pop_mark())))

    def load_bytearray8(self) -> None:
        # The library's takes memory for what is claimed before it reads.
        size = int.from_bytes(self.read(8), "little")
        raw = self.read(size) if size <= self._size else b""
        if len(raw) != size:
            raise EOFError(f"{size} bytes are claimed")
        self.stack.append(raw)

    def load_refused(self) -> None:
        raise DataError(
            "the pickle must hold numpy arrays, numbers, strings and plain containers only. "
            "Received: an object of some class, refused without making it. "
            "If you trust the file, load it where it was made and save plain numpy arrays."
        )


_PlainUnpickler.dispatch.update(
    {
        pickle.REDUCE[0]: _PlainUnpickler.load_reduce,
        pickle.BUILD[0]: _PlainUnpickler.load_build,
        pickle.SETITEM[0]: _PlainUnpickler.load_setitem,
        pickle.SETITEMS[0]: _PlainUnpickler.load_setitems,
        pickle.ADDITEMS[0]: _PlainUnpickler.load_additems,
        pickle.FROZENSET[0]: _PlainUnpickler.load_frozenset,
        pickle.BYTEARRAY8[0]: _PlainUnpickler.load_bytearray8,
        **{code[0]: _PlainUnpickler.load_refused for code in _REFUSED},
    }
)


class _Function:
    """What a pickle may call but not alter."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


class _Dtype:
    """Stands for a `numpy.dtype` while reading: plain numbers, strings or objects."""

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise DataError(f"arrays must hold numbers or strings. Received: dtype {code!r:.99}.")
        self.plain = np.dtype(code)

    def set(self, state: Any) -> None:
        # (version, byte order, subarray, names, fields, size, alignment, flags[, metadata]):
        # the code says the rest already, so only the byte order is taken over.
        order, structure = state[1], state[2:5]
        if structure != (None, None, None) or order not in ("<", ">", "|", "="):
            raise DataError("arrays must be plain, not structured. Received: another dtype.")
        if order in ("<", ">"):
            self.plain = self.plain.newbyteorder(order)


def _fill(reader: _PlainUnpickler, array: np.ndarray, state: Any) -> None:
    """What the file says about an array is checked before numpy believes it."""
    shape, dtype, fortran, raw = state[1:] if len(state) == 5 else state
    shape = _checked_shape(shape)
    if not isinstance(dtype, _Dtype):
        raise DataError(f"an array must state its dtype. Received: {kind(dtype)}.")
    plain = dtype.plain
    if plain.hasobject:
        # numpy lists objects in C order whatever the flag; strings and numbers leave as such.
        values = _plain_values(reader, raw, math.prod(shape))
        plain, fortran, raw = values.dtype, False, values.tobytes()
    if isinstance(raw, str):
        raw = raw.encode("latin1")  # as Python 2 wrote bytes
    _check_size(raw, shape, plain)
    reader.made(len(raw))
    check_characters(np.frombuffer(raw, np.uint8), plain)
    array.__setstate__((1, shape, plain, bool(fortran), raw))  # type: ignore[arg-type]  # numpy knows no such state


def _put(target: Any, items: Iterable[tuple[Any, Any]]) -> None:
    if not isinstance(target, dict):
        raise DataError(f"items must be a dict's. Received: {kind(target)}.")
    items = list(items)
    _atoms([key for key, _ in items])
    target.update(items)


def _atoms(values: list[Any]) -> list[Any]:
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


def _plain_values(reader: _PlainUnpickler, values: Any, size: int) -> np.ndarray:
    """An object array's elements as an array of strings or of numbers."""
    values = values if isinstance(values, list) else []
    text = all(isinstance(value, str) for value in values)
    number = all(isinstance(value, bool | int | float | np.number) for value in values)
    if len(values) != size or not (text or number):
        kinds = sorted({type(value).__name__ for value in values})
        raise DataError(
            "an object array must hold strings only or numbers only, one an entry. "
            f"Received: {len(values)} values for {size} entries, of type {', '.join(kinds)}. "
            "Save sequences of unequal length as one padded array, with their lengths beside it."
        )
    # All strings become as wide as the longest.
    reader.made(len(values) * (4 * max(map(len, values)) if text and values else 8))
    array = np.array(values)
    if array.dtype.hasobject:
        raise DataError("an object array must hold integers of 64 bits. Received: larger ones.")
    return array


def _reconstruct(reader: _PlainUnpickler, subtype: Any, shape: Any, code: Any) -> np.ndarray:
    """An empty array, which BUILD fills; shape and type given here are placeholders."""
    if subtype is not _NDARRAY:
        raise DataError("arrays must be plain numpy arrays.")
    return np.empty(0, np.int8)


def _scalar(reader: _PlainUnpickler, dtype: Any, raw: Any) -> Any:
    """A numpy number or string; its value alone, as an array of one would hold it."""
    if not isinstance(dtype, _Dtype) or dtype.plain.hasobject:
        raise DataError("a numpy scalar must be a number or a string.")
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    _check_size(raw, (), dtype.plain)
    check_characters(np.frombuffer(raw, np.uint8), dtype.plain)
    reader.made(len(raw))
    return np.frombuffer(raw, dtype.plain, count=1)[0] if raw else dtype.plain.type()


def _from_buffer(
    reader: _PlainUnpickler, raw: Any, dtype: Any, shape: Any, order: Any
) -> np.ndarray:
    """Protocol 5's array."""
    shape = _checked_shape(shape)
    if not isinstance(dtype, _Dtype) or dtype.plain.hasobject or order not in ("C", "F"):
        raise DataError("an array must hold numbers or strings, in order C or F.")
    _check_size(raw, shape, dtype.plain)
    check_characters(np.frombuffer(raw, np.uint8), dtype.plain)
    return np.ndarray(shape, dtype.plain, raw, order=order)


def _encode(reader: _PlainUnpickler, text: Any, encoding: Any) -> bytes:
    """Protocol 2's bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise DataError("bytes must be written as latin1 text. Received: another encoding.")
    reader.made(len(text))
    return text.encode("latin1")


def _ordered(reader: _PlainUnpickler, pairs: Any = ()) -> dict[Any, Any]:
    """An ordered dict; Python 2 gives its items in pairs."""
    made: dict[Any, Any] = {}
    _put(made, [(key, value) for key, value in pairs])
    return made


def _set(reader: _PlainUnpickler, values: Any = ()) -> set[Any]:
    reader.made(8 * len(values))
    return set(_atoms(list(values)))


def _uncalled(*args: Any) -> Any:
    raise DataError("arrays must be written as numpy writes them.")


_NDARRAY = _Function(_uncalled)

_ADMITTED = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Function(lambda reader, code, *flags: _Dtype(code)),
    ("numpy.core.multiarray", "_reconstruct"): _Function(_reconstruct),
    ("numpy.core.multiarray", "scalar"): _Function(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _Function(_from_buffer),
    ("_codecs", "encode"): _Function(_encode),
    ("collections", "OrderedDict"): _Function(_ordered),
    # Protocol 2's empty bytes: all that it calls `bytes` for.
    ("builtins", "bytes"): _Function(lambda reader: b""),
    ("builtins", "set"): _Function(_set),
    ("builtins", "frozenset"): _Function(lambda reader, *given: frozenset(_set(reader, *given))),
}
