"""Reads pickles that hold numpy arrays and plain containers, and nothing else.

A pickle is a program: any function it names is called with arguments of its choice. Here every
name it may use is answered by a stand-in of ours that rebuilds one kind of plain data, and any
other name is refused before it is even looked up. Not even numpy's own functions are handed out:
`numpy.dtype.__setstate__` believes whatever flags a file claims, so that bytes could pass for an
array of object pointers.
"""

import math
import os
import pathlib
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np

# What a damaged stream makes the unpickler, or numpy at its call, raise. Anything else (a broken
# disk, an error of ours) passes as it is.
_DAMAGE = (pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError,
           OverflowError, MemoryError, RecursionError)  # fmt: skip

_DTYPE = re.compile(r"[<>|=]?(b1|i[1248]|u[1248]|f[248]|[SU]\d{1,9}|O8?)")


class DataError(ValueError):
    """A file that does not hold what it must."""


def load(path: str | os.PathLike[str]) -> Any:
    """Content of a pickle file; no code of the file runs.

    Args:
        path: Pickle of any protocol, written by Python 2 or 3, with numpy 1 or 2.

    Returns:
        Dicts, lists, tuples, sets, strings, numbers and numpy arrays. Object arrays of strings or
        of numbers come back as arrays of those.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: the file is cut off, is no pickle, or holds something else.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"A pickle file must lie at the path given. Received: {path}")
    with path.open("rb") as file:
        try:
            return _PlainUnpickler(file, encoding="latin1").load()
        except DataError as error:
            raise DataError(f"{path.name}: {error}") from None
        except _DAMAGE as error:
            raise DataError(
                f"{path.name} must be a whole pickle file. "
                f"Reading it failed with {type(error).__name__}: {error}. "
                f"It has {path.stat().st_size} bytes: compare size and SHA-256 with the source, "
                "and download it again."
            ) from error


class _PlainUnpickler(pickle.Unpickler):
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


class _Constructor:
    """What a pickle may call but not alter: BUILD sets attributes on whatever it is pointed at."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise DataError("the pickle must not change the functions that rebuild its content.")


class _Dtype:
    """Stands for a `numpy.dtype` while reading: plain numbers, strings or objects."""

    def __init__(self, code: Any, *flags: Any) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise DataError(f"arrays must hold numbers or strings. Received: dtype {code!r}.")
        self.plain = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, subarray, names, fields, size, alignment, flags[, metadata]):
        # the code says the rest already, so only the byte order is taken over.
        order, structure = state[1], state[2:5]
        if structure != (None, None, None) or order not in ("<", ">", "|", "="):
            raise DataError(f"arrays must be plain, not structured. Received: dtype state {state}.")
        if order in ("<", ">"):
            self.plain = self.plain.newbyteorder(order)


class _Array(np.ndarray):
    """An array on its way in: what the file says about it is checked before numpy believes it."""

    def __setstate__(self, state: Any) -> None:
        shape, dtype, fortran, raw = state[1:] if len(state) == 5 else state
        shape = _checked_shape(shape)
        if not isinstance(dtype, _Dtype):
            raise DataError(f"an array must state its dtype. Received: {type(dtype).__name__}.")
        plain = dtype.plain
        if plain.hasobject:
            # numpy lists objects in C order whatever the flag; strings and numbers leave as such.
            values = _plain_values(raw, math.prod(shape))
            plain, fortran, raw = values.dtype, False, values.tobytes()
        if isinstance(raw, str):
            raw = raw.encode("latin1")  # as Python 2 wrote bytes
        _check_size(raw, shape, plain)
        super().__setstate__((1, shape, plain, bool(fortran), bytes(raw)))  # type: ignore[arg-type]


def _checked_shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise DataError(f"an array's shape must be a tuple of sizes. Received: {shape!r}.")
    return shape


def _check_size(raw: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    size = math.prod(shape) * dtype.itemsize
    if not isinstance(raw, bytes | bytearray) or len(raw) != size:
        arrived = f"{len(raw)} bytes" if isinstance(raw, bytes | bytearray) else type(raw).__name__
        raise DataError(f"an array {shape} of {dtype} takes {size} bytes. Received: {arrived}.")


def _plain_values(values: Any, size: int) -> np.ndarray:
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
    array = np.array(values)
    if array.dtype.hasobject:
        raise DataError("an object array holds integers too large for 64 bits.")
    return array


def _reconstruct(subtype: Any, shape: Any, code: Any) -> _Array:
    """An empty array: `__setstate__` fills it; shape and type given here are placeholders."""
    if subtype is not _NDARRAY:
        raise DataError("arrays must be plain numpy arrays.")
    return _Array((0,), dtype=np.int8)


def _scalar(dtype: Any, raw: Any) -> Any:
    """A numpy number or string; its value alone, as an array of one would hold it."""
    if not isinstance(dtype, _Dtype) or dtype.plain.hasobject:
        raise DataError("a numpy scalar must be a number or a string.")
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    _check_size(raw, (), dtype.plain)
    return np.frombuffer(raw, dtype.plain, count=1)[0] if raw else dtype.plain.type()


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """Protocol 5's array."""
    shape = _checked_shape(shape)
    if not isinstance(dtype, _Dtype) or dtype.plain.hasobject or order not in ("C", "F"):
        raise DataError("an array must hold numbers or strings, in order C or F.")
    _check_size(raw, shape, dtype.plain)
    return np.ndarray(shape, dtype.plain, bytes(raw), order=order)


def _encode(text: Any, encoding: Any) -> bytes:
    """Protocol 2's bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise DataError(f"bytes must be written as latin1 text. Received: encoding {encoding!r}.")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Protocol 2's empty bytes: all that it calls `bytes` for."""
    return b""


def _uncalled(*args: Any) -> Any:
    raise DataError("arrays must be written as numpy writes them.")


_NDARRAY = _Constructor(_uncalled)

_ADMITTED = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Constructor(_Dtype),
    ("numpy.core.multiarray", "_reconstruct"): _Constructor(_reconstruct),
    ("numpy.core.multiarray", "scalar"): _Constructor(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _Constructor(_from_buffer),
    ("_codecs", "encode"): _Constructor(_encode),
    ("collections", "OrderedDict"): _Constructor(dict),
    ("builtins", "bytes"): _Constructor(_no_bytes),
    ("builtins", "set"): _Constructor(set),
    ("builtins", "frozenset"): _Constructor(frozenset),
}
