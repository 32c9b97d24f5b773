"""Computational sequences (.csd) of the CMU-MultimodalSDK, cut into segments.

A .csd file is HDF5: in the one group there is, `data/{video}/features` (n, dim) and
`data/{video}/intervals` (n, 2), in seconds. A row of the labels' file is a segment; its name is
`video$_$row`. Each modality's sequence are the rows whose interval meets the segment's, or,
aligned, their mean over each word, as the SDK's `align` with an averaging function makes them.

Files that the SDK's `align` and `deploy` have written have entries `{video}[{row}]` instead, a word
or a segment each: a video's entries are taken together, which gives the same sequences.

Reference: CMU-MultiComp-Lab/CMU-MultimodalSDK, mmsdk/mmdatasdk/dataset/dataset.py.
"""

import pathlib
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import formats, hdf5
from ..limits import DataError, Problems, check_unfolded
from ..segments import MODALITIES, Segments
from ..sequences import Repairs, check_columns
from .folds import FOLDS

NAMES = {
    "text": r"WordVectors|glove|language",
    "audio": r"COA?VAREP|OpenSMILE|acoustic",
    "vision": r"FACET|OpenFace|visual",
    "labels": r"Labels|opinion",
    "words": r"TimestampedWords\.|^words\.",
}
"""Sequence -> parts of its file's name; `words`, the transcript, is optional."""

EPSILON = 1e-5
"""Smallest overlap of intervals in seconds, as in the SDK."""

PAUSE = b"sp"

ENTRY = re.compile(r"(.+)\[(\d+)\]")
"""Names of a video's words or segments after the SDK's alignment."""


class Rows(NamedTuple):
    """The intervals and features of a video.

    Attributes:
        times: `(n, 2)`, start and stop in seconds.
        features: `(n, dim)`.
        names: `n` numbers, by which the labels' rows are called.
    """

    times: np.ndarray
    features: np.ndarray
    names: Sequence[int] = ()


def find(folder: Any) -> dict[str, list[pathlib.Path]]:
    """Sequence -> files of a folder whose names fit it, .csd or HDF5."""
    folder = pathlib.Path(folder)
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in found if path.is_file() and _may_be_sequence(path)]
    return {
        kind: [path for path in found if re.search(pattern, path.name, re.IGNORECASE)]
        for kind, pattern in NAMES.items()
    }


def _may_be_sequence(path: pathlib.Path) -> bool:
    return path.suffix.lower() == ".csd" or formats.sniff(path).name == formats.HDF5


def read(files: Mapping[str, Any], aligned: bool) -> dict[str, Segments]:
    """All splits, on the standard folds.

    Args:
        files: A path for each of `NAMES`; `words` may be absent.
        aligned: Whether every modality has one step a word.

    Returns:
        Dict with `train`, `valid`, `test`; sequences have each its own steps. Values that are not
        finite become 0 and are counted in a warning: COVAREP has such.

    Raises:
        DataError: a file is not as above; the message names file and video.
    """
    repairs = Repairs()
    sequences = {kind: _read(path, kind, repairs) for kind, path in files.items()}
    if repairs.counts:
        warnings.warn(f"{repairs.text()} were not finite and became 0.", stacklevel=4)
    labels = sequences.pop("labels")
    whole = set.intersection(*(set(sequences[name]) for name in MODALITIES))
    lacking = sorted(set(labels) - whole)
    if lacking:
        warnings.warn(
            f"{len(lacking)} videos have labels but lack a modality and are left out: "
            f"{lacking[:5]}.",
            stacklevel=4,
        )
    return {
        split: _split(split, sorted(videos & whole & set(labels)), labels, sequences, aligned)
        for split, videos in FOLDS.items()
    }


def _split(
    split: str,
    videos: Sequence[str],
    labels: Mapping[str, Rows],
    sequences: Mapping[str, Mapping[str, Rows]],
    aligned: bool,
) -> Segments:
    ids, raw_text, scores = [], [], []
    cut: dict[str, list[np.ndarray]] = {name: [] for name in MODALITIES}
    for video in videos:
        for interval, score, row in zip(*labels[video], strict=True):
            ids.append(f"{video}$_${row}")
            scores.append(float(score[0]))
            spoken = _meeting(sequences["text"][video], interval).times
            for name in MODALITIES:
                rows = sequences[name][video]
                met = _by_word(rows, spoken) if aligned else _meeting(rows, interval).features
                cut[name].append(met)
            words = sequences.get("words", {}).get(video)
            raw_text.append("" if words is None else _transcript(_meeting(words, interval)))
    if not ids:
        raise DataError(
            f"The files must hold videos of the standard folds. Received: none of {split}. Names "
            "must be those of YouTube, such as '03bSnISJMiM'."
        )
    lengths = {
        f"{name}_length": np.array([len(rows) for rows in all_rows], dtype=np.int32)
        for name, all_rows in cut.items()
    }
    return Segments(ids, raw_text, {**cut, **lengths}, np.array(scores, dtype=np.float32))


def _meeting(rows: Rows, interval: np.ndarray) -> Rows:
    """The rows that overlap an interval by more than `EPSILON`, clipped to it."""
    times, features = rows[:2]
    start, stop = np.maximum(times[:, 0], interval[0]), np.minimum(times[:, 1], interval[1])
    inside = stop - start > EPSILON
    return Rows(np.column_stack([start, stop])[inside], features[inside])


def _by_word(rows: Rows, words: np.ndarray) -> np.ndarray:
    """Mean over each word's interval; 0 if nothing overlaps it."""
    means = np.zeros((len(words), rows.features.shape[1]), dtype=np.float32)
    for i, interval in enumerate(words):
        features = _meeting(rows, interval).features
        if len(features):
            means[i] = features.mean(axis=0)
    return means


def _transcript(words: Rows) -> str:
    return " ".join(w.decode("utf-8", "replace") for w in words.features[:, 0] if w != PAUSE)


def is_sequence(file: Any, place: str) -> bool:
    """Whether an open HDF5 file holds a computational sequence."""
    roots = hdf5.names(file, place)
    if len(roots) != 1:
        return False
    root = hdf5.member(file, roots[0], place)
    return hasattr(root, "keys") and "data" in hdf5.names(root, place)


def _read(path: Any, kind: str, repairs: Repairs) -> dict[str, Rows]:
    """Video -> intervals and features."""
    place = formats.place(path)
    with hdf5.opened(path) as file:
        roots = hdf5.names(file, place)
        if len(roots) != 1:
            raise DataError(
                f"{place} must hold one computational sequence. Received: {sorted(roots)}."
            )
        root = hdf5.member(file, roots[0], place)
        data = hdf5.member(root, "data", place)
        entries: dict[str, Rows] = {}
        unfolded = 0
        problems = Problems()
        for name in hdf5.names(data, f"{place}: `data`"):  # two names may be of the same data
            with problems.noted():
                entries[name] = _entry(place, data, name, kind, repairs)
                unfolded += sum(part.nbytes for part in entries[name][:2])
            check_unfolded(place, hdf5.stored_in(data), unfolded)
        problems.raise_any()
    check_columns(place, kind, [rows.features for rows in entries.values()])
    return _by_video(entries)


def _by_video(entries: Mapping[str, Rows]) -> dict[str, Rows]:
    """The entries of each video one after the other, in the order of their numbers."""
    parts: dict[str, list[tuple[int, Rows]]] = {}
    for name, rows in entries.items():
        found = ENTRY.fullmatch(name)
        video, number = (found[1], int(found[2])) if found else (name, 0)
        parts.setdefault(video, []).append((number, rows))
    videos = {}
    for video, several in parts.items():
        several.sort(key=lambda part: part[0])
        names = [number + row for number, rows in several for row in range(len(rows.times))]
        times = np.concatenate([rows.times for _, rows in several])
        videos[video] = Rows(times, np.concatenate([rows.features for _, rows in several]), names)
    return videos


def _entry(file: str, data: Any, name: str, kind: str, repairs: Repairs) -> Rows:
    place = f"{file}, {name}"
    group = hdf5.member(data, name, file)
    intervals = hdf5.array(group, "intervals", place, columns=2).astype(np.float64)
    features = hdf5.array(group, "features", place)
    if kind == "words":
        if features.dtype.kind != "S" or features.ndim != 2:
            raise DataError(f"{place}: words must be byte strings (n, 1).")
    else:
        features = repairs.sequence(place, kind, features, mend_all=kind != "labels")
    if len(features) != len(intervals):
        raise DataError(
            f"{place}: must have one interval a row. Received: {len(intervals)} intervals, "
            f"{len(features)} rows."
        )
    if not np.isfinite(intervals).all() or (intervals[:, 0] > intervals[:, 1]).any():
        raise DataError(f"{place}: intervals must be (start, stop) in seconds, start first.")
    return Rows(intervals, features)
