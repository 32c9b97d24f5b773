"""Converts tables in long form, with a row for each id and time, to arrays with splits.

A description in YAML names the columns, see `table_layout`. A table without labels is input for
prediction: columns, whole modalities and the split may be absent from it.
"""

import operator
import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from . import formats, table_layout
from .arrays import ID
from .labels import LABEL
from .limits import DataError, Unread, check_unfolded
from .segments import MODES, SPLITS
from .table_files import Table
from .table_layout import Grid, Layout


def recognises(path: Any) -> bool:
    """Whether a path is a description of tables, or has one beside or in it."""
    return table_layout.find(pathlib.Path(path)) is not None


def sources(path: Any) -> list[pathlib.Path]:
    """The files that `load` reads; raises as `load` does."""
    return table_layout.read(_found(path)).files


def load(path: Any) -> dict[str, Any]:
    """Reads tables into the form that `arrays` reads: a dict of splits, or one dict without splits.

    Args:
        path: A description, a table that has one beside it, or a folder that holds one.

    Raises:
        FileNotFoundError: A file does not exist.
        DataError: The description or a table is invalid.
        ImportError: pandas, pyarrow or PyYAML is not installed.
    """
    layout = table_layout.read(_found(path))
    rows = _Rows(layout)
    examples = _Examples(layout, rows)
    labelled = layout.label is not None and examples.has(layout.label)
    content: dict[str, Any] = {ID: np.array(rows.ids)}
    content |= _modalities(layout, rows, labelled)
    for name, columns in layout.static.items():
        present = _present(f"`{name}`", columns, examples.has, examples.names, labelled, layout)
        if any(present):
            content[name] = np.stack(
                [
                    examples.numbers(column) if there else np.full(len(rows.ids), np.nan)
                    for column, there in zip(columns, present, strict=True)
                ],
                axis=1,
            )
    if len(content) == 1:
        raise DataError(f"{rows.place} must have a column of some modality. Received: none.")
    if labelled and layout.label is not None:
        content[LABEL] = examples.labels(layout.label)
    return _in_splits(layout, rows, examples, content, labelled)


def _found(path: Any) -> pathlib.Path:
    found = table_layout.find(pathlib.Path(path))
    if found is None:
        raise FileNotFoundError(f"There must be a description of tables (.yaml). Received: {path}")
    return found


class _Rows:
    """The rows of all tables, sorted by id and time.

    Attributes:
        place: Name of the source, for messages.
        ids: Names of the examples, in order of first appearance.
        code: Index of each row's id, int `(rows,)`, sorted.
        position: Number of rows of the same id before each row.
    """

    def __init__(self, layout: Layout) -> None:
        wanted = [*_columns(layout), layout.id]
        self.layout, self.place = layout, formats.place(layout.path)
        files = [(split, path) for split, paths in layout.tables.items() for path in paths]
        self.tables = [Table(path, wanted) for _, path in files]
        names = [layout.id, *([layout.time] if layout.time else [])]
        for table in self.tables:
            table.require(names)
        self.names = self.tables[0].names
        texts = np.concatenate([table.texts(layout.id) for table in self.tables])
        if (texts == "").any():
            raise DataError(
                f"{self.place}: `{layout.id}` must be there in each row. Received: "
                f"{int((texts == '').sum())} rows without, the first of them row "
                f"{int((texts == '').argmax()) + 1}."
            )
        uniques, first, code = np.unique(texts, return_index=True, return_inverse=True)
        appearance = np.argsort(first)
        number = np.empty(len(uniques), np.int64)
        number[appearance] = np.arange(len(uniques))
        self.ids = uniques[appearance].tolist()
        code = number[code.reshape(-1)]
        times = self._times()
        # Rows of one time stay in the order of the file.
        self.order = np.lexsort((np.zeros(len(code)) if times is None else times, code))
        self.code = code[self.order]
        self.times = None if times is None else times[self.order]
        self.counts = np.bincount(self.code, minlength=len(self.ids))
        starts = np.cumsum(self.counts) - self.counts
        self.position = np.arange(len(self.code)) - starts[self.code]
        self._splits = np.concatenate(
            [np.full(len(table), split or "") for (split, _), table
             in zip(files, self.tables, strict=True)]
        )  # fmt: skip

    def has(self, name: str) -> bool:
        """Whether the tables have a column; raises if only some do."""
        there = [name in table for table in self.tables]
        if any(there) and not all(there):
            raise DataError(f"{self.tables[there.index(False)].place} must have the column "
                            f"{name!r} as the other tables have. Received: "
                            f"{self.tables[there.index(False)].names[:20]}.")  # fmt: skip
        return all(there)

    def column(self, read: Callable[[Table], np.ndarray]) -> np.ndarray:
        """Reads a column of all tables, in the order of the rows."""
        parts = [read(table) for table in self.tables]
        if len({part.dtype.kind for part in parts}) > 1 and "U" in {p.dtype.kind for p in parts}:
            parts = [part.astype(str) for part in parts]
        return np.concatenate(parts)[self.order]

    def file_splits(self) -> np.ndarray:
        """The split of each row's file; empty if files have none."""
        return self._splits[self.order]

    def _times(self) -> np.ndarray | None:
        if self.layout.time is None:
            return None
        name = self.layout.time
        read = [table.times(name) for table in self.tables]
        if len({dates for _, dates in read}) > 1:
            raise DataError(f"{self.place}: `{name}` must hold numbers or dates in all tables. "
                            "Received: both.")  # fmt: skip
        return np.concatenate([times for times, _ in read])


class _Examples:
    """Values of each id: from the second table, or constant over the rows of the id."""

    def __init__(self, layout: Layout, rows: _Rows) -> None:
        self.rows, self.table, self.place = rows, None, rows.place
        self.names = rows.names
        if layout.labels is None:
            return
        self.table = Table(layout.labels, [*_columns(layout), layout.id])
        self.table.require([layout.id])
        self.names = [*rows.names, *self.table.names]
        found = self.table.texts(layout.id)
        line = {name: number for number, name in enumerate(found.tolist())}
        if len(line) < len(found):
            raise DataError(f"{self.table.place} must have one line for each id. Received: "
                            f"{len(found)} lines of {len(line)} ids.")  # fmt: skip
        absent = [name for name in rows.ids if name not in line]
        if absent:
            raise DataError(
                f"{self.table.place} must have a line for each id of the table. Missing: "
                f"{absent[0]!r}{f' and {len(absent) - 1} more' if len(absent) > 1 else ''}."
            )
        if len(line) > len(rows.ids):
            warnings.warn(
                f"{self.table.place}: {len(line) - len(rows.ids)} lines are of ids that have no "
                "rows, and are not read.",
                stacklevel=4,
            )
        self._lines = np.array([line[name] for name in rows.ids])

    def has(self, name: str) -> bool:
        return (self.table is not None and name in self.table) or self.rows.has(name)

    def texts(self, name: str) -> np.ndarray:
        return self._once(name, lambda table: table.texts(name))

    def numbers(self, name: str) -> np.ndarray:
        return self._once(name, lambda table: table.numbers(name))

    def labels(self, name: str) -> np.ndarray:
        return self._once(name, lambda table: table.labels(name))

    def _once(self, name: str, read: Callable[[Table], np.ndarray]) -> np.ndarray:
        if self.table is not None and name in self.table:
            return read(self.table)[self._lines]
        values, code = self.rows.column(read), self.rows.code
        there = values != "" if values.dtype.kind == "U" else values == values
        ids = len(self.rows.ids)
        if values.dtype.kind in "Uiub":
            found = np.zeros(ids, values.dtype)
        else:
            found = np.full(ids, np.nan)
        found[code[there]] = values[there]
        differs = there & (found[code] != values)
        if differs.any():
            row = int(differs.argmax())
            raise DataError(
                f"{self.place}: `{name}` must be the same in all rows of an id. Received: "
                f"{values[row]} and {found[code[row]]} for {self.rows.ids[code[row]]!r}."
            )
        return found


def _columns(layout: Layout) -> Iterator[str]:
    """All columns to read, except the id."""
    yield from (name for name in (layout.time, layout.split, layout.label) if name)
    for groups in (layout.modalities, layout.static):
        for columns in groups.values():
            yield from columns


def _present(
    what: str,
    columns: Sequence[str],
    has: Callable[[str], bool],
    names: Sequence[str],
    labelled: bool,
    layout: Layout,
) -> list[bool]:
    """Which columns exist; all must if there are labels."""
    there = [has(column) for column in columns]
    absent = [column for column, present in zip(columns, there, strict=True) if not present]
    if absent and labelled:
        shown = ", ".join(repr(name[:40]) for name in names[:20])
        raise DataError(
            f"{formats.place(layout.path)}: the columns of {what} must be there. Missing: "
            f"{', '.join(map(repr, absent[:12]))}. Received: {shown}."
        )
    if absent:
        warnings.warn(
            f"{formats.place(layout.path)}: {what} has no column "
            f"{', '.join(map(repr, absent[:12]))}: not measured.",
            stacklevel=4,
        )
    return there


def _modalities(layout: Layout, rows: _Rows, labelled: bool) -> dict[str, np.ndarray]:
    """Sequences `(ids, steps, columns)` of each modality, and their lengths if they differ."""
    found: dict[str, np.ndarray] = {}
    cells, steps, lengths = _cells(layout, rows)
    inside = (cells >= 0) & (cells < steps)
    if not inside.all():
        warnings.warn(
            f"{rows.place}: {int((~inside).sum())} rows lie outside the grid and are left out.",
            stacklevel=4,
        )
    for name, columns in layout.modalities.items():
        present = _present(f"`{name}`", columns, rows.has, rows.names, labelled, layout)
        if not any(present):
            continue
        size = len(rows.ids) * steps * len(columns)
        check_unfolded(f"{rows.place}, `{name}`", 8 * len(rows.code) * len(columns), 8 * size)
        array = np.full((len(rows.ids), steps, len(columns)), np.nan, np.float32)
        for at, (column, there) in enumerate(zip(columns, present, strict=True)):
            if not there:
                continue
            read = rows.column(operator.methodcaller("numbers", column))
            used = inside & ~np.isnan(read)
            with np.errstate(over="ignore"):
                array[rows.code[used], cells[used], at] = read[used]  # the last of a cell stays
        found[name] = array
        if lengths is not None:
            found[f"{name}_length"] = lengths
    return found


def _cells(layout: Layout, rows: _Rows) -> tuple[np.ndarray, int, np.ndarray | None]:
    """Step of each row, number of steps, and length of each id if they differ."""
    if layout.grid is None or rows.times is None:
        cells = rows.position
    else:
        cells = _on_grid(layout.grid, rows, rows.times)
        if layout.grid.steps is not None:
            return cells, layout.grid.steps, None
    lengths = np.zeros(len(rows.ids), np.int64)
    np.maximum.at(lengths, rows.code, cells + 1)
    lengths = np.maximum(lengths, 1)
    steps = int(lengths.max())
    return cells, steps, None if (lengths == steps).all() else lengths


def _on_grid(grid: Grid, rows: _Rows, times: np.ndarray) -> np.ndarray:
    first = np.full(len(rows.ids), np.inf)
    np.minimum.at(first, rows.code, times)
    start = first if grid.start is None else np.full(len(rows.ids), grid.start)
    # A time on the border of two cells, up to rounding, is in the later.
    cells = np.floor((times - start[rows.code]) / grid.step + 1e-6)
    if np.abs(cells).max() >= 2**31:
        row = int(np.abs(cells).argmax())
        raise DataError(
            f"{rows.place}: times must lie within 2**31 steps of the grid. Received: {times[row]} "
            f"for {rows.ids[rows.code[row]]!r}."
        )
    found: np.ndarray = cells.astype(np.int64)
    return found


def _in_splits(
    layout: Layout, rows: _Rows, examples: _Examples, content: dict[str, Any], labelled: bool
) -> dict[str, Any]:
    """Divides content by split; returns unlabelled content without splits as it is."""
    if None not in layout.tables:
        named = np.zeros(len(rows.ids), "U8")
        of_rows = rows.file_splits()
        named[rows.code] = of_rows
        if (mixed := named[rows.code] != of_rows).any():
            raise DataError(f"{rows.place}: an id must be in the files of one split. Received: "
                            f"{rows.ids[rows.code[mixed.argmax()]]!r} in several.")  # fmt: skip
    elif layout.split is not None and examples.has(layout.split):
        said = examples.texts(layout.split)
        strange = [one for one in np.unique(said).tolist() if one.casefold() not in MODES]
        if strange:
            raise DataError(f"{rows.place}: `{layout.split}` must be one of {sorted(MODES)}. "
                            f"Received: {strange[:12]}.")  # fmt: skip
        named = np.array([MODES[one.casefold()] for one in said.tolist()])
    elif labelled:
        raise DataError(
            f"{rows.place} must say the splits: `split: COLUMN`, or `table` with a file for each. "
            f"Received: {f'no column {layout.split!r}' if layout.split else 'neither'}."
        )
    else:
        return content
    if not labelled:
        content[LABEL] = Unread(
            f"no column {layout.label!r}" if layout.label else "no `label` in the description"
        )
    return {
        split: {
            key: value if isinstance(value, Unread) else value[chosen]
            for key, value in content.items()
        }
        for split in SPLITS
        if (chosen := named == split).any()
    }
