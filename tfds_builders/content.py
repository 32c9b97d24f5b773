"""Plain content of a feature file or folder: a pickle or .npz, whatever its ending, or tables."""

import pathlib
from collections.abc import Mapping
from typing import Any

from . import array_folder, formats, long_table, npy, pickles
from .limits import DataError

MUST = "a pickle, or arrays of numpy (.npz)"


def load(path: Any) -> Any:
    """What a file holds; no code of it runs.

    Args:
        path: A pickle or a .npz, told apart by their first bytes.

    Returns:
        Content of the pickle; of a .npz a dict of arrays, and where names have a "/", such as
        `train/text`, a dict of such dicts.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is something else, or damaged; the message says what it is.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"A feature file must lie at the path given. Received: {path}")
    found = formats.sniff(path).name
    if found == formats.NPZ:
        arrays = npy.load_archive(path)
        return _nested(path, arrays) if any("/" in name for name in arrays) else arrays
    if found == formats.PICKLE or path.suffix.lower() in (".pkl", ".pickle"):
        return pickles.load(path)
    formats.check(path, formats.PICKLE, npy.MUST if path.suffix.lower() == ".npz" else MUST)
    raise AssertionError  # `check` has raised


def of(path: Any) -> Any:
    """Reads a folder of arrays, or a table with a description; `None` for anything else.

    Raises: As `array_folder.load` and `long_table.load`.
    """
    for layout in (array_folder, long_table):
        if layout.recognises(path):
            return layout.load(path)
    return None


def sources(path: Any) -> list[pathlib.Path] | None:
    """The files that `of` reads; `None` if it reads none."""
    for layout in (array_folder, long_table):
        if layout.recognises(path):
            return layout.sources(path)
    return None


def _nested(path: pathlib.Path, arrays: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """`train/text` -> `["train"]["text"]`."""
    content: dict[str, dict[str, Any]] = {}
    for name, array in arrays.items():
        split, slash, key = name.partition("/")
        if not slash:
            raise DataError(
                f"{formats.place(path)} must have names such as train/text, all of them or none. "
                f"Received: {name!r} beside names with a slash."
            )
        content.setdefault(split, {})[key] = array
    return content
