"""Reads and checks feature files in the schema of MMSA and Self-MM.

A file is a dict of `train`, `valid` (`val`, `dev`), `test`, each a dict of

    text               (N, steps, dim)   word or token features
    audio, vision      (N, steps, dim)
    text_bert          (N, 3, steps)     BERT token ids, mask, segments; optional
    regression_labels  (N,)              or, where there are none, classification_labels
    id                 N strings         `video$_$clip`
    raw_text           N strings         optional
    audio_lengths, vision_lengths, text_lengths   N true step counts, optional
    regression_labels_T, _A, _V   (N,)  labels of each modality alone, optional (CH-SIMS)

A modality that no split has is one step of zeros, of length 0. Other keys are left unread. The same
in a .npz file has keys such as `train/text`; without pickles, it is the safer form.

MulT's files, with `labels` and `id` of their own, are read too (`mult`).

Reference: thuiar/MMSA, README.md ("features") and src/MMSA/data_loader.py.
"""

import os
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import columns, content, formats, mult, npy
from .describing import describe
from .labels import TO_PREDICT, are_in, nowhere
from .limits import DataError, Problems
from .segments import (
    MODALITIES,
    SPLITS,
    TEXT_BERT,
    UNIMODAL,
    Segments,
    absent_sequence,
    check_together,
    last_step,
    split_names,
    warn_absent,
)

NAMED_OTHERWISE = {
    "audio": ("acoustic", "speech", "sound", "covarep"),
    "vision": ("visual", "video", "facet", "image"),
    "text": ("language", "words", "glove", "bert"),
}
"""Other names of features; a file with one of them does not lack the modality."""


def read(path: str | os.PathLike[str]) -> dict[str, Segments]:
    """All splits of an MMSA feature file, checked.

    -inf in audio becomes 0, as MMSA does, and is counted in a warning. Where the file gives no
    lengths, text has as many steps as its BERT mask (without one: up to the last step that is not
    all zero), and so have audio and vision aligned with it; unaligned ones reach up to the last
    step that is not all zero.

    Args:
        path: A pickle, or a .npz file.

    Returns:
        Dict with `train`, `valid`, `test`.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: the file breaks the schema; the message names split, key and row.
    """
    path = pathlib.Path(path)
    return check(formats.place(path), content.load(path))


def check(name: str, content: Any) -> dict[str, Segments]:
    """As `read`, of content that has been loaded; its dicts are empty afterwards.

    Args:
        name: What to call it in messages.
        content: As a file holds it.
    """
    raw = _raw_splits(name, content)
    problems = Problems()
    if not any(map(are_in, raw.values())):
        problems.found.append(nowhere(name, "`regression_labels` or `classification_labels`", raw))
    with problems.noted():
        present = _present(name, raw)
    problems.raise_any()
    readers = {
        split: _Reader(f"{name}, {split}", raw[split], present, problems) for split in SPLITS
    }
    splits = {split: read for split, reader in readers.items() if (read := reader.read())}
    problems.raise_any()
    _drop_unrated(splits)
    check_together(name, splits)
    warn_absent(name, {*MODALITIES} - present - ({"text"} if TEXT_BERT in present else set()))
    return splits


def _raw_splits(name: str, content: Any) -> dict[str, dict[str, Any]]:
    """Moves each split's entries to a dict of its own, under the names used in this package."""
    found = split_names(content) if isinstance(content, dict) else {}
    lacking = [split for split in SPLITS if split not in found]
    labelled = any(are_in(content[key]) for key in found.values())
    if lacking:
        raise DataError(
            f"{name} must be a dict with the splits {SPLITS}. Missing: {lacking}. Received: "
            f"{describe(content)}. Save one split each for training, selection and test."
            + (f" {TO_PREDICT}" if found and not labelled else "")
        )
    problems = Problems()
    taken: dict[str, dict[str, Any]] = {}
    for split, key in found.items():
        value = content.pop(key)
        with problems.noted():
            if not isinstance(value, dict):
                raise DataError(f"{name}, {split}: a split must be a dict of arrays. "
                                f"Received: {describe(value)}.")  # fmt: skip
            taken[split] = dict(value)
            value.clear()
            if mult.recognises(taken[split]):
                taken[split] = mult.renamed(taken[split])
    problems.raise_any()
    return taken


def _present(name: str, raw: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The modalities of the file, including `TEXT_BERT`.

    Raises:
        DataError: There is none, one is absent from some splits only, or has another name.
    """
    keys = (*MODALITIES, TEXT_BERT)
    held = {split: {key for key in keys if one.get(key) is not None} for split, one in raw.items()}
    present = set.union(*held.values())
    problems = Problems()
    for split, one in raw.items():
        needed = {"id"} | (present - {TEXT_BERT})
        lacking = sorted(needed - held[split] - {key for key in one if one[key] is not None})
        arrived = f"Received: {sorted(map(str, one))}."
        if not present:
            lacking.append(f"one of {keys}")
        for modality in set(MODALITIES) - present:
            strange = next(
                (key for key in NAMED_OTHERWISE[modality] if getattr(one.get(key), "ndim", 0) == 3),
                None,
            )
            if strange:
                lacking.append(modality)
                arrived += f" If `{strange}` is `{modality}`, call it so."
        if lacking:
            problems.found.append(
                f"{name}, {split}: keys {sorted(needed)} must be there. Missing: {lacking}. "
                f"{arrived}"
            )
    problems.raise_any()
    return present


class _Reader:
    """Reads one split; arrays are removed from the raw dict when done, to free memory."""

    def __init__(
        self, place: str, raw: dict[str, Any], present: set[str], problems: Problems
    ) -> None:
        self.place, self.raw, self.present, self.problems = place, raw, present, problems
        self.ids: list[str] = []

    def read(self) -> Segments | None:
        """Reads each key separately and returns the split, or adds all errors to `problems`."""
        before = len(self.problems.found)
        with self.problems.noted():
            self.ids = self._ids()
        if not self.ids:
            return None
        features: dict[str, Any] = {}
        labels, unimodal = np.zeros(0), {}
        raw_text = [""] * len(self.ids)
        with self.problems.noted():
            labels = self._labels()
        for name in MODALITIES:
            with self.problems.noted():
                if name in self.present:
                    features[name] = self._features(name)
                elif name != "text" or TEXT_BERT not in self.present:
                    features[name] = absent_sequence(len(self.ids))
        with self.problems.noted():
            if self.raw.get(TEXT_BERT) is not None:
                features[TEXT_BERT] = self._text_bert()
        features |= self._lengths(features)
        with self.problems.noted():
            if self.raw.get("raw_text") is not None:
                raw_text = columns.transcripts(self.place, "raw_text", self.raw.pop("raw_text"))
                self._check_rows("raw_text", len(raw_text))
        with self.problems.noted():
            unimodal = self._unimodal()
        if len(self.problems.found) > before:
            return None
        return Segments(self.ids, raw_text, features, labels, unimodal)

    def _ids(self) -> list[str]:
        ids = columns.strings(self.place, "id", self.raw.pop("id"))
        if not ids:
            raise DataError(f"{self.place}: a split must hold at least one segment. Received: 0.")
        if len(set(ids)) < len(ids):
            twice = next(name for i, name in enumerate(ids) if name in ids[:i])
            more = len(ids) - len(set(ids)) - 1
            raise DataError(
                f"{self.place}: ids must be unique. Received: {twice!r} twice"
                + (f", and {more} more that came before." if more else ".")
            )
        return ids

    def _features(self, key: str) -> np.ndarray:
        array = self._array(key, "(N, steps, dim)")
        with np.errstate(over="ignore"):
            array = array.astype(np.float32, copy=npy.is_mapped(array))
        if array.shape[1] < 1 or array.shape[2] < 1:
            raise DataError(f"{self.place}: `{key}` must have steps and dim >= 1. Received: "
                            f"shape {array.shape}.")  # fmt: skip
        if np.isfinite(array).all():
            return array
        if key == "audio" and (silent := np.isneginf(array)).any():
            count = int(silent.sum())
            warnings.warn(f"{self.place}: {count} values of `audio` were -inf and became 0.",
                          stacklevel=2)  # fmt: skip
            array = np.where(silent, np.float32(0), array)
        return columns.finite(self.place, key, array, self.ids)

    def _text_bert(self) -> np.ndarray:
        array = self._array(TEXT_BERT, "(N, 3, steps)")
        array = columns.integers(self.place, TEXT_BERT, array, self.ids)
        mask = array[:, 1] if array.shape[1] == 3 and array.size else None
        if mask is None or array.min() < 0 or mask.max() > 1:
            raise DataError(
                f"{self.place}: `{TEXT_BERT}` must be (N, 3, steps): token ids >= 0, mask of 0 and "
                f"1, segments. Received: {describe(array)}"
                + (f", values {array.min()}..{array.max()}." if array.size else ".")
            )
        return array

    def _array(self, key: str, form: str) -> np.ndarray:
        array = self.raw.pop(key)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or array.ndim != 3:
            raise DataError(
                f"{self.place}: `{key}` must be one numeric array {form}. "
                f"Received: {describe(array)}. {_array_advice(array)}"
            )
        self._check_rows(key, len(array))
        return np.asarray(array)

    def _labels(self) -> np.ndarray:
        for key in ("regression_labels", "classification_labels"):
            values = self.raw.get(key)
            if values is None:
                continue
            array = self._column(key)
            if _unrated(array) and self.raw.get("classification_labels") is not None:
                continue  # an empty column
            if key == "classification_labels":
                return columns.classes(self.place, key, array, self.ids)
            return columns.finite(self.place, key, array, self.ids, columns.LEAVE_OUT)
        raise DataError(
            f"{self.place}: `regression_labels` or `classification_labels` must be there. "
            f"Received: {sorted(map(str, self.raw))}."
        )

    def _unimodal(self) -> dict[str, np.ndarray]:
        """Unimodal labels, NaN where not given; no model reads them."""
        found = {}
        for name, letter in UNIMODAL.items():
            if self.raw.get(key := f"regression_labels_{letter}") is not None:
                array = self._column(key).astype(np.float32)
                rated = np.where(np.isnan(array), np.float32(0), array)
                columns.finite(self.place, key, rated, self.ids, columns.LEAVE_OUT)
                found[name] = array
        return found

    def _lengths(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Lengths of the modalities that could be read."""
        found: dict[str, np.ndarray] = {}
        for name in ("text", "audio", "vision"):  # text first: aligned sequences are as long as it
            with self.problems.noted():
                if name in features:
                    found[f"{name}_length"] = self._length(name, features, found)
        if "text" not in features and TEXT_BERT in features:
            found["text_length"] = _mask_length(features[TEXT_BERT])
        return found

    def _length(
        self, name: str, features: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        array, key = features[name], f"{name}_lengths"
        if name not in self.present:
            return np.zeros(len(array), np.int32)
        if self.raw.get(key) is not None:
            return columns.lengths(self.place, key, self._column(key), array.shape[1], self.ids)
        tokens = features.get(TEXT_BERT)
        if name == "text" and tokens is not None and tokens.shape[2] == array.shape[1]:
            return _mask_length(tokens)
        aligned = "text" in self.present and "text_length" in found and "text" in features
        if name != "text" and aligned and array.shape[1] == features["text"].shape[1]:
            return found["text_length"]
        return last_step(array)

    def _column(self, key: str) -> np.ndarray:
        """A list or array of N numbers, as an array."""
        array = columns.numbers(self.place, key, self.raw.pop(key))
        self._check_rows(key, len(array))
        return array

    def _check_rows(self, key: str, rows: int) -> None:
        if rows != len(self.ids):
            raise DataError(
                f"{self.place}: all keys must hold the same number of segments. "
                f"Received: {len(self.ids)} in `id`, {rows} in `{key}`."
            )


def _mask_length(tokens: np.ndarray) -> np.ndarray:
    return tokens[:, 1].sum(axis=1, dtype=np.int32)


def _array_advice(array: Any) -> str:
    if isinstance(array, np.ndarray) and array.ndim == 2 and array.dtype.kind in "fiu":
        return (
            "One vector a segment is a sequence of one step: `array[:, None]`. Steps of all "
            "segments in one table must be cut into segments, padded and stacked."
        )
    if isinstance(array, np.ndarray) and array.dtype.kind in "SU":
        return "Save numbers."
    return "Pad sequences to one length and stack them."


def _unrated(labels: np.ndarray) -> bool:
    return labels.dtype.kind == "f" and bool(np.isnan(labels).all())


def _drop_unrated(splits: Mapping[str, Segments]) -> None:
    """Removes unimodal labels that no split has, and adds NaN to splits that lack them."""
    for name in UNIMODAL:
        held = [split.unimodal.get(name) for split in splits.values()]
        rated = any(labels is not None and not _unrated(labels) for labels in held)
        for split in splits.values():
            if not rated:
                split.unimodal.pop(name, None)
            else:
                split.unimodal.setdefault(name, np.full(len(split), np.nan, np.float32))
