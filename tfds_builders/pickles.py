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

import os
import pathlib
import pickle
import struct
from typing import Any

import numpy as np

from . import formats
from .limits import DataError as DataError
from .limits import check_unfolded, kind, unfolded
from .rebuilding import ADMITTED, Dtype, Function, atoms, fill, put

# What a damaged stream makes the unpickler, or numpy at its call, raise. Anything else (a broken
# disk, an error of ours) passes as it is.
_DAMAGE = (pickle.UnpicklingError, struct.error, EOFError, ValueError, TypeError, LookupError,
           AttributeError, OverflowError, MemoryError, RecursionError,
           AssertionError)  # fmt: skip

# Steps that make objects of classes, or reach for what lies outside the file.
_REFUSED = (pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.PERSID,
            pickle.BINPERSID, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER,
            pickle.READONLY_BUFFER)  # fmt: skip

_ONLY_PLAIN = "the pickle must hold numpy arrays, numbers, strings and plain containers only."
_REWRITE_ANY = "If you trust the file, load it where it was made and save plain numpy arrays."
# What to do about the objects that such files hold most often, by the package they are of.
_REWRITE = {
    "torch": "These are tensors of PyTorch: load the file where it was made, and save "
    "`tensor.numpy()` in place of each.",
    "pandas": "These are tables of pandas: load the file where it was made, and save "
    "`column.to_numpy()` in place of each.",
    "scipy": "These are sparse arrays of SciPy: load the file where it was made, and save "
    "`array.toarray()` in place of each.",
    "joblib": "It was written by joblib: load it with `joblib.load` where it was made, and save "
    "plain numpy arrays with `pickle.dump` or `numpy.savez`.",
}  # fmt: skip


def load(path: str | os.PathLike[str]) -> Any:
    """Content of a pickle file; no code of the file runs.

    Args:
        path: Pickle of any protocol, written by Python 2 or 3, with numpy 1 or 2.

    Returns:
        Dicts, lists, tuples, sets, strings, numbers and numpy arrays. Object arrays of numbers come
        back as arrays of numbers, those of other plain data as they are. Arrays of what is neither
        (dates, complex numbers, records) come back as `Unread`, or hold it: they may stand beside
        what is read.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: the file is cut off, is no pickle, holds something else, or far more than its
            size.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"A pickle file must lie at the path given. Received: {path}")
    formats.check(path, formats.PICKLE, "a whole pickle file")
    place = formats.place(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            content = _PlainUnpickler(file, size).load()
            check_unfolded("the pickle", size, unfolded(content))
            return content
        except DataError as error:
            raise DataError(f"{place}: {error}") from None
        except _DAMAGE as error:
            raise DataError(
                f"{place} must be a whole pickle file. "
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
        """Adds to the bytes allocated so far, and checks their limit."""
        self._made += size
        check_unfolded("the pickle", self._size, self._made)

    def find_class(self, module: str, name: str) -> Any:
        # As numpy 1 and Python 3 call them.
        known = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        admitted = ADMITTED.get((known, name))
        if admitted is None:
            raise DataError(
                f"{_ONLY_PLAIN} Received: a reference to `{module}.{name}`, refused without "
                f"running it. {_REWRITE.get(known.partition('.')[0], _REWRITE_ANY)}"
            )
        return admitted

    def load_reduce(self) -> None:
        args, function = self.stack.pop(), self.stack[-1]
        if not isinstance(function, Function) or not isinstance(args, tuple):
            raise DataError(f"calls must rebuild plain data. Received: {kind(function)}.")
        self.stack[-1] = function.call(self, *args)

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Dtype):
            target.set(state)
        elif isinstance(target, np.ndarray):
            fill(self, target, state)
        else:
            raise DataError(f"a state must be an array's. Received: that of {kind(target)}.")

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        put(self.stack[-1], [(key, value)])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        put(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    def load_additems(self) -> None:
        items, target = atoms(self.pop_mark()), self.stack[-1]
        if not isinstance(target, set):
            raise DataError(f"members must be a set's. Received: {kind(target)}.")
        target.update(items)

    def load_frozenset(self) -> None:
        self.stack.append(frozenset(atoms(self.pop_mark())))

    def load_bytearray8(self) -> None:
        # The library's takes memory for what is claimed before it reads.
        size = int.from_bytes(self.read(8), "little")
        raw = self.read(size) if size <= self._size else b""
        if len(raw) != size:
            raise EOFError(f"{size} bytes are claimed")
        self.stack.append(raw)

    def load_refused(self) -> None:
        raise DataError(
            f"{_ONLY_PLAIN} Received: an object of some class, refused without making it. "
            f"{_REWRITE_ANY}"
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
