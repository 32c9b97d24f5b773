"""The door to `tfds_builders`: its modules, and what they say of files that are not prepared."""

import contextlib
import importlib
import os
import pathlib
import sys
from typing import Any


def module(name: str) -> Any:
    """A module of `tfds_builders`, which installs inside this package.

    In a checkout it lies beside it and goes by its own name. TFDS registers a builder once, so only
    one of the two names may be imported in a process.
    """
    if "tfds_builders" not in sys.modules:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module("keras_m3s.tfds_builders")
            return importlib.import_module(f"keras_m3s.tfds_builders.{name}")
    return importlib.import_module(f"tfds_builders.{name}")


def inspect(path: str | os.PathLike[str]) -> Any:
    """What a file or folder holds, what is wrong with it, which command reads it.

    Args:
        path: Any file, whatever its ending, that `load`, `prepare`, `prepare_own` or `unlabelled`
            could read.

    Returns:
        A `tfds_builders.inspection.Found`: `kind`, lines of `holds`, `problems`, `notes`, and the
        `commands` that read it, none where there are problems.

    Raises:
        FileNotFoundError: there is nothing.
    """
    return module("inspection").inspect(pathlib.Path(path).expanduser())


def check_own(path: str | os.PathLike[str]) -> None:
    """Raises what `load` would of a file or folder of another layout; its values are not checked.

    Args:
        path: Of a user's own data, with splits and labels.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: it is of another layout.
    """
    readers = module("readers")
    readers.find_own(readers.Source(pathlib.Path(path).expanduser()))


def unlabelled(path: str | os.PathLike[str], split: str | None = None) -> Any:
    """Features to predict from: no labels needed, any modality absent, any clip or step missing.

    Args:
        path: A pickle or .npz in MMSA's schema, with splits or without, one clip of MMSA-FET, or a
            folder of .npy; see `tfds_builders.unlabelled`.
        split: Which split of a file that has such; `None` for all.

    Returns:
        A `tfds_builders.unlabelled.Unlabelled`: `ids`, `features`, `lengths`.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: it is no such file.
    """
    return module("unlabelled").read(pathlib.Path(path).expanduser(), split)


def label_lines(folder: str | os.PathLike[str]) -> list[dict[str, str]]:
    """The lines of a folder's `label.csv`, checked; see `tfds_builders.npy_folder`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no such table.
    """
    lines: list[dict[str, str]] = module("npy_folder").lines(folder)
    return lines
