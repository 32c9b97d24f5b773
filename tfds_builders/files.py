"""Finds the files of a data set and compares them with the known releases."""

import hashlib
import pathlib
import warnings
from collections.abc import Collection, Sequence
from typing import Any

PUBLISHED_SIZES = {
    "ch_sims": {"train": 1368, "valid": 456, "test": 457},
    "cmu_mosi": {"train": 1284, "valid": 229, "test": 686},
}
"""Segments per split, as in Table 1 of the M3S paper; CMU-MOSI's are the SDK's standard folds."""


def sha256(path: Any) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(paths: Sequence[Any]) -> str:
    """SHA-256 of one file; of several files, of their sorted names and digests."""
    if len(paths) == 1:
        return sha256(paths[0])
    lines = [f"{path.name} {sha256(path)}" for path in sorted(paths)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def check_known(place: str, path: Any, arrived: str, known: str | None) -> None:
    """Warns if a file is not the release that a config was written for."""
    if known and arrived != known:
        warnings.warn(
            f"`{place}` was written for the release with SHA-256 {known}. Received: {path.name} "
            f"with {arrived}. It is read as it is: other releases exist, but their numbers may "
            "differ.",
            stacklevel=4,
        )


def check_sizes(place: str, name: str, sizes: dict[str, int], known: dict[str, int]) -> None:
    """Warns if the splits do not have the published sizes."""
    if known and sizes != known:
        warnings.warn(
            f"{place} has {known} segments on the standard folds. Received: {sizes} in {name}. It "
            "is read as it is, but scores on it do not compare with published ones.",
            stacklevel=4,
        )


def find(folder: Any, name: str) -> pathlib.Path:
    """Path of an entry of a folder, ignoring the case of letters if `name` does not exist."""
    path = pathlib.Path(folder) / name
    if path.exists() or not path.parent.is_dir():
        return path
    alike = [one for one in path.parent.iterdir() if one.name.casefold() == path.name.casefold()]
    return alike[0] if len(alike) == 1 else path


def with_ending(paths: Any, endings: Collection[str]) -> list[pathlib.Path]:
    """Files with one of `endings`, in upper or lower case, sorted by name."""
    return sorted(path for path in paths if path.suffix.lower() in endings and path.is_file())


def pickles_in(folder: Any) -> list[pathlib.Path]:
    """Files of a folder whose ending is that of a pickle; empty if there is no folder."""
    folder = pathlib.Path(folder)
    return with_ending(folder.iterdir(), (".pkl", ".pickle")) if folder.is_dir() else []


def manual_dir(dl_manager: Any) -> Any:
    """Returns the folder with the user's files."""
    try:
        return dl_manager.manual_dir
    except AssertionError as error:  # what TFDS raises where the folder is missing or empty
        raise FileNotFoundError(str(error)) from None
