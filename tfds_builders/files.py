"""The files a data set is made from: where they lie, whether they are the known ones."""

import hashlib
import warnings
from collections.abc import Sequence
from typing import Any


def sha256(path: Any) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(paths: Sequence[Any]) -> str:
    """SHA-256 of one file; of several, that of their names and digests in order of name."""
    if len(paths) == 1:
        return sha256(paths[0])
    lines = [f"{path.name} {sha256(path)}" for path in sorted(paths)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def check_known(place: str, path: Any, arrived: str, known: str | None) -> None:
    """Warns where a file is another than the one a config was written for."""
    if known and arrived != known:
        warnings.warn(
            f"`{place}` was written for the release with SHA-256 {known}. Received: {path.name} "
            f"with {arrived}. It is read as it is: other releases exist, but their numbers may "
            "differ.",
            stacklevel=4,
        )


def check_sizes(place: str, name: str, sizes: dict[str, int], known: dict[str, int]) -> None:
    """Warns where splits are not of the published sizes."""
    if known and sizes != known:
        warnings.warn(
            f"{place} has {known} segments on the standard folds. Received: {sizes} in {name}. It "
            "is read as it is, but scores on it do not compare with published ones.",
            stacklevel=4,
        )


def manual_dir(dl_manager: Any) -> Any:
    """The folder of files that the user brought."""
    try:
        return dl_manager.manual_dir
    except AssertionError as error:  # what TFDS raises where the folder is missing or empty
        raise FileNotFoundError(str(error)) from None
