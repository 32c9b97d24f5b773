"""Reads the description of tables in long form, a YAML file that names the columns.

    table: sensors.csv            # or a list of files, or a file or list for each split
    id: recording                 # rows of one id are one example
    time: seconds                 # rows of an id are sorted by it: numbers, or dates in ISO 8601
    split: split                  # train, valid or test
    label: activity
    modalities:
      watch: [acc_x, acc_y, acc_z]
      phone: [gyro_x, gyro_y]
    static:                       # vectors: one value for each id
      person: [age, weight]
    labels: people.csv            # a second table, a line for each id: split, label, static
    grid: {step: 0.02}            # puts rows on a clock; also `start`, `steps` for a fixed length

`id` and one of `modalities` and `static` are required. Files must lie in the folder of the
description or below. `table` defaults to the .csv or .parquet file of the same name.
"""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from . import files, formats
from .arrays import check_name
from .describing import describe
from .limits import DataError, Problems
from .segments import MODES

ENDINGS = (".yaml", ".yml")
TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq")
MOST_BYTES = 2**18
"""Largest size of a description."""

KEYS = ("table", "id", "time", "split", "label", "modalities", "static", "labels", "grid")
INSTALL = "Tables need pandas, pyarrow and PyYAML: pip install 'keras-m3s[tables]'"


@dataclasses.dataclass(frozen=True)
class Grid:
    """A time grid; cell k holds the last value from `start + k * step` to `start + (k + 1) * step`.

    Attributes:
        step: Width of a cell, in the unit of the times; seconds for dates.
        start: Time of the first cell; `None` for the first row of each id.
        steps: Number of cells; `None` for that of the longest id.
    """

    step: float
    start: float | None = None
    steps: int | None = None


@dataclasses.dataclass(frozen=True)
class Layout:
    """A parsed description.

    Attributes:
        path: The description.
        tables: Split -> files; the key is `None` if the files are not of one split each.
        id: Name of a column, as `time`, `split` and `label`; `None` if absent.
        modalities: Name -> columns of a sequence.
        static: Name -> columns of a vector.
        labels: The second table.
        grid: The time grid.
    """

    path: pathlib.Path
    tables: Mapping[str | None, tuple[pathlib.Path, ...]]
    id: str
    time: str | None
    split: str | None
    label: str | None
    modalities: Mapping[str, tuple[str, ...]]
    static: Mapping[str, tuple[str, ...]]
    labels: pathlib.Path | None
    grid: Grid | None

    @property
    def files(self) -> list[pathlib.Path]:
        """All files to read, the description first."""
        tables = [path for paths in self.tables.values() for path in paths]
        return [self.path, *tables, *([self.labels] if self.labels else [])]


def find(path: pathlib.Path) -> pathlib.Path | None:
    """Finds the description of a path: itself, beside a table, or in a folder.

    Other YAML files in a folder are ignored.
    """
    if path.is_dir():
        found = [one for one in files.with_ending(path.iterdir(), ENDINGS) if _describes(one)]
        return found[0] if len(found) == 1 else None
    if path.suffix.lower() in ENDINGS:
        return path
    if path.suffix.lower() in TABLES:
        beside = [path.with_suffix(ending) for ending in ENDINGS]
        return next((one for one in beside if one.is_file()), None)
    return None


def _describes(path: pathlib.Path) -> bool:
    with path.open("rb") as file:
        return re.search(rb"^(modalities|static)\s*:", file.read(MOST_BYTES), re.M) is not None


def read(path: pathlib.Path) -> Layout:
    """Parses and checks a description; does not open the tables.

    Raises:
        FileNotFoundError: A table does not exist.
        DataError: The description is invalid.
        ImportError: PyYAML is not installed.
    """
    said = _loaded(path)
    place, problems = formats.place(path), Problems()
    if strange := sorted(set(said) - set(KEYS)):
        raise DataError(f"{place} must have no other keys than {KEYS}. Received: {strange}.")
    names: dict[str, str | None] = {}
    for key in ("id", "time", "split", "label"):
        with problems.noted():
            names[key] = _column(place, key, said.get(key))
    groups: dict[str, dict[str, tuple[str, ...]]] = {}
    for key in ("modalities", "static"):
        with problems.noted():
            groups[key] = _groups(place, key, said.get(key))
    grid = None
    with problems.noted():
        grid = _grid(place, said.get("grid"))
    problems.raise_any()
    if names["id"] is None or not (groups["modalities"] or groups["static"]):
        raise DataError(
            f"{place} must say `id`, the column that tells examples apart, and `modalities` or "
            f"`static`, with the columns of each. Received: {sorted(said)}."
        )
    if twice := sorted(set(groups["modalities"]) & set(groups["static"])):
        raise DataError(f"{place}: a modality must be in `modalities` or in `static`. "
                        f"Received: {twice} in both.")  # fmt: skip
    if grid and names["time"] is None:
        raise DataError(f"{place}: `grid` must go with `time`. Received: no `time`.")
    labels = said.get("labels")
    return Layout(
        path,
        _tables(path, said.get("table")),
        names["id"],
        names["time"],
        names["split"],
        names["label"],
        groups["modalities"],
        groups["static"],
        None if labels is None else _file(path, "labels", labels),
        grid,
    )


def _loaded(path: pathlib.Path) -> dict[str, Any]:
    """Loads YAML; tags do not construct objects."""
    try:
        import yaml
    except ImportError as error:
        raise ImportError(f"{INSTALL}. Missing: {error.name}.") from None
    place = formats.place(path)
    if not path.is_file():
        raise FileNotFoundError(f"A description must lie at the path given. Received: {path}")
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise DataError(f"{place} must be a description of at most {MOST_BYTES} bytes. "
                        f"Received: {size}.")  # fmt: skip
    must = f"{place} must be a description in YAML: id, modalities, label and so on."
    try:
        said = yaml.safe_load(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{must} Received: no UTF-8 ({error.reason}).") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        first = " ".join(str(error).split())[:200]
        raise DataError(f"{must} Received: no YAML that is read, {first}.") from None
    if not isinstance(said, dict) or not all(isinstance(key, str) for key in said):
        raise DataError(f"{must} Received: {describe(said)}.")
    return said


def _column(place: str, key: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise DataError(
            f"{place}: `{key}` must name a column. Received: {describe(value)}. Put names such as "
            "1 or no in quotes."
        )
    return value.strip()


def _groups(place: str, key: str, value: Any) -> dict[str, tuple[str, ...]]:
    """Parses `modalities` or `static`: name -> columns."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DataError(f"{place}: `{key}` must give names their columns, `watch: [x, y, z]`. "
                        f"Received: {describe(value)}.")  # fmt: skip
    found = {}
    for name, columns in value.items():
        if not isinstance(name, str):
            raise DataError(f"{place}: `{key}` must have names. Received: {describe(name)}. "
                            "Put it in quotes.")  # fmt: skip
        check_name(f"{place}, `{key}`", name)
        listed = [columns] if isinstance(columns, str) else columns
        if not isinstance(listed, list) or not listed:
            raise DataError(f"{place}: `{name}` must list columns, `[x, y, z]`. "
                            f"Received: {describe(columns)}.")  # fmt: skip
        named = [_column(place, name, column) or "" for column in listed]
        if len(set(named)) < len(named) or "" in named:
            raise DataError(f"{place}: `{name}` must list each column once. "
                            f"Received: {named[:12]}.")  # fmt: skip
        found[name] = tuple(named)
    return found


def _grid(place: str, value: Any) -> Grid | None:
    if value is None:
        return None
    fits = isinstance(value, dict) and not set(value) - {"step", "start", "steps"}
    step, start, steps = (value.get(key) for key in ("step", "start", "steps")) if fits else [0] * 3
    fits = fits and _is_number(step) and 0 < step < float("inf")
    fits = fits and (start is None or (_is_number(start) and abs(start) < float("inf")))
    if not fits or not (steps is None or (type(steps) is int and 0 < steps < 10**7)):
        raise DataError(
            f"{place}: `grid` must be such as {{step: 0.02}}: `step`, a number > 0, and where they "
            f"are wanted `start`, a number, and `steps`, a whole number > 0. "
            f"Received: {value if isinstance(value, int | float) else describe(value)}."
        )
    return Grid(float(step), None if start is None else float(start), steps)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _tables(path: pathlib.Path, value: Any) -> dict[str | None, tuple[pathlib.Path, ...]]:
    """Parses `table`: split -> files."""
    place = formats.place(path)
    if value is None:
        beside = [path.with_suffix(ending) for ending in TABLES]
        found = [one for one in beside if one.is_file()]
        if len(found) != 1:
            raise FileNotFoundError(
                f"{place} must name its `table`, or have one .csv or .parquet of its name beside "
                f"it. Received: {[one.name for one in found] or 'none'}."
            )
        return {None: (found[0],)}
    by_split = value if isinstance(value, dict) else {None: value}
    tables: dict[str | None, tuple[pathlib.Path, ...]] = {}
    for split, names in by_split.items():
        known = MODES.get(split.casefold()) if isinstance(split, str) else None
        if split is not None and (known is None or known in tables):
            raise DataError(f"{place}: `table` must be files, or files for each of train, valid "
                            f"and test. Received: {describe(value)}.")  # fmt: skip
        listed = [names] if isinstance(names, str) else names
        if not isinstance(listed, list) or not listed or len(listed) > 10_000:
            raise DataError(f"{place}: `table` must name files. Received: {describe(names)}.")
        tables[known] = tuple(_file(path, "table", name) for name in listed)
    return tables


def _file(path: pathlib.Path, key: str, name: Any) -> pathlib.Path:
    """Resolves a file in the folder of the description, or below.

    Raises:
        DataError: The name is invalid.
        FileNotFoundError: The file does not exist.
    """
    place = formats.place(path)
    if not isinstance(name, str) or not name or "\0" in name:
        raise DataError(f"{place}: `{key}` must name a file. Received: {describe(name)}.")
    inside = pathlib.PurePath(name)
    if inside.is_absolute() or ".." in inside.parts or "\\" in name:
        raise DataError(
            f"{place}: `{key}` must name a file beside the description or below. "
            f"Received: {name!r}. Move the description there."
        )
    found = path.parent / inside
    if not found.is_file():
        raise FileNotFoundError(f"{place}: `{key}` must be a file that is there. Received: {found}")
    return found
