"""Reads .npy and .npz files of numbers and strings, without pickles, within `limits`."""

import errno
import math
import pathlib
import tokenize
import zipfile
import zlib
from typing import Any

import numpy as np

from . import formats
from .limits import DataError, Unread, check_characters, check_unfolded

MUST = "a whole file of numpy without objects"

PLAIN = "fiubSU"
"""Kinds of NumPy dtypes that are read."""

# What numpy raises for a file that is cut off or lies about itself.
_DAMAGE = (ValueError, EOFError, KeyError, TypeError, SyntaxError, OverflowError, MemoryError,
           tokenize.TokenError)  # fmt: skip
_ZIP_DAMAGE = (*_DAMAGE, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


def mapped(path: Any) -> np.ndarray:
    """The array of a .npy file, memory-mapped.

    Args:
        path: A .npy file.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: the file is cut off, is no .npy file, or holds objects.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"A .npy file must lie at the path given. Received: {path}")
    formats.check(path, formats.NPY, MUST)
    place = formats.place(path)
    try:
        with path.open("rb") as file:
            dtype = _check_header(place, file, path.stat().st_size)
        if dtype.kind not in PLAIN:
            raise DataError(f"{place} must be {MUST}, of numbers or strings. Received: {dtype}.")
        array = np.lib.format.open_memmap(path, mode="r")
    except DataError:
        raise
    except _DAMAGE as error:
        raise _damaged(place, error) from error
    return _checked(array)


def load(path: Any) -> np.ndarray:
    """The array of a .npy file, in memory; errors as in `mapped`."""
    return np.array(mapped(path))


def is_mapped(array: Any) -> bool:
    """Whether an array is a part of a file that is memory-mapped."""
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return isinstance(array, np.memmap)


def load_archive(path: Any) -> dict[str, Any]:
    """All arrays of a .npz file by name; those of other types, such as objects, are `Unread`.

    Raises: as `mapped`.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"A .npz file must lie at the path given. Received: {path}")
    formats.check(path, formats.NPZ, MUST)
    arrays: dict[str, Any] = {}
    title = formats.place(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            check_unfolded(title, path.stat().st_size, total)
            for member in members:
                place = f"{title}, {member.filename}"
                name = member.filename.removesuffix(".npy")
                if name in arrays:
                    raise DataError(f"{place}: names must be unique.")
                arrays[name] = _member(place, archive, member)
    except DataError:
        raise
    except _ZIP_DAMAGE as error:
        raise _damaged(title, error) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place before the file's beginning
            raise
        raise _damaged(title, error) from error
    return arrays


def _member(place: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray | Unread:
    with archive.open(member) as file:
        dtype = _check_header(place, file, member.file_size)
    if dtype.kind not in PLAIN:
        what = "objects, which would be a pickle" if dtype.hasobject else str(dtype)
        return Unread(f"array of {what}; only numbers or strings are read, without objects")
    with archive.open(member) as file:
        return _checked(np.lib.format.read_array(file, allow_pickle=False))


def _check_header(place: str, file: Any, size: int) -> np.dtype[Any]:
    """Checks that the file is as long as its header says, before memory is allocated."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise DataError(f"{place} must be of .npy version 1 or 2. Received: {version}.")
    shape, _, dtype = read(file)
    if dtype.hasobject:
        return dtype
    claimed = math.prod(shape, start=dtype.itemsize)
    if min(shape, default=1) < 0 or claimed + file.tell() != size:
        raise DataError(
            f"{place} must be a whole file of numpy, with as many bytes as its shape takes. "
            f"Received: {size} bytes for {shape} of {dtype}."
        )
    return dtype


def _checked(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "U":
        check_characters(np.frombuffer(array.tobytes(), np.uint8), array.dtype)
    return array


def _damaged(name: str, error: Exception) -> DataError:
    return DataError(
        f"{name} must be a whole file of numpy without objects. Reading it failed with "
        f"{type(error).__name__}: {error}. Save plain arrays with `numpy.save` or `numpy.savez`."
    )
