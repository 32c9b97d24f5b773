"""Reads .npy and .npz files: numbers and strings only, no pickles, nothing larger than it is."""

import errno
import math
import pathlib
import tokenize
import zipfile
import zlib
from typing import Any

import numpy as np

from .limits import DataError, check_characters, check_unfolded

# What numpy raises for a file that is cut off or lies about itself.
_DAMAGE = (ValueError, EOFError, KeyError, TypeError, SyntaxError, OverflowError, MemoryError,
           tokenize.TokenError)  # fmt: skip
_ZIP_DAMAGE = (*_DAMAGE, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


def mapped(path: Any) -> np.ndarray:
    """The array of a .npy file, read from disk where it is used.

    Args:
        path: A .npy file.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: the file is cut off, is no .npy file, or holds objects.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"A .npy file must lie at the path given. Received: {path}")
    try:
        with path.open("rb") as file:
            _check_header(path.name, file, path.stat().st_size)
        array = np.lib.format.open_memmap(path, mode="r")
    except DataError:
        raise
    except _DAMAGE as error:
        raise _damaged(path.name, error) from error
    return _plain(path.name, array)


def load(path: Any) -> np.ndarray:
    """The array of a .npy file, in memory; errors as in `mapped`."""
    return np.array(mapped(path))


def load_archive(path: Any) -> dict[str, np.ndarray]:
    """All arrays of a .npz file, by name; errors as in `mapped`."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"A .npz file must lie at the path given. Received: {path}")
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            check_unfolded(path.name, path.stat().st_size, total)
            for member in members:
                place = f"{path.name}, {member.filename}"
                name = member.filename.removesuffix(".npy")
                if name in arrays:
                    raise DataError(f"{place}: names must be unique.")
                arrays[name] = _member(place, archive, member)
    except DataError:
        raise
    except _ZIP_DAMAGE as error:
        raise _damaged(path.name, error) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place before the file's beginning
            raise
        raise _damaged(path.name, error) from error
    return arrays


def _member(place: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        _check_header(place, file, member.file_size)
    with archive.open(member) as file:
        return _plain(place, np.lib.format.read_array(file, allow_pickle=False))


def _check_header(place: str, file: Any, size: int) -> None:
    """Before numpy takes memory for what a header claims: are there as many bytes?"""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise DataError(f"{place} must be of .npy version 1 or 2. Received: {version}.")
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise DataError(f"{place} must be a whole file of numpy without objects.")
    claimed = math.prod(shape, start=dtype.itemsize)
    if min(shape, default=1) < 0 or claimed + file.tell() != size:
        raise DataError(
            f"{place} must be a whole file of numpy, with as many bytes as its shape takes. "
            f"Received: {size} bytes for {shape} of {dtype}."
        )


def _plain(place: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiubSU":
        raise DataError(f"{place}: must hold numbers or strings. Received: {array.dtype}.")
    if array.dtype.kind == "U":
        check_characters(np.frombuffer(array.tobytes(), np.uint8), array.dtype)
    return array


def _damaged(name: str, error: Exception) -> DataError:
    return DataError(
        f"{name} must be a whole file of numpy without objects. Reading it failed with "
        f"{type(error).__name__}: {error}. Save plain arrays with `numpy.save` or `numpy.savez`."
    )
