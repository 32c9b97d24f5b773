"""A folder of arrays: SPLIT/NAME.npy, or NAME.npy without splits; see `arrays`."""

import pathlib
from typing import Any

import numpy as np

from . import files, npy
from .segments import MODALITIES, SPLITS, TEXT_BERT, split_names

LABELS = "label.csv"
"""Table of labels; a folder that has it is read by `npy_folder`."""


def recognises(path: Any) -> bool:
    """Whether a folder holds SPLIT/NAME.npy, or NAME.npy of other modalities than speech has."""
    path = pathlib.Path(path)
    if not path.is_dir() or files.find(path, LABELS).exists():
        return False
    if _split_folders(path):
        return True
    speech = {*MODALITIES, TEXT_BERT, *(f"{name}_lengths" for name in MODALITIES)}
    return any(one.stem.casefold() not in speech for one in _arrays(path))


def sources(path: Any) -> list[pathlib.Path]:
    """The files that `load` reads."""
    path = pathlib.Path(path)
    folders = _split_folders(path)
    return [one for folder in folders.values() for one in _arrays(folder)] or _arrays(path)


def load(path: Any) -> dict[str, Any]:
    """All arrays in a dict by name, or in a dict of each split.

    Arrays of two axes or more are memory-mapped; who reads them copies what is kept.

    Raises:
        DataError: A file is damaged.
    """
    path = pathlib.Path(path)
    folders = _split_folders(path)
    if not folders:
        return _load(path)
    return {split: _load(folder) for split, folder in folders.items()}


def _load(folder: pathlib.Path) -> dict[str, Any]:
    mapped = {one.stem: npy.mapped(one) for one in _arrays(folder)}
    return {
        name: array.view(np.ndarray) if array.ndim > 1 else np.array(array)
        for name, array in mapped.items()
    }


def _split_folders(path: pathlib.Path) -> dict[str, pathlib.Path]:
    named = {one.name: one for one in sorted(path.iterdir()) if one.is_dir()}
    found = split_names(named)
    return {split: named[found[split]] for split in SPLITS
            if split in found and _arrays(named[found[split]])}  # fmt: skip


def _arrays(folder: pathlib.Path) -> list[pathlib.Path]:
    return files.with_ending(folder.iterdir(), (".npy",))
