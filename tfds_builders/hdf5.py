"""Reads HDF5 files of plain arrays; links to other files, virtual and object data are refused."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import formats
from .limits import DataError, check_unfolded


@contextlib.contextmanager
def opened(path: Any) -> Iterator[Any]:
    """An HDF5 file, open for reading.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is cut off or no HDF5 file, found out when opened or when read.
    """
    import h5py

    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"An HDF5 file must lie at the path given. Received: {path}")
    formats.check(path, formats.HDF5, "a whole HDF5 file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:  # all that h5py raises for a damaged file, and for a broken disk
        raise DataError(
            f"{formats.place(path)} must be a whole HDF5 file. Reading it failed with {error}. "
            f"It has {path.stat().st_size} bytes: compare with the source, and fetch it again."
        ) from error


@contextlib.contextmanager
def _whole(place: str) -> Iterator[None]:
    """Converts the errors that h5py raises for damaged files to `DataError`."""
    try:
        yield
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{place} must be in a whole HDF5 file. Reading it failed with {error}. Compare the "
            "file with the source, and fetch it again."
        ) from error


def names(group: Any, place: str) -> list[str]:
    """The names of a group's members.

    Args:
        group: File or group.
        place: Where that is, for messages.

    Raises:
        DataError: it is no group, or damaged.
    """
    if not hasattr(group, "keys"):
        raise DataError(f"{place} must be a group. Received: {type(group).__name__}.")
    with _whole(place):
        return list(group)


def member(parent: Any, name: str, place: str) -> Any:
    """A group or data set of the same file; links to others are refused.

    Args:
        parent: File or group.
        name: What is looked for in it.
        place: Where that is, for messages.

    Raises:
        DataError: there is none, or it is a link to somewhere else.
    """
    import h5py

    if not isinstance(parent, h5py.Group):
        raise DataError(f"{place} must be a group. Received: {type(parent).__name__}.")
    with _whole(f"{place}: `{name}`"):
        link = parent.get(name, getlink=True) if "/" not in name else None
        if not isinstance(link, h5py.HardLink):
            arrived = "nothing" if link is None else type(link).__name__
            raise DataError(f"{place}: `{name}` must be in the file. Received: {arrived}.")
        return parent[name]


def array(parent: Any, name: str, place: str, columns: int | None = None) -> np.ndarray:
    """A table of numbers or byte strings.

    Args:
        parent: File or group.
        name: Of the data set.
        place: Where that is, for messages.
        columns: Size of the second axis; `None` for any, and for tables of one axis.

    Returns:
        Array `(rows, columns)`.

    Raises:
        DataError: it is absent, not such a table, refers to other files, or unfolds to too much.
    """
    import h5py

    found = member(parent, name, place)
    place = f"{place}, `{name}`"
    if not isinstance(found, h5py.Dataset):
        raise DataError(f"{place} must be an array. Received: {type(found).__name__}.")
    with _whole(place):
        outside, dtype, shape = found.is_virtual or found.external, found.dtype, found.shape
    if outside:
        raise DataError(f"{place} must lie in the file itself. Received: a reference to others.")
    if dtype.kind not in "fiuS" or not shape:
        raise DataError(f"{place} must hold numbers. Received: {dtype} {shape}.")
    if columns is not None and (found.ndim != 2 or found.shape[1] != columns):
        raise DataError(f"{place} must be of shape (steps, {columns}). Received: {found.shape}.")
    # A made-up index can count the same bytes of the file many times.
    stored = min(found.id.get_storage_size(), stored_in(found))
    check_unfolded(place, stored, found.size * found.dtype.itemsize)
    with _whole(place):
        return np.asarray(found[()])


def stored_in(member: Any) -> int:
    """Size in bytes of the file that holds a group or data set."""
    return int(member.file.id.get_filesize())
