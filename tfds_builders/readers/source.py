"""`Source`, a file or folder to inspect; `Reader`, the interface of a layout's reader."""

import functools
import pathlib
import shlex
from typing import Any, Protocol, runtime_checkable

from .. import content, files, formats, hdf5
from ..gaps import Gaps
from ..segments import MODALITIES, TEXT_BERT, Segments

LABELS = "label.csv"


class Source:
    """A file or folder; its format and content are determined once and cached.

    `label.csv`, or an array beside it, stands for its folder.

    Args:
        path: The file or folder.

    Attributes:
        gaps: Modality -> what of it is missing; a reader that counts it leaves it here.

    Raises:
        FileNotFoundError: there is nothing.
    """

    def __init__(self, path: Any) -> None:
        self.path = pathlib.Path(path)
        self.gaps: dict[str, Gaps] = {}
        if not self.path.exists():
            raise FileNotFoundError(
                f"A file or a folder must lie at the path given. Received: {path}"
            )
        part = self.path.name.casefold()
        arrays = [f"{name}.npy" for name in (*MODALITIES, TEXT_BERT)]
        if part == LABELS or (part in arrays and files.find(self.folder, LABELS).is_file()):
            self.path = self.path.parent

    @functools.cached_property
    def format(self) -> formats.Format:
        """The format, detected from the first bytes."""
        return formats.sniff(self.path)

    @property
    def is_folder(self) -> bool:
        return self.path.is_dir()

    @property
    def folder(self) -> pathlib.Path:
        """The folder itself, or the one that contains the file."""
        return self.path if self.is_folder else self.path.parent

    @functools.cached_property
    def content(self) -> Any:
        """Plain content of a pickle, .npz, folder of arrays or table; `None` for other formats.

        Raises:
            DataError: A file is damaged, or holds objects that are refused.
            FileNotFoundError: A file that belongs to it does not exist.
            ImportError: A package that reads it is not installed.
        """
        if self.format.name not in (formats.PICKLE, formats.NPZ):
            return content.of(self.path)
        return content.load(self.path)

    @functools.cached_property
    def members(self) -> list[str]:
        """Names of an HDF5 file's top-level groups and arrays; empty for other formats.

        Raises:
            DataError: The file is damaged.
        """
        if self.format.name != formats.HDF5:
            return []
        with hdf5.opened(self.path) as file:
            return hdf5.names(file, formats.place(self.path))


class Reader(Protocol):
    """A layout of files."""

    def recognises(self, source: Source) -> bool:
        """Whether a source has this layout.

        Raises:
            DataError: The file is too damaged to tell.
        """
        ...

    def kind(self, source: Source) -> str:
        """Describes the source in a few words."""
        ...

    def holds(self, source: Source) -> list[str]:
        """Describes the content, line by line."""
        ...

    def commands(self, source: Source) -> list[str]:
        """Reads everything, which consumes `source.content`; returns the commands that read it.

        Raises:
            DataError: Lists all problems of the source.
            FileNotFoundError: a file that belongs to it is not there.
        """
        ...


@runtime_checkable
class OwnReader(Reader, Protocol):
    """A layout that `keras-m3s prepare --from` reads."""

    def read(self, source: Source) -> dict[str, Segments]:
        """Reads all splits; raises as `commands` does."""
        ...


def own_command(path: Any) -> str:
    """Returns the command that prepares a user's own data."""
    return f"keras-m3s prepare --from {shlex.quote(str(path))} --name NAME"


def command(dataset: str, folder: Any, config: str | None = None) -> str:
    """Returns the command that prepares a data set from a folder."""
    option = f" --config {config}" if config else ""
    return f"keras-m3s prepare {dataset}{option} --manual-dir {shlex.quote(str(folder))}"
