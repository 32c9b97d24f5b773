"""Reads records of the PhysioNet challenge 2012: a file per stay, a line per measurement.

    set-a/132539.txt     Time,Parameter,Value: 00:07,HR,73. The first lines, at 00:00, describe the
                         patient; there -1 is unknown
    Outcomes-a.txt       RecordID, ..., In-hospital_death: 1 where the patient died

Reference: https://physionet.org/content/challenge-2012/1.0.0/.
"""

import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import files, formats, tables
from ..limits import DataError

GROUPS: dict[str, tuple[str, ...]] = {
    "circulation": ("HR", "SysABP", "DiasABP", "MAP", "NISysABP", "NIDiasABP", "NIMAP", "Temp"),
    "respiration": ("RespRate", "SaO2", "FiO2", "PaO2", "PaCO2", "pH", "MechVent"),
    "chemistry": ("Na", "K", "Mg", "HCO3", "Glucose", "BUN", "Creatinine", "Lactate", "Albumin",
                  "ALP", "ALT", "AST", "Bilirubin", "Cholesterol"),
    "blood": ("HCT", "Platelets", "WBC", "TroponinI", "TroponinT"),
    "neuro_renal": ("GCS", "Urine"),
}  # fmt: skip
STATIC = ("Age", "Gender", "Height", "ICUType", "Weight")
HOURS = 48

OUTCOMES = "Outcomes-a.txt"
DEATH = "In-hospital_death"
_COLUMN = {name: (group, at) for group, names in GROUPS.items() for at, name in enumerate(names)}
_TIME = re.compile(r"(\d{1,3}):([0-5]\d)")


def find(folder: Any) -> tuple[pathlib.Path, list[pathlib.Path]]:
    """Finds the outcomes and the records in a folder.

    Raises:
        FileNotFoundError: They do not exist.
    """
    folder = pathlib.Path(folder)
    outcomes, stays = files.find(folder, OUTCOMES), files.find(folder, "set-a")
    records = sorted(stays.glob("*.txt")) if stays.is_dir() else []
    if not outcomes.is_file() or not records:
        there = sorted(path.name for path in folder.iterdir())[:12] if folder.is_dir() else folder
        raise FileNotFoundError(
            f"There must be {OUTCOMES} and set-a/*.txt in {folder}. Received: {there}. They are in "
            "set-a.tar.gz and beside it, https://physionet.org/content/challenge-2012/1.0.0/."
        )
    return outcomes, records


def deaths(path: pathlib.Path) -> dict[str, int]:
    """Reads the outcomes: stay -> 1 if the patient died, else 0.

    Raises:
        DataError: The table is invalid.
    """
    place = formats.place(path)
    found: dict[str, int] = {}
    for line in tables.read(path, ("RecordID", DEATH)):
        if line[DEATH] not in ("0", "1") or line["RecordID"] in found:
            raise DataError(
                f"{place}, line {line['number']}: `{DEATH}` must be 0 or 1, once for each record. "
                f"Received: {line[DEATH]!r} for {line['RecordID']!r}."
            )
        found[line["RecordID"]] = int(line[DEATH])
    return found


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a stay: groups float32 `(HOURS, columns)`, and `static` float32 `(5,)`.

    A cell is the last value of its hour, NaN if there is none. A value at 48:00 counts to the last
    hour, later ones are ignored.

    Raises:
        DataError: The file is invalid.
    """
    found = {group: np.full((HOURS, len(names)), np.nan, np.float32)
             for group, names in GROUPS.items()}  # fmt: skip
    static = np.full(len(STATIC), np.nan, np.float32)
    place = formats.place(path)
    for number, (clock, name, text) in _lines(place, path):
        if name not in _COLUMN and name not in STATIC:
            continue
        time, value = _TIME.fullmatch(clock), _value(place, number, text)
        if time is None:
            raise DataError(f"{place}, line {number}: `Time` must be hours and minutes, 00:07. "
                            f"Received: {clock!r}.")  # fmt: skip
        hour, minute = int(time[1]), int(time[2])
        if name in STATIC:
            at = STATIC.index(name)
            if hour == minute == 0 and value >= 0 and np.isnan(static[at]):
                static[at] = value
        elif hour < HOURS or (hour == HOURS and minute == 0):
            group, column = _COLUMN[name]
            found[group][min(hour, HOURS - 1), column] = value
    return {**found, "static": static}


def _lines(place: str, path: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
    """Yields number and cells of each line; `tables` would take five times as long."""
    lines = tables.text_of(path).splitlines()
    if not lines or lines[0].strip() != "Time,Parameter,Value":
        raise DataError(f"{place} must begin with the line Time,Parameter,Value. Received: "
                        f"{lines[0][:60] if lines else 'nothing'!r}.")  # fmt: skip
    for number, line in enumerate(lines[1:], 2):
        cells = line.strip().split(",")
        if len(cells) == 3:
            yield number, cells
        elif line.strip():
            raise DataError(f"{place}, line {number}: must have a time, a parameter and a value. "
                            f"Received: {line[:60]!r}.")  # fmt: skip


def _value(place: str, number: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not abs(value) < 1e30:
        raise DataError(f"{place}, line {number}: `Value` must be a finite number. "
                        f"Received: {text[:60]!r}.")  # fmt: skip
    return value


def divided(ids: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Divides stays at random, 70 / 10 / 20 %; each part is in the order of the ids.

    Args:
        ids: Stays, sorted.
        seed: Seed of `numpy.random.default_rng`.
    """
    order = np.random.default_rng(seed).permutation(len(ids))
    first, second = round(0.7 * len(ids)), round(0.8 * len(ids))
    parts = {"train": order[:first], "valid": order[first:second], "test": order[second:]}
    return {split: [ids[row] for row in np.sort(rows)] for split, rows in parts.items()}
