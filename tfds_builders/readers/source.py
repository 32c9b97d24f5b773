"""A file or folder that is looked at, and what a reader of one layout has to say of it."""

import functools
import pathlib
import shlex
from typing import Any, Protocol, runtime_checkable

from .. import content, files, formats, hdf5
from ..gaps import Gaps
from ..segments import MODALITIES, TEXT_BERT, Segments

LABELS = "label.csv"


class Source:
    """A file or folder, of which each thing is found out once.

    A part of a folder of own data, label.csv or an array beside it, stands for the folder.

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
        """What it is by its first bytes."""
        return formats.sniff(self.path)

    @property
    def is_folder(self) -> bool:
        return self.path.is_dir()

    @property
    def folder(self) -> pathlib.Path:
        """Itself, or the folder that the file lies in."""
        return self.path if self.is_folder else self.path.parent

    @functools.cached_property
    def content(self) -> Any:
        """Plain content of a pickle, .npz, folder of arrays or tables, `None` of anything else.

        Raises:
            DataError: a file is damaged, or holds what is refused.
            FileNotFoundError: a file that belongs to it is not there.
            ImportError: a package that reads it is not installed.
        """
        if self.format.name not in (formats.PICKLE, formats.NPZ):
            return content.of(self.path)
        return content.load(self.path)

    @functools.cached_property
    def members(self) -> list[str]:
        """Names of the groups and arrays at the top of an HDF5 file, none of anything else.

        Raises:
            DataError: the file is damaged.
        """
        if self.format.name != formats.HDF5:
            return []
        with hdf5.opened(self.path) as file:
            return hdf5.names(file, formats.place(self.path))


class Reader(Protocol):
    """A layout of files."""

    def recognises(self, source: Source) -> bool:
        """Whether this is one.

        Raises:
            DataError: it cannot be told, for the file is damaged.
        """
        ...

    def kind(self, source: Source) -> str:
        """What this is, in a few words."""
        ...

    def holds(self, source: Source) -> list[str]:
        """Lines on what is in it."""
        ...

    def commands(self, source: Source) -> list[str]:
        """Reads all of it, which uses up its content, and returns the commands that read it.

        Raises:
            DataError: all that is wrong with it.
            FileNotFoundError: a file that belongs to it is not there.
        """
        ...


@runtime_checkable
class OwnReader(Reader, Protocol):
    """A layout that `keras-m3s prepare --from` reads."""

    def read(self, source: Source) -> dict[str, Segments]:
        """All splits; raises as `commands`."""
        ...


def own_command(path: Any) -> str:
    """The command that reads data of one's own."""
    return f"keras-m3s prepare --from {shlex.quote(str(path))} --name NAME"


def command(dataset: str, folder: Any, config: str | None = None) -> str:
    """The command that makes a data set from a folder."""
    option = f" --config {config}" if config else ""
    return f"keras-m3s prepare {dataset}{option} --manual-dir {shlex.quote(str(folder))}"
