"""Computational sequences (.csd) of the CMU-MultimodalSDK, cut into segments.

A .csd file is HDF5: in the one group there is, `data/{video}/features` (n, dim) and
`data/{video}/intervals` (n, 2), in seconds. A row of the labels' file is a segment; its name is
`video$_$row`. Each modality's sequence are the rows whose interval meets the segment's, or,
aligned, their mean over each word, as the SDK's `align` with an averaging function makes them.

Reference: CMU-MultiComp-Lab/CMU-MultimodalSDK, mmsdk/mmdatasdk/dataset/dataset.py.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import hdf5, mmsa
from ..limits import check_unfolded
from ..pickles import DataError
from ..sequences import Repairs, check_columns
from .folds import FOLDS

NAMES = {
    "text": r"WordVectors|glove",
    "audio": r"COVAREP|OpenSMILE",
    "vision": r"FACET|OpenFace",
    "labels": r"Labels",
    "words": r"TimestampedWords\.",
}
"""What a file's name must hold; `words`, the transcript, may be absent."""

EPSILON = 1e-5
"""Seconds below which intervals do not meet: the SDK's."""

PAUSE = b"sp"

Rows = tuple[np.ndarray, np.ndarray]
"""Intervals `(n, 2)` and features `(n, dim)` of a video."""


def find(names: Sequence[str]) -> dict[str, list[str]]:
    """Which of the file names could be which sequence."""
    return {
        kind: [name for name in names if re.search(pattern, name, re.IGNORECASE)]
        for kind, pattern in NAMES.items()
    }


def read(files: Mapping[str, Any], aligned: bool) -> dict[str, mmsa.Segments]:
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
    whole = set.intersection(*(set(sequences[name]) for name in mmsa.MODALITIES))
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
) -> mmsa.Segments:
    ids, raw_text, scores = [], [], []
    cut: dict[str, list[np.ndarray]] = {name: [] for name in mmsa.MODALITIES}
    for video in videos:
        for row, (interval, score) in enumerate(zip(*labels[video], strict=True)):
            ids.append(f"{video}$_${row}")
            scores.append(float(score[0]))
            spoken = _meeting(sequences["text"][video], interval)[0]
            for name in mmsa.MODALITIES:
                rows = sequences[name][video]
                cut[name].append(_by_word(rows, spoken) if aligned else _meeting(rows, interval)[1])
            words = sequences.get("words", {}).get(video)
            raw_text.append("" if words is None else _transcript(_meeting(words, interval)[1]))
    if not ids:
        raise DataError(
            f"The files must hold videos of the standard folds. Received: none of {split}. Names "
            "must be those of YouTube, such as '03bSnISJMiM'."
        )
    lengths = {
        f"{name}_length": np.array([len(rows) for rows in all_rows], dtype=np.int32)
        for name, all_rows in cut.items()
    }
    return mmsa.Segments(ids, raw_text, {**cut, **lengths}, np.array(scores, dtype=np.float32))


def _meeting(rows: Rows, interval: np.ndarray) -> Rows:
    """The rows that share more than a moment with the interval, their own intervals clipped."""
    times, features = rows
    start, stop = np.maximum(times[:, 0], interval[0]), np.minimum(times[:, 1], interval[1])
    inside = stop - start > EPSILON
    return np.column_stack([start, stop])[inside], features[inside]


def _by_word(rows: Rows, words: np.ndarray) -> np.ndarray:
    """Mean over each word's interval; 0 where nothing meets it."""
    means = np.zeros((len(words), rows[1].shape[1]), dtype=np.float32)
    for i, interval in enumerate(words):
        features = _meeting(rows, interval)[1]
        if len(features):
            means[i] = features.mean(axis=0)
    return means


def _transcript(words: np.ndarray) -> str:
    return " ".join(w.decode("utf-8", "replace") for w in words[:, 0] if w != PAUSE)


def _read(path: Any, kind: str, repairs: Repairs) -> dict[str, Rows]:
    """Video -> intervals and features."""
    with hdf5.opened(path) as file:
        roots = hdf5.names(file, path.name)
        if len(roots) != 1:
            raise DataError(
                f"{path.name} must hold one computational sequence. Received: {sorted(roots)}."
            )
        root = hdf5.member(file, roots[0], path.name)
        data = hdf5.member(root, "data", path.name)
        videos: dict[str, Rows] = {}
        unfolded = 0
        for video in hdf5.names(data, f"{path.name}: `data`"):  # two names may be of the same data
            videos[video] = _video(path.name, data, video, kind, repairs)
            unfolded += sum(part.nbytes for part in videos[video])
            check_unfolded(path.name, hdf5.stored_in(data), unfolded)
    check_columns(path.name, kind, [features for _, features in videos.values()])
    return videos


def _video(name: str, data: Any, video: str, kind: str, repairs: Repairs) -> Rows:
    place = f"{name}, {video}"
    group = hdf5.member(data, video, name)
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
    return intervals, features
