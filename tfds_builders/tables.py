"""Tables of text, as `label.csv` is one: read however a spreadsheet saved them, if without doubt.

Commas, semicolons, tabs or bars separate columns; the first line names them, in any case and with
blanks around. UTF-8, with or without a byte order mark, or UTF-16 with one. Where a comma does not
separate columns, it may stand in numbers: `0,5` is `0.5`.
"""

import csv
import io
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from . import formats
from .limits import DataError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
LABELS = ("label", "label_T", "label_A", "label_V")
KNOWN = ("video_id", "clip_id", "mode", "split", "text", *LABELS)
"""Known column names, in the case that readers use."""

_KNOWN = {name.casefold(): name for name in KNOWN}
_DECIMAL = re.compile(r"[+-]?\d+,\d+")
_PLAIN_DECIMAL = re.compile(r"[+-]?(\d+,(\d{1,2}|\d{4,})|0,\d+)")
"""A comma that is no thousands separator."""


def read(path: Any, needed: Sequence[str]) -> list[dict[str, str]]:
    """The lines of a table.

    Args:
        path: The file.
        needed: Columns that must be there; `"mode|split"` is either.

    Returns:
        A dict a line, blanks around values stripped: columns in `KNOWN` by those names, others as
        the file has them, and `number`, the line in the file. Values that a short line lacks are
        empty.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is no such table; the message says which columns were found.
    """
    path = pathlib.Path(path)
    text = text_of(path)
    separator, header = _header(path, text, needed)
    found: list[dict[str, str]] = []
    place = formats.place(path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    start, seen = 1, False
    try:
        for cells in reader:
            at, start = start, reader.line_num + 1
            cells = [cell.strip() for cell in cells]
            if not any(cells) or _says_separator(cells, separator):
                continue
            if not seen:
                seen = True  # the header
                continue
            if any(cells[len(header) :]):
                raise DataError(
                    f"{place}, line {at}: must have a value for each of {len(header)} columns. "
                    f"Received: {len(cells)} values. A value that holds a {separator!r} must stand "
                    "in quotes."
                )
            cells += [""] * (len(header) - len(cells))
            line = {name: cell for name, cell in zip(header, cells, strict=False) if name}
            for name in LABELS:
                if name in line:
                    line[name] = number(line[name], separator)
            found.append({**line, "number": str(at)})
    except csv.Error as error:
        raise DataError(f"{place} must be a table in UTF-8. Received: {error}.") from None
    if not found:
        raise DataError(
            f"{place} must have the columns {_listed(needed)} and at least one line. Received: "
            "no line below the first."
        )
    return found


def text_of(path: pathlib.Path) -> str:
    """The text of a table.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is in another encoding than UTF-8, or UTF-16 with a mark.
    """
    if not path.is_file():
        raise FileNotFoundError(f"A table must lie at the path given. Received: {path}")
    raw = path.read_bytes()
    coding = "utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return raw.decode(coding)
    except UnicodeDecodeError as error:
        formats.check(path, formats.TEXT, "a table in UTF-8")
        row = raw[: error.start].count(b"\n") + 1
        raise DataError(
            f"{formats.place(path)} must be a table in UTF-8. Received: line {row} in another "
            f"encoding ({error.reason}). Save it as CSV UTF-8."
        ) from None


def _header(path: pathlib.Path, text: str, needed: Sequence[str]) -> tuple[str, list[str]]:
    """Separator and names of columns."""
    read = {
        separator: [_known(name) for name in names] for separator, names in headers(text)[1].items()
    }
    fit = [separator for separator, names in read.items() if not _lacking(names, needed)]
    separator = fit[0] if fit else max(read, key=lambda one: len(read[one]))
    names = read[separator]
    place = formats.place(path)
    if not fit:
        if formats.sniff(path).name not in (formats.TEXT, formats.PICKLE, "empty"):
            formats.check(path, formats.TEXT, "a table in UTF-8")
        shown = ", ".join(repr(name[:SHOWN]) for name in names[:12])
        arrived = f"{shown}, separated by {SEPARATORS[separator]}" if any(names) else "no columns"
        lacking = ", ".join(name.partition("|")[0] for name in _lacking(names, needed))
        raise DataError(
            f"{place} must have the columns {_listed(needed)}. Received: {arrived}. "
            f"Missing: {lacking}."
        )
    twice = sorted({name for name in names if name in KNOWN and names.count(name) > 1})
    if twice:
        raise DataError(f"{place} must have each column once. Received: {twice} twice.")
    return separator, names


def headers(text: str) -> tuple[int, dict[str, list[str]]]:
    """Where the line begins that names the columns, and separator -> those names."""
    said, first, start = None, "", 0
    for line in re.finditer(r"[^\r\n]+", text):
        if not line[0].strip():
            continue
        first, start = line[0], line.start()
        if said or not (said := re.fullmatch(r"\s*\"?sep=(.)\"?\s*", first)):
            break  # Excel writes and reads such a line, which says the separator
    separators = [said[1]] if said and said[1] in SEPARATORS else SEPARATORS
    return start, {separator: _names(first, separator) for separator in separators}


SHOWN = 40
"""Number of characters of a name that are shown."""


def _names(line: str, separator: str) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return []
    return [cell.strip() for cell in cells]


def _known(name: str) -> str:
    return _KNOWN.get(re.sub(r"[\s-]+", "_", name.casefold()), name)


def _lacking(names: Sequence[str], needed: Sequence[str]) -> list[str]:
    return [name for name in needed if not set(name.split("|")) & set(names)]


def _listed(needed: Sequence[str]) -> str:
    return ", ".join(name.partition("|")[0] for name in needed)


def _says_separator(cells: Sequence[str], separator: str) -> bool:
    return re.fullmatch(r"sep=.?", cells[0]) is not None and not any(cells[1:])


def number(text: str, separator: str) -> str:
    """A number with a decimal point, where it is without doubt one with a decimal comma."""
    text = text.replace("\N{MINUS SIGN}", "-")
    decimal = _PLAIN_DECIMAL if separator == "," else _DECIMAL
    return text.replace(",", ".") if decimal.fullmatch(text) else text
