"""Own data as a folder: `label.csv` and arrays of features, without pickles.

    label.csv         video_id, clip_id, label, mode (train, valid, test); text, label_T, label_A,
                      label_V where there are such: MMSA's label files, one segment a line. See
                      `tables` for what else a table may look like
    audio.npy         (N, steps, dim), a row a line of label.csv; likewise vision.npy, text.npy
    audio/{video_id}/{clip_id}.npy     instead: (steps, dim), each segment with its own steps
    audio_lengths.npy                  (N,) true steps of audio.npy; optional, likewise the others
    text_bert.npy                      (N, 3, steps) tokens, mask, segments; optional. Or
                                       text_bert/{video_id}/{clip_id}.npy (3, steps)

A modality that is not there is one step of zeros, of length 0. Labels are classes where all are
written as whole numbers from 0 on, such as `2`, and scores otherwise, such as `2.0`. Features are
read from disk when they are written into the data set.

Reference: thuiar/MMSA-FET, src/MSA_FET/dataset.py (`label.csv`).
"""

import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import columns, files, formats, npy, tables
from .describing import describe
from .limits import DataError, Problems
from .segments import (
    MODALITIES,
    MODES,
    SPLITS,
    TEXT_BERT,
    UNIMODAL,
    Segments,
    absent_sequence,
    check_classes,
    check_disjoint,
    last_step,
    warn_absent,
)
from .sequences import Repairs

LABELS = "label.csv"
COLUMNS = ("video_id", "clip_id", "label", "mode")


class Rows(Sequence[np.ndarray]):
    """Rows of a stacked array or a list of files, read on access.

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
            place, item = f"{place}/{item.parent.name}/{item.name}", npy.load(item)
        return self.repairs.sequence(place, self.modality, np.asarray(item))


def read(folder: Any) -> dict[str, Segments]:
    """Reads all splits: features as `Rows`, other arrays in memory.

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
    place = formats.place(sources(folder)[0])
    modes = [line["mode"] for line in table]
    repairs, problems = Repairs(), Problems()
    labels, unimodal, features = np.zeros(0), {}, {}
    with problems.noted():
        labels = _labels(place, table)
    with problems.noted():
        unimodal = _unimodal(place, table)
    with problems.noted():
        features = _features(folder, table, repairs)
    for split in SPLITS:
        if split not in modes:
            problems.found.append(
                f"{place} must have at least one line of each mode. None: {split}."
            )
    problems.raise_any()
    splits = {}
    for split in SPLITS:
        rows = [row for row, mode in enumerate(modes) if mode == split]
        splits[split] = Segments(
            [table[row]["id"] for row in rows],
            [table[row].get("text") or "" for row in rows],
            {name: _rows_of(array, rows) for name, array in features.items()},
            labels[rows],
            {name: array[rows] for name, array in unimodal.items()},
        )
    check_classes(place, splits)
    check_disjoint(place, splits)
    return splits


def _rows_of(array: Any, rows: Sequence[int]) -> Any:
    if not isinstance(array, Rows):
        return array[rows]
    items = [array.items[row] for row in rows]
    return Rows(array.place, array.modality, items, array.repairs, array.ragged)


def _features(
    folder: pathlib.Path, table: Sequence[dict[str, str]], repairs: Repairs
) -> dict[str, Any]:
    """Sequences, tokens and lengths of all lines."""
    present = arrays_in(folder)
    if not present:
        raise FileNotFoundError(
            f"There must be {folder}/audio.npy (N, steps, dim), or a file audio/VIDEO/CLIP.npy for "
            f"each line of {LABELS}; likewise of vision and text, or of some of the three. "
            f"Received: {sorted(path.name for path in folder.iterdir())[:12]}"
        )
    problems = Problems()
    features: dict[str, Any] = {}
    with problems.noted():
        if TEXT_BERT in present:
            features[TEXT_BERT] = _tokens(folder, table)
    for name in MODALITIES:
        with problems.noted():
            if name in present:
                features[name] = _sequences(folder, name, table, repairs)
                features[f"{name}_length"] = _lengths(folder, name, features[name])
            elif name != "text" or TEXT_BERT not in present:
                features[name] = Rows(name, name, absent_sequence(len(table)), repairs, False)
                features[f"{name}_length"] = np.zeros(len(table), np.int32)
            elif TEXT_BERT in features:
                mask = features[TEXT_BERT][:, 1]
                features["text_length"] = mask.sum(axis=1, dtype=np.int32)
    problems.raise_any()
    stand_ins = {*MODALITIES} - {*present} - ({"text"} if TEXT_BERT in present else set())
    warn_absent(folder.name, stand_ins)
    return features


def arrays_in(folder: Any) -> list[str]:
    """The modalities, and `text_bert`, that a folder has as an array or a folder of arrays."""
    names = (*MODALITIES, TEXT_BERT)
    return [
        name
        for name in names
        if files.find(folder, f"{name}.npy").is_file() or files.find(folder, name).is_dir()
    ]


def sources(folder: Any) -> list[pathlib.Path]:
    """The files that are read, for their SHA-256.

    Raises:
        FileNotFoundError: There is no `label.csv`.
    """
    folder = pathlib.Path(folder)
    table = files.find(folder, LABELS)
    if not table.is_file():
        found = sorted(path.name for path in folder.iterdir())[:12] if folder.is_dir() else folder
        raise FileNotFoundError(
            f"A folder of own data must hold {LABELS}. Received: {folder}, with {found}"
        )
    arrays = (folder.glob("*"), folder.glob("*/*/*"))
    return [table, *(path for paths in arrays for path in files.with_ending(paths, (".npy",)))]


def lines(folder: Any) -> list[dict[str, str]]:
    """The lines of `label.csv`, with `id`, `number` (of the line) and `mode` brought to one word.

    Raises:
        FileNotFoundError: there is none.
        DataError: it is not as above; the message names the line.
    """
    path = sources(folder)[0]
    found = tables.read(path, ("video_id", "clip_id", "label", "mode|split"))
    seen: set[str] = set()
    problems = Problems()
    for line in found:
        with problems.noted():
            _check_line(f"{formats.place(path)}, line {line['number']}", line, seen)
    problems.raise_any()
    return found


def _check_line(place: str, line: dict[str, str], seen: set[str]) -> None:
    line["mode"] = line.get("mode") or line.get("split") or ""
    lacking = [name for name in COLUMNS if not line[name]]
    if lacking:
        raise DataError(
            f"{place}: must have a value in each of {COLUMNS}. Received: none in {lacking}. "
            "Leave out clips without a label."
        )
    if line["mode"].casefold() not in MODES:
        raise DataError(
            f"{place}: mode must be one of {sorted(MODES)}. Received: {line['mode']!r}."
        )
    line["mode"] = MODES[line["mode"].casefold()]
    line["id"] = f"{line['video_id']}$_${line['clip_id']}"
    if line["id"] in seen:
        raise DataError(f"{place}: {line['id']!r} must be there once.")
    if re.search(r"[/\\\0]", line["id"]) or ".." in (line["video_id"], line["clip_id"]):
        raise DataError(f"{place}: ids must be names of files. Received: {line['id']!r}.")
    seen.add(line["id"])


def _labels(place: str, lines: Sequence[dict[str, str]]) -> np.ndarray:
    if all(re.fullmatch(r"\d{1,4}", line["label"]) for line in lines):
        return np.array([int(line["label"]) for line in lines], dtype=np.int32)
    return np.array([_number(place, line, "label") for line in lines], dtype=np.float32)


def _unimodal(place: str, lines: Sequence[dict[str, str]]) -> dict[str, np.ndarray]:
    """Unimodal labels, NaN where a segment has none."""
    found = {}
    for name, letter in UNIMODAL.items():
        key = f"label_{letter}"
        rated = [line.get(key, "").casefold() not in ("", "nan", "na", "none") for line in lines]
        if any(rated):
            scores = [
                _number(place, line, key) if there else np.nan
                for line, there in zip(lines, rated, strict=True)
            ]
            found[name] = np.array(scores, dtype=np.float32)
    return found


def _number(place: str, line: dict[str, str], key: str) -> float:
    try:
        number = float(np.float32(line[key]))
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise DataError(
            f"{place}, line {line['number']}: {key} must be a finite number. Received: "
            f"{line[key]!r}. Number classes from 0 on; leave out clips without a label."
        )
    return number


def _sequences(
    folder: pathlib.Path, name: str, lines: Sequence[dict[str, str]], repairs: Repairs
) -> Rows:
    stacked = files.find(folder, f"{name}.npy")
    if stacked.is_file():
        array, place = npy.mapped(stacked), formats.place(stacked)
        if array.ndim != 3 or array.dtype.kind not in "fiu" or 0 in array.shape[1:]:
            raise DataError(
                f"{place} must be a numeric array (N, steps, dim). Received: {describe(array)}."
                f"{' One vector a segment is one step: `array[:, None]`.' * (array.ndim == 2)}"
            )
        if len(array) != len(lines):
            raise DataError(f"{place} must have a row for each of {len(lines)} lines of "
                            f"{LABELS}. Received: {len(array)}.")  # fmt: skip
        return Rows(place, name, array, repairs, ragged=False)
    paths = _clips(folder, name, lines)
    shapes = {npy.mapped(path).shape[1:] for path in paths}
    place = f"{folder.name}/{name}"
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise DataError(f"{place}/VIDEO/CLIP.npy must be (steps, dim), of one dim. Received: "
                        f"{sorted(shapes)} after the steps.")  # fmt: skip
    return Rows(place, name, paths, repairs, ragged=True)


def _clips(folder: pathlib.Path, name: str, lines: Sequence[dict[str, str]]) -> list[pathlib.Path]:
    """The file of a modality for each line."""
    place = files.find(folder, name)
    paths = [files.find(place / line["video_id"], f"{line['clip_id']}.npy") for line in lines]
    absent = [path for path in paths if not path.is_file()]
    if absent:
        raise FileNotFoundError(
            f"There must be {folder / name}.npy, or a file {name}/VIDEO/CLIP.npy for each line of "
            f"{LABELS}. Received: {len(absent)} missing, the first {absent[0]}"
        )
    return paths


def _lengths(folder: pathlib.Path, name: str, rows: Rows) -> np.ndarray:
    path = files.find(folder, f"{name}_lengths.npy")
    if rows.ragged:
        return np.array([len(npy.mapped(item)) for item in rows.items], dtype=np.int32)
    array: Any = rows.items
    if not path.is_file():
        # Row by row: the whole array need not fit into memory.
        last = [last_step(np.asarray(row)[None])[0] for row in array]
        return np.array(last, dtype=np.int32)
    place, lengths = formats.place(path), npy.load(path)
    if lengths.shape != (len(rows),) or lengths.dtype.kind not in "iu":
        raise DataError(f"{place} must hold {len(rows)} whole numbers. Received: "
                        f"{describe(lengths)}.")  # fmt: skip
    if lengths.min() < 0 or lengths.max() > array.shape[1]:
        raise DataError(f"{place} must lie in 0..{array.shape[1]}, the steps of {name}.npy. "
                        f"Received: {lengths.min()}..{lengths.max()}.")  # fmt: skip
    return lengths.astype(np.int32)


def _tokens(folder: pathlib.Path, lines: Sequence[dict[str, str]]) -> np.ndarray:
    path = files.find(folder, f"{TEXT_BERT}.npy")
    if path.is_file():
        array, place = npy.load(path), formats.place(path)
    else:
        place = f"{folder.name}/{TEXT_BERT}/VIDEO/CLIP.npy"
        arrays = [npy.load(path) for path in _clips(folder, TEXT_BERT, lines)]
        shapes = sorted({array.shape for array in arrays})
        if len(shapes) > 1:
            raise DataError(f"{place} must be (3, steps), of one shape. Received: {shapes}.")
        array = np.stack(arrays)
    if array.ndim != 3 or array.shape[:2] != (len(lines), 3) or array.dtype.kind not in "iu":
        raise DataError(f"{place} must be whole numbers ({len(lines)}, 3, steps). "
                        f"Received: {describe(array)}.")  # fmt: skip
    if not array.size or array.min() < 0 or array[:, 1].max() > 1:
        raise DataError(f"{place} must hold ids >= 0, a mask of 0 and 1, segments.")
    return columns.integers(place, TEXT_BERT, array, ())
