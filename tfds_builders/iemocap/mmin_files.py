"""The files that MMIN's authors share of IEMOCAP: features by utterance, labels by fold.

    A/comparE.h5            utterance -> (steps, 130), low-level descriptors averaged over 10 frames
    A/comparE_mean_std.h5   fold -> mean, std (130,) of its training data; optional
    V/denseface.h5          utterance -> (steps, 342)
    L/bert_large.h5         utterance -> (tokens, 1024)
    target/{fold}/{trn,val,tst}_int2name.npy   (N, 1) names of utterances, bytes
    target/{fold}/{trn,val,tst}_label.npy      (N, 4) one-hot

Reference: AIM3-RUC/MMIN 69a45fe, data/multimodal_dataset.py.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import hdf5, npy
from ..limits import DataError, Problems, check_unfolded

FEATURES = {"audio": "A/comparE.h5", "vision": "V/denseface.h5", "text": "L/bert_large.h5"}
MEAN_STD = "A/comparE_mean_std.h5"
SPLITS = {"train": "trn", "valid": "val", "test": "tst"}
CLASSES = 4


@dataclasses.dataclass(frozen=True)
class Target:
    """Names and classes `0 .. 3` of a split's utterances, in the order of the file."""

    ids: list[str]
    labels: list[int]


def target(folder: Any, fold: int, split: str) -> Target:
    """A split of a fold.

    Raises:
        FileNotFoundError: A file is absent.
        DataError: the files are not as above.
    """
    start = folder / "target" / str(fold)
    names_at = start / f"{SPLITS[split]}_int2name.npy"
    labels_at = start / f"{SPLITS[split]}_label.npy"
    names, labels = npy.load(names_at), npy.load(labels_at)
    place = f"target/{fold}/{names_at.name}"
    if names.dtype.kind not in "SU" or names.size != len(names) or not len(names):
        raise DataError(
            f"{place} must hold one name a row, at least one. Received: "
            f"{names.dtype} {names.shape}."
        )
    flat = names.reshape(-1).tolist()
    ids = [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in flat]
    if len(set(ids)) < len(ids):
        raise DataError(f"{place} must name each utterance once.")
    if labels.shape != (len(ids), CLASSES):
        raise DataError(
            f"target/{fold}/{labels_at.name} must be of shape ({len(ids)}, {CLASSES}), a row for "
            f"each name. Received: {labels.shape}."
        )
    if labels.dtype.kind not in "fiub" or not (
        np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()
    ):
        raise DataError(f"target/{fold}/{labels_at.name} must be one-hot: a single 1 a row.")
    return Target(ids, labels.argmax(axis=1).tolist())


def check_targets(fold: int, targets: Mapping[str, Target]) -> None:
    """Checks that no utterance is in two splits."""
    for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
        shared = sorted(set(targets[first].ids) & set(targets[second].ids))
        if shared:
            raise DataError(
                f"target/{fold}: splits must share no utterance. Received: {len(shared)} in both "
                f"{first} and {second}, {shared[0]!r} for one."
            )


def check_features(
    files: Mapping[str, Any], columns: Mapping[str, int], ids: Sequence[str]
) -> dict[str, int]:
    """Checks the shape of every utterance, without reading its values.

    Args:
        files: Modality -> open HDF5 file.
        columns: Modality -> features a step.
        ids: All utterances of a fold.

    Returns:
        Modality -> the most steps there are.

    Raises:
        DataError: an utterance is absent or not of its shape.
    """
    longest = dict.fromkeys(files, 0)
    problems = Problems()
    for name, file in files.items():
        unfolded = 0
        for utterance in ids:
            with problems.noted():
                found = hdf5.member(file, utterance, FEATURES[name])
                shape = getattr(found, "shape", None)
                if shape is None or len(shape) != 2 or shape[1] != columns[name]:
                    raise DataError(
                        f"{FEATURES[name]}, `{utterance}` must be of shape (steps, "
                        f"{columns[name]}). Received: {shape}."
                    )
                longest[name] = max(longest[name], shape[0])
                unfolded += 4 * shape[0] * shape[1]  # two names may be of the same data
        check_unfolded(FEATURES[name], hdf5.stored_in(file), unfolded)
    problems.raise_any()
    return longest


def mean_std(folder: Any, fold: int, audio: Any, train_ids: Sequence[str], columns: int) -> Any:
    """Mean and standard deviation `(columns,)` of audio over a fold's training data.

    From `MEAN_STD` where it is there, else computed. A deviation of 0 counts as 1.

    Raises:
        DataError: the file is not as above.
    """
    path = folder / MEAN_STD
    if path.is_file():
        with hdf5.opened(path) as file:
            group = hdf5.member(file, str(fold), MEAN_STD)
            place = f"{MEAN_STD}, {fold}"
            mean, std = (hdf5.array(group, name, place).reshape(-1) for name in ("mean", "std"))
    else:
        count, total, squares = 0, np.zeros(columns), np.zeros(columns)
        for utterance in train_ids:
            rows = hdf5.array(audio, utterance, FEATURES["audio"], columns).astype(np.float64)
            count += len(rows)
            total += rows.sum(axis=0)
            squares += (rows**2).sum(axis=0)
        mean = total / max(count, 1)
        std = np.sqrt(np.maximum(squares / max(count, 1) - mean**2, 0))
    if mean.shape != (columns,) or std.shape != (columns,) or not np.isfinite([mean, std]).all():
        raise DataError(
            f"{MEAN_STD}, {fold}: `mean` and `std` must be {columns} finite numbers. Received: "
            f"shapes {mean.shape} and {std.shape}."
        )
    return mean.astype(np.float32), np.where(std == 0, 1, std).astype(np.float32)
