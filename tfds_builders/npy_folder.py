"""Own data as a folder: `label.csv` and arrays of features, without pickles.

    label.csv         video_id, clip_id, label, mode (train, valid, test); text, label_T, label_A,
                      label_V where there are such: MMSA's label files, one segment a line
    audio.npy         (N, steps, dim), a row a line of label.csv; likewise vision.npy, text.npy
    audio/{video_id}/{clip_id}.npy     instead: (steps, dim), each segment with its own steps
    audio_lengths.npy                  (N,) true steps of audio.npy; optional, likewise the others
    text_bert.npy                      (N, 3, steps) tokens, mask, segments; optional

Labels are classes where all are written as whole numbers from 0 on, such as `2`, and scores
otherwise, such as `2.0`. Features are read from disk when they are written into the data set.

Reference: thuiar/MMSA-FET, src/MSA_FET/dataset.py (`label.csv`).
"""

import csv
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import mmsa, npy
from .pickles import DataError
from .sequences import Repairs

LABELS = "label.csv"
COLUMNS = ("video_id", "clip_id", "label", "mode")
MODES = {"train": "train", "valid": "valid", "val": "valid", "dev": "valid", "test": "test"}


class Rows(Sequence[np.ndarray]):
    """Some rows of a stacked array, or some files, read when asked for.

    Args:
        place: For messages.
        modality: `audio`, `vision` or `text`.
        items: What to read: rows of an array on disk, or paths of .npy files.
        repairs: Counts what had to become 0.
        ragged: Whether sequences differ in steps.
    """

    def __init__(
        self, place: str, modality: str, items: Any, repairs: Repairs, ragged: bool
    ) -> None:
        self.place, self.modality, self.items, self.repairs = place, modality, items, repairs
        self.ragged = ragged

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: Any) -> Any:
        item = self.items[row]
        place = self.place
        if isinstance(item, pathlib.Path):
            place, item = f"{place}, {item.parent.name}/{item.name}", npy.load(item)
        return self.repairs.sequence(place, self.modality, np.asarray(item))


def read(folder: Any) -> dict[str, mmsa.Segments]:
    """All splits; features come in `Rows`, other arrays in memory.

    Args:
        folder: As above.

    Returns:
        Dict with `train`, `valid`, `test`.

    Raises:
        FileNotFoundError: a file is not there.
        DataError: the files are not as above; the message names file and line.
    """
    folder = pathlib.Path(folder)
    table = lines(folder)
    modes = [line["mode"] for line in table]
    labels = _labels(table)
    repairs = Repairs()
    features: dict[str, Any] = {
        name: _sequences(folder, name, table, repairs) for name in mmsa.MODALITIES
    }
    lengths = {name: _lengths(folder, name, rows) for name, rows in features.items()}
    if (folder / "text_bert.npy").is_file():
        features[mmsa.TEXT_BERT] = _tokens(folder / "text_bert.npy", len(table))
    unimodal = {
        name: np.array([_number(line, f"label_{key}") for line in table], dtype=np.float32)
        for name, key in mmsa.UNIMODAL.items()
        if table[0].get(f"label_{key}")
    }
    splits = {}
    for split in mmsa.SPLITS:
        rows = [row for row, mode in enumerate(modes) if mode == split]
        if not rows:
            raise DataError(f"{LABELS} must have at least one line of each mode. None: {split}.")
        chosen: dict[str, Any] = {}
        for name, array in features.items():
            if isinstance(array, Rows):
                items = [array.items[row] for row in rows]
                chosen[name] = Rows(array.place, name, items, repairs, array.ragged)
            else:
                chosen[name] = array[rows]
        chosen |= {f"{name}_length": length[rows] for name, length in lengths.items()}
        splits[split] = mmsa.Segments(
            [table[row]["id"] for row in rows],
            [table[row].get("text") or "" for row in rows],
            chosen,
            labels[rows],
            {name: array[rows] for name, array in unimodal.items()},
        )
    mmsa.check_disjoint(LABELS, splits)
    return splits


def sources(folder: Any) -> list[pathlib.Path]:
    """The files that are read, for their SHA-256.

    Raises:
        FileNotFoundError: there is no label.csv.
    """
    folder = pathlib.Path(folder)
    if not (folder / LABELS).is_file():
        raise FileNotFoundError(f"A folder of own data must hold {LABELS}. Received: {folder}")
    return [folder / LABELS, *sorted(folder.glob("*.npy")), *sorted(folder.glob("*/*/*.npy"))]


def lines(folder: Any) -> list[dict[str, str]]:
    """The lines of `label.csv`, with `id`, `number` (of the line) and `mode` brought to one word.

    Raises:
        FileNotFoundError: there is none.
        DataError: it is not as above; the message names the line.
    """
    path = sources(folder)[0]
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            found: list[dict[str, Any]] = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{LABELS} must be a table in UTF-8: {error}.") from None
    for line in found:
        line["mode"] = line.get("mode") or line.get("split")
    lacking = [name for name in COLUMNS if not found or not found[0].get(name)]
    if lacking:
        raise DataError(
            f"{LABELS} must have the columns {COLUMNS} and at least one line. Missing: {lacking}."
        )
    seen: set[str] = set()
    for number, line in enumerate(found, 2):
        if None in line or any(line.get(name) in (None, "") for name in COLUMNS):
            raise DataError(f"{LABELS}, line {number}: must have a value in each of {COLUMNS}.")
        if line["mode"] not in MODES:
            raise DataError(
                f"{LABELS}, line {number}: mode must be one of {sorted(MODES)}. "
                f"Received: {line['mode']!r}."
            )
        line["mode"] = MODES[line["mode"]]
        line["id"] = f"{line['video_id']}$_${line['clip_id']}"
        if line["id"] in seen:
            raise DataError(f"{LABELS}, line {number}: {line['id']!r} must be there once.")
        if re.search(r"[/\\\0]", line["id"]) or ".." in (line["video_id"], line["clip_id"]):
            raise DataError(f"{LABELS}, line {number}: ids must be names of files. "
                            f"Received: {line['id']!r}.")  # fmt: skip
        seen.add(line["id"])
        line["number"] = str(number)
    return found


def _labels(lines: Sequence[dict[str, str]]) -> np.ndarray:
    if all(re.fullmatch(r"\d{1,4}", line["label"]) for line in lines):
        return np.array([int(line["label"]) for line in lines], dtype=np.int32)
    return np.array([_number(line, "label") for line in lines], dtype=np.float32)


def _number(line: dict[str, str], key: str) -> float:
    try:
        number = float(np.float32(line.get(key) or ""))
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise DataError(f"{LABELS}, line {line['number']}: {key} must be a finite number. "
                        f"Received: {line.get(key)!r}.")  # fmt: skip
    return number


def _sequences(
    folder: pathlib.Path, name: str, lines: Sequence[dict[str, str]], repairs: Repairs
) -> Rows:
    stacked = folder / f"{name}.npy"
    if stacked.is_file():
        array = npy.mapped(stacked)
        if array.ndim != 3 or array.dtype.kind not in "fiu" or 0 in array.shape[1:]:
            raise DataError(f"{stacked.name} must be a numeric array (N, steps, dim). "
                            f"Received: {mmsa.describe(array)}.")  # fmt: skip
        if len(array) != len(lines):
            raise DataError(f"{stacked.name} must have a row for each of {len(lines)} lines of "
                            f"{LABELS}. Received: {len(array)}.")  # fmt: skip
        return Rows(stacked.name, name, array, repairs, ragged=False)
    paths = [folder / name / line["video_id"] / f"{line['clip_id']}.npy" for line in lines]
    absent = [path for path in paths if not path.is_file()]
    if absent:
        raise FileNotFoundError(
            f"There must be {stacked}, or a file {name}/VIDEO/CLIP.npy for each line of {LABELS}. "
            f"Received: {len(absent)} missing, the first {absent[0]}"
        )
    columns = {npy.mapped(path).shape[1:] for path in paths}
    if len(columns) != 1 or len(next(iter(columns))) != 1:
        raise DataError(f"{name}/VIDEO/CLIP.npy must be (steps, dim), of one dim. Received: "
                        f"{sorted(columns)} after the steps.")  # fmt: skip
    return Rows(name, name, paths, repairs, ragged=True)


def _lengths(folder: pathlib.Path, name: str, rows: Rows) -> np.ndarray:
    path = folder / f"{name}_lengths.npy"
    if rows.ragged:
        return np.array([len(npy.mapped(item)) for item in rows.items], dtype=np.int32)
    array: Any = rows.items
    if not path.is_file():
        # Row by row: the whole array need not fit into memory.
        last = [mmsa.last_step(np.asarray(row)[None])[0] for row in array]
        return np.array(last, dtype=np.int32)
    lengths = npy.load(path)
    if lengths.shape != (len(rows),) or lengths.dtype.kind not in "iu":
        raise DataError(f"{path.name} must hold {len(rows)} whole numbers. Received: "
                        f"{mmsa.describe(lengths)}.")  # fmt: skip
    if lengths.min() < 0 or lengths.max() > array.shape[1]:
        raise DataError(f"{path.name} must lie in 0..{array.shape[1]}, the steps of {name}.npy. "
                        f"Received: {lengths.min()}..{lengths.max()}.")  # fmt: skip
    return lengths.astype(np.int32)


def _tokens(path: pathlib.Path, count: int) -> np.ndarray:
    array = npy.load(path)
    if array.ndim != 3 or array.shape[:2] != (count, 3) or array.dtype.kind not in "iu":
        raise DataError(f"{path.name} must be whole numbers ({count}, 3, steps). "
                        f"Received: {mmsa.describe(array)}.")  # fmt: skip
    if array.min() < 0 or array[:, 1].max() > 1:
        raise DataError(f"{path.name} must hold ids >= 0, a mask of 0 and 1, segments.")
    return array.astype(np.int32)
