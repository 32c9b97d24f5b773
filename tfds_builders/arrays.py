"""A user's own data of any modalities, such as sensors: arrays with splits.

Content is a dict of `train`, `valid` (`val`, `dev`), `test`, each a dict of

    NAME          (N, steps, dim) or (N, dim)   a modality: sequences, or a vector for each example;
                                                numbers, NaN where nothing was measured
    NAME_length   (N,)   true steps of sequences that are padded; optional
    label         (N,)   whole numbers or strings are classes, other numbers are scores
    id            (N,)   names; optional

In a .npz file the keys are `train/NAME` and so on. NaN is kept. Infinite values are replaced by NaN
and counted in a warning. Columns `(N,)` of other names are not read.
"""

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import columns, npy
from .describing import describe
from .labels import LABEL, TO_PREDICT, are_in, classified
from .limits import DataError, Problems
from .segments import (
    MODALITIES,
    REGRESSION,
    SPLITS,
    TEXT_BERT,
    UNIMODAL,
    Segments,
    check_together,
    split_names,
)

ID = "id"
LENGTHS = ("_length", "_lengths")
"""Suffixes of the keys of true steps."""

MMSA_LABELS = (
    "regression_labels",
    "classification_labels",
    "labels",
    *(f"regression_labels_{letter}" for letter in UNIMODAL.values()),
)
"""Keys of labels in the schemas of MMSA and MulT."""

RESERVED = (TEXT_BERT, "raw_text", "index", "draws", "complement", "missing_index", LABEL, ID)
"""Entries of a batch or a file that are not modalities."""


def recognises(splits: Mapping[str, Any]) -> bool:
    """Whether content has this schema, rather than that of MMSA or MulT.

    Args:
        splits: Split -> its content.
    """
    named = [one for one in splits.values() if isinstance(one, Mapping)]
    keys = {key for one in named for key in one if isinstance(key, str)}
    if keys.intersection(MMSA_LABELS):
        return False
    if LABEL in keys:
        return True
    if keys & {*MODALITIES, TEXT_BERT}:
        return False
    return any(is_modality(key, array) for one in named for key, array in one.items())


def check(place: str, content: Mapping[str, Any]) -> dict[str, Segments]:
    """Reads and checks all splits.

    Args:
        place: Name of the source, for messages.
        content: As above; arrays are removed from it as they are read.

    Returns:
        Dict with `train`, `valid`, `test`.

    Raises:
        DataError: The content violates the schema; the message names split and key.
    """
    names = split_names(content)
    lacking = [split for split in SPLITS if split not in names]
    if lacking:
        labelled = any(are_in(content[name]) for name in names.values())
        raise DataError(
            f"{place} must have the splits {SPLITS}. Missing: {lacking}. Received: "
            f"{sorted(map(str, content))}. Save one split each for training, selection and test."
            + ("" if labelled else f" {TO_PREDICT}")
        )
    raw = {split: content[names[split]] for split in SPLITS}
    modalities = _modalities(place, raw)
    unread = _unread(raw, modalities)
    problems = Problems()
    parts: dict[str, dict[str, Any]] = {}
    for split, one in raw.items():
        parts[split] = _split(f"{place}, {split}", split, one, modalities, problems)
    labels: dict[str, np.ndarray] = {}
    classes: tuple[str, ...] = ()
    with problems.noted():
        labels, classes = classified(
            place, {split: (one.get(LABEL), part[ID]) for (split, one), part
                    in zip(raw.items(), parts.values(), strict=True)}
        )  # fmt: skip
    problems.raise_any()
    _say_unread(place, unread)
    splits = {
        split: Segments(part.pop(ID), [], part, labels[split], scores=REGRESSION, classes=classes)
        for split, part in parts.items()
    }
    check_together(place, splits)
    return splits


def modalities(held: Mapping[Any, Any]) -> list[str]:
    """Names of the modalities in one split, or in data without splits."""
    return sorted(key for key, array in held.items() if is_modality(key, array))


def is_modality(key: Any, array: Any, least: int = 2) -> bool:
    """Whether an entry is a modality, with at least `least` axes."""
    return (
        isinstance(key, str)
        and key not in RESERVED
        and isinstance(array, np.ndarray)
        and array.ndim >= least
        and array.dtype.kind in "fiub"
    )


def _modalities(place: str, raw: Mapping[str, Any]) -> list[str]:
    """Names of the modalities, which must be the same in all splits.

    Raises:
        DataError: There are none, a split lacks one, or a name is invalid.
    """
    problems = Problems()
    held: dict[str, set[str]] = {}
    for split, one in raw.items():
        if not isinstance(one, Mapping):
            problems.found.append(
                f"{place}, {split}: a split must be a dict of arrays. Received: {describe(one)}."
            )
            continue
        held[split] = set(modalities(one))
        strange = {key for key in RESERVED[:-2] if getattr(one.get(key), "ndim", 0) >= 2}
        for key in sorted(held[split] | strange):
            with problems.noted():
                check_name(f"{place}, {split}", key)
    problems.raise_any()
    names = sorted(set.union(*held.values()))
    for split, found in held.items():
        if not names or found != set(names):
            arrived = {str(key): describe(array) for key, array in raw[split].items()}
            problems.found.append(
                f"{place}, {split}: all splits must hold the same modalities, arrays "
                f"(N, steps, dim) or (N, dim), at least one. "
                f"Missing: {sorted(set(names) - found) or 'all'}. Received: {arrived}."
            )
    problems.raise_any()
    return names


def check_name(place: str, name: str) -> None:
    """Checks that a modality's name is valid as a key of a batch and as the name of an `Input`.

    Raises:
        DataError: It is not.
    """
    taken = name in RESERVED or name.endswith((*LENGTHS, "_present")) or name.startswith("label_")
    if not name.isidentifier() or taken:
        raise DataError(
            f"{place}: a modality's name must be of letters, digits and underscores, not one of "
            f"{RESERVED}, and not begin with label_ or end with _length or _present. Received: "
            f"{name!r}. Give it another name."
        )


def _split(
    place: str, split: str, raw: dict[str, Any], modalities: list[str], problems: Problems
) -> dict[str, Any]:
    """Reads features and `id` of a split; adds errors to `problems`."""
    rows = len(raw[modalities[0]])
    part: dict[str, Any] = {ID: [f"{split}$_${row}" for row in range(rows)]}
    with problems.noted():
        counts = {key: len(raw[key]) for key in modalities}
        if len(set(counts.values())) > 1 or rows == 0:
            raise DataError(
                f"{place}: all keys must hold the same number of examples, at least 1. "
                f"Received: {counts}."
            )
        if raw.get(ID) is not None:
            part[ID] = ids(place, raw[ID], rows)
    for name in modalities:
        with problems.noted():
            part[name] = numbers(place, name, raw.pop(name))
            part[name], true = padded(place, name, raw, part[name], part[ID])
            if true is not None:
                part[f"{name}_length"] = true
    return part


def ids(place: str, values: Any, rows: int) -> list[str]:
    """Checks the names of examples.

    Raises:
        DataError: They are not `rows` names, or not unique.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        values = values.astype(str)
    found = columns.strings(place, ID, values)
    if len(found) != rows or not all(found):
        raise DataError(
            f"{place}: `{ID}` must name each of {rows} examples. Received: {len(found)} names, "
            f"{found.count('')} of them empty."
        )
    if len(set(found)) < rows:
        twice = Counter(found).most_common(1)[0][0]
        raise DataError(f"{place}: ids must be unique. Received: {twice!r} twice.")
    return found


def numbers(place: str, name: str, array: np.ndarray) -> np.ndarray:
    """Converts a modality to float32; keeps NaN, replaces infinite values by NaN with a warning.

    Raises:
        DataError: The array has another rank, or no values.
    """
    if array.ndim not in (2, 3) or 0 in array.shape[1:]:
        raise DataError(
            f"{place}: `{name}` must be (N, steps, dim) or (N, dim), with at least one value each. "
            f"Received: {describe(array)}."
        )
    with np.errstate(over="ignore"):
        found = array.astype(np.float32, copy=npy.is_mapped(array))
    infinite = np.isinf(found)
    if infinite.any():
        warnings.warn(
            f"{place}: {int(infinite.sum())} values of `{name}` were infinite and became NaN, "
            "which is a value that was not measured.",
            stacklevel=2,
        )
        found = np.where(infinite, np.float32(np.nan), found)
    return found


def padded(
    place: str, name: str, raw: Mapping[str, Any], sequences: np.ndarray, names: list[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Sets padding to 0, since it is not missing data.

    Args:
        place: Name of the source, for messages.
        name: Name of the modality.
        raw: All entries of the split.
        sequences: The modality, `(N, steps, dim)`.
        names: Ids of the examples.

    Returns:
        The sequences, and true steps int32 `(N,)`, `None` where they are not given.

    Raises:
        DataError: The lengths are invalid, or the modality holds vectors.
    """
    key = next((name + end for end in LENGTHS if raw.get(name + end) is not None), None)
    if key is None:
        return sequences, None
    values = raw[key]
    if sequences.ndim != 3:
        raise DataError(f"{place}: `{key}` must belong to sequences (N, steps, dim). Received: "
                        f"vectors {sequences.shape}. Leave it out.")  # fmt: skip
    rows, steps = sequences.shape[:2]
    true = columns.numbers(place, key, values)
    if len(true) != rows:
        raise DataError(f"{place}: `{key}` must hold {rows} numbers. Received: {len(true)}.")
    true = columns.lengths(place, key, true, steps, names)
    behind = np.arange(steps) >= true[:, None]
    return np.where(behind[..., None], np.float32(0), sequences), true


def _unread(raw: Mapping[str, Any], modalities: list[str]) -> list[str]:
    known = {*modalities, LABEL, ID, *(name + end for name in modalities for end in LENGTHS)}
    return sorted({str(key) for one in raw.values() for key in one} - known)


def _say_unread(place: str, others: list[str]) -> None:
    if others:
        warnings.warn(
            f"{place}: {', '.join(f'`{key}`' for key in others[:12])} "
            f"{'is' if len(others) == 1 else 'are'} no modality and not read. A column of numbers "
            "is one as an array (N, 1).",
            stacklevel=3,
        )
