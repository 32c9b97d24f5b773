"""Reads columns of CSV and Parquet files as text, numbers or times.

CSV is read as `tables` reads label.csv: commas, semicolons, tabs or bars; UTF-8 or UTF-16; decimal
commas if the separator is another character. Blank, NA, NaN, null, None and ? are missing values.
"""

import contextlib
import io
import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import formats, tables
from .limits import DataError, check_unfolded
from .table_layout import INSTALL

if TYPE_CHECKING:
    import pandas as pd

MISSING = ("", "na", "nan", "n/a", "null", "none", "?")
"""Spellings of a missing value, in lower case."""

MOST_CHARACTERS = 500
"""Longest value of a column that is read as text."""

_TRUTH = {"true": "1", "false": "0"}


class Table:
    """Some columns of a file.

    Args:
        path: A .csv or .parquet.
        wanted: Names of the columns to read if they exist.

    Attributes:
        place: Name of the file, for messages.
        names: All columns of the file.

    Raises:
        DataError: The file is not a table, or damaged.
        ImportError: pandas or pyarrow is not installed.
    """

    def __init__(self, path: pathlib.Path, wanted: Sequence[str]) -> None:
        self.place = formats.place(path)
        self._separator = ""
        known = formats.sniff(path)
        if known.name == "parquet":
            self._frame = self._parquet(path, wanted)
        elif known.name == formats.TEXT:
            self._frame = self._csv(path, wanted)
        else:
            advice = f" {known.advice}." if known.advice else ""
            raise DataError(f"{self.place} must be a table, CSV or Parquet. "
                            f"Received: {known.title}.{advice}")  # fmt: skip
        if not len(self._frame):
            raise DataError(f"{self.place} must have at least one row. Received: none.")

    def __len__(self) -> int:
        return len(self._frame)

    def __contains__(self, name: str) -> bool:
        return name in self._frame

    def require(self, names: Sequence[str]) -> None:
        """Raises a `DataError` with the columns that do not exist."""
        if lacking := [name for name in dict.fromkeys(names) if name not in self]:
            shown = ", ".join(repr(name[:40]) for name in self.names[:20])
            raise DataError(
                f"{self.place} must have the columns that the description names. Missing: "
                f"{', '.join(map(repr, lacking[:12]))}. Received: {shown or 'none'}."
            )

    def texts(self, name: str) -> np.ndarray:
        """A column as stripped strings; empty if missing."""
        column = self._frame[name]
        if column.dtype.kind == "f" and column.dropna().map(_is_whole).all():
            column = column.astype("Int64")  # ids, which holes made floats of
        self._check_size(name, column)
        missing = column.isna()
        texts = column.astype(str).str.strip()
        return np.where(missing, "", texts.to_numpy(dtype=str)).astype(str)

    def numbers(self, name: str) -> np.ndarray:
        """A column as float64; NaN if missing.

        Raises:
            DataError: A value is not a number; the message names its row.
        """
        import pandas as pd

        column = self._frame[name]
        if column.dtype.kind in "iufb":
            return column.to_numpy(dtype=np.float64, na_value=np.nan)
        texts = self.texts(name)
        read = pd.to_numeric(pd.Series(texts), errors="coerce")
        found = np.array(read.to_numpy(dtype=np.float64, na_value=np.nan))
        rows = np.flatnonzero(np.isnan(found))
        spelled, first, which = np.unique(texts[rows], return_index=True, return_inverse=True)
        values = np.full(len(spelled), np.nan)
        for at, text in enumerate(spelled.tolist()):
            if text.casefold() in MISSING:
                continue
            plain = tables.number(_TRUTH.get(text.casefold(), text), self._separator or ",")
            try:
                values[at] = float(plain)
            except ValueError:
                raise DataError(
                    f"{self.place}, row {rows[first[at]] + 1}: `{name}` must be a number, or empty "
                    f"where nothing was measured. Received: {text[:40]!r}."
                ) from None
        found[rows] = values[which.reshape(-1)]
        return found

    def times(self, name: str) -> tuple[np.ndarray, bool]:
        """A column of times as float64, and whether they are dates, in seconds since 1970.

        Raises:
            DataError: A value is missing, or not a time.
        """
        import pandas as pd

        column = self._frame[name]
        if column.dtype.kind in "Mm":
            times = self._seconds(column)
            dates = column.dtype.kind == "M"
        else:
            try:
                times, dates = self.numbers(name), False
            except DataError:
                texts = pd.Series(self.texts(name))
                read, dated = None, texts.str.match(r"\d{4}-?\d\d")
                if dated.all():  # unlike "now", which pandas reads
                    with contextlib.suppress(ValueError, OverflowError):
                        read = pd.to_datetime(texts, format="ISO8601", utc=True)
                if read is None:
                    row = int(dated.argmin())
                    raise DataError(
                        f"{self.place}, row {row + 1}: `{name}` must be a time: a number, or a "
                        f"date in ISO 8601. Received: {texts.iloc[row]!r}."
                    ) from None
                times, dates = self._seconds(read), True
        wrong = ~np.isfinite(times)
        if wrong.any():
            raise DataError(
                f"{self.place}, row {int(wrong.argmax()) + 1}: `{name}` must be a time. Received: "
                f"none, in {int(wrong.sum())} rows."
            )
        return times, dates

    def labels(self, name: str) -> np.ndarray:
        """A column in its own type; text as int64, float64 or strings, the first that fits all."""
        column = self._frame[name]
        if column.dtype.kind in "iufb":
            return column.to_numpy()
        texts = self.texts(name)
        folded = np.char.lower(texts)
        if np.isin(folded, list(_TRUTH)).all():
            return (folded == "true").astype(np.int64)
        there = [text for text in np.unique(texts).tolist() if text.casefold() not in MISSING]
        if (
            there
            and all(re.fullmatch(r"[+-]?\d{1,9}", text) for text in there)
            and (len(there) == len(np.unique(texts)))
        ):
            return texts.astype(np.int64)
        try:
            return self.numbers(name)
        except DataError:
            return np.where(np.isin(folded, MISSING), "", texts)

    def _check_size(self, name: str, column: "pd.Series[Any]") -> None:
        """Refuses long text: an array of strings takes the size of the longest for each."""
        shown = column
        if str(column.dtype) == "category":
            shown = column.cat.categories.to_series()
        if shown.dtype.kind not in "iufbMm" and len(shown):
            longest = shown.astype(str).str.len().max()
            if longest > MOST_CHARACTERS:
                raise DataError(
                    f"{self.place}: `{name}` must hold at most {MOST_CHARACTERS} characters each. "
                    f"Received: {int(longest)}."
                )

    @staticmethod
    def _seconds(column: "pd.Series[Any]") -> np.ndarray:
        unit = "datetime64[ns]" if column.dtype.kind == "M" else "timedelta64[ns]"
        naive = column.dt.tz_localize(None) if getattr(column.dt, "tz", None) else column
        values = naive.to_numpy().astype(unit)
        seconds = values.astype(np.int64) / 1e9
        seconds[np.isnat(values)] = np.nan
        return seconds

    def _csv(self, path: pathlib.Path, wanted: Sequence[str]) -> "pd.DataFrame":
        pd = _pandas()
        text = tables.text_of(path)
        start, read = tables.headers(text)
        read = {one: _matched(names, wanted) for one, names in read.items()}
        separator = max(read, key=lambda one: (len(set(read[one]) & {*wanted}), len(read[one])))
        self.names, self._separator = read[separator], separator
        try:
            frame = pd.read_csv(
                io.StringIO(text[start:]), sep=separator, header=None, dtype=str,
                keep_default_na=False, na_filter=True, na_values=[], skipinitialspace=True,
            )  # fmt: skip
        except (ValueError, OverflowError, MemoryError) as error:
            first = " ".join(str(error).split())[:200]
            raise DataError(f"{self.place} must be a table, with a value for each column in each "
                            f"row. Received: {first}.") from None  # fmt: skip
        names = self.names[: frame.shape[1]]
        frame = frame.iloc[1:, [at for at, name in enumerate(names) if name in wanted]]
        frame.columns = pd.Index([name for name in names if name in wanted])
        self._once(list(frame.columns))
        return frame.reset_index(drop=True)

    def _parquet(self, path: pathlib.Path, wanted: Sequence[str]) -> "pd.DataFrame":
        _pandas()
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise ImportError(f"{INSTALL}. Missing: {error.name}.") from None
        must = f"{self.place} must be a whole Parquet table of numbers, strings and times."
        try:
            types = {field.name: field.type for field in pq.read_schema(path)}
            is_text = (pa.types.is_string, pa.types.is_large_string)
            strings = [name for name, kind in types.items() if any(is_(kind) for is_ in is_text)]
            # Strings stay a dictionary until their lengths are checked.
            with pq.ParquetFile(path, read_dictionary=strings) as file:
                self.names = _matched([str(name) for name in file.schema_arrow.names], wanted)
                chosen = {
                    own: name
                    for own, name in zip(file.schema_arrow.names, self.names, strict=True)
                    if name in wanted
                }
                self._once(list(chosen.values()))
                claimed = 8 * file.metadata.num_rows * max(1, len(chosen))
                check_unfolded(self.place, path.stat().st_size, claimed)
                arrow = file.read(columns=list(chosen), use_threads=False)
                frame = arrow.to_pandas(ignore_metadata=True, use_threads=False)
        except (
            pa.ArrowException,
            OSError,
            KeyError,
            ValueError,
            OverflowError,
            TypeError,
        ) as error:
            if isinstance(error, DataError):
                raise
            first = " ".join(str(error).split())[:200]
            raise DataError(f"{must} Received: {type(error).__name__}, {first}.") from None
        frame = frame.rename(columns=chosen)
        for name in frame:
            if frame[name].dtype.kind not in "iufbMmOTU" and str(frame[name].dtype) not in (
                "str", "string", "category"
            ):  # fmt: skip
                raise DataError(f"{must} Received: {frame[name].dtype} in {name!r}.")
        return frame

    def _once(self, names: list[str]) -> None:
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"{self.place} must have each column once. Received: {twice} twice.")


def _is_whole(number: float) -> bool:
    return abs(number) < 2**53 and number % 1 == 0


def _matched(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Replaces names of columns by those of the description that differ in case or blanks only."""
    known = {name.casefold(): name for name in wanted}
    stripped = [name.strip() for name in names]
    return [
        name if name in wanted else known.get(name.casefold(), name)
        if known.get(name.casefold()) not in stripped else name
        for name in stripped
    ]  # fmt: skip


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError(f"{INSTALL}. Missing: {error.name}.") from None
    return pandas
