"""Reports what a file holds and all of its problems, not only the first."""

import dataclasses
import pathlib
import warnings
from typing import Any

from . import formats
from .gaps import Gaps
from .limits import DataError
from .readers import Source, find

MOST_SHOWN = 20
"""Number of problems, notes or lines that are listed of each kind."""


@dataclasses.dataclass
class Found:
    """Result of an inspection.

    Attributes:
        kind: What the file is.
        holds: Lines on its content.
        problems: What must be mended before it can be used.
        notes: What to know, and what would be repaired and counted when it is read.
        commands: What reads it, any of them; none where there are problems.
        gaps: Modality -> what of it is missing, where that can be counted.
    """

    kind: str
    holds: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    commands: list[str] = dataclasses.field(default_factory=list)
    gaps: dict[str, Gaps] = dataclasses.field(default_factory=dict)


def inspect(path: Any) -> Found:
    """Inspects a file or folder, without running any code of it.

    Args:
        path: A pickle, .npz, .npy, HDF5 or .csd file, or a folder.

    Raises:
        FileNotFoundError: there is nothing.
    """
    source = Source(pathlib.Path(path))
    if source.format.name == formats.NPY:
        return _array(source)
    found = Found(source.format.title)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            reader = find(source)
            found.kind = reader.kind(source)
            found.holds = reader.holds(source)
            found.commands = reader.commands(source)
            found.gaps = source.gaps
        except DataError as error:
            found.problems = list(error.problems)
        except (
            FileNotFoundError,
            ImportError,
        ) as error:  # a file or package that is needed besides
            found.problems = [str(error)]
    said = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
    found.notes = _shortened(list(dict.fromkeys(said)))
    found.problems = _shortened(found.problems)
    return found


def _array(source: Source) -> Found:
    from . import npy
    from .describing import describe

    found = Found(source.format.title)
    try:
        found.holds = [describe(npy.mapped(source.path))]
    except DataError as error:
        found.problems = list(error.problems)
    return found


def _shortened(lines: list[str]) -> list[str]:
    if len(lines) <= MOST_SHOWN:
        return lines
    return [*lines[:MOST_SHOWN], f"and {len(lines) - MOST_SHOWN} more of the kind."]
