"""The schema of MMSA and Self-MM feature files: read, checked, and brought to one form.

A file is a dict of `train`, `valid`, `test`, each a dict of

    text               (N, steps, dim)   word or token features
    audio, vision      (N, steps, dim)
    text_bert          (N, 3, steps)     BERT token ids, mask, segments; optional
    regression_labels  (N,)              or, where there are none, classification_labels
    id                 N strings         `video$_$clip`
    raw_text           N strings         optional
    audio_lengths, vision_lengths, text_lengths   N true step counts, optional
    regression_labels_T, _A, _V   (N,)  labels of each modality alone, optional (CH-SIMS)

The same in a .npz file has keys such as `train/text`. Without pickles, it is the safer form.

Reference: thuiar/MMSA, README.md ("features") and src/MMSA/data_loader.py.
"""

import dataclasses
import os
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import npy, pickles
from .pickles import DataError

SPLITS = ("train", "valid", "test")
MODALITIES = ("audio", "vision", "text")
TEXT_BERT = "text_bert"
UNIMODAL = {"text": "T", "audio": "A", "vision": "V"}
"""How CH-SIMS calls the labels that raters gave to each modality by itself."""


@dataclasses.dataclass(frozen=True, eq=False)
class Segments:
    """One split of a file.

    Attributes:
        ids: `N` names, unique.
        raw_text: `N` transcripts; empty strings where the file has none.
        features: `audio`, `vision`, `text` float32 `(N, steps, dim)`, or `N` arrays of shape
            `(steps, dim)` each with its own steps; `text_bert` int32 `(N, 3, steps)` where the
            file has it; `audio_length`, `vision_length`, `text_length` int32 `(N,)`, true steps.
        labels: Float32 `(N,)` for regression, int32 `(N,)` for classes.
        unimodal: Modality -> labels float32 `(N,)` of it alone, where the file has them.
    """

    ids: list[str]
    raw_text: list[str]
    features: dict[str, Any]
    labels: np.ndarray
    unimodal: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


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
    name = pathlib.Path(path).name
    content = nested(npy.load_archive(path)) if name.endswith(".npz") else pickles.load(path)
    return check(name, content)


def check(name: str, content: Any) -> dict[str, Segments]:
    """As `read`, of content that has been loaded; its dicts are empty afterwards.

    Args:
        name: What to call it in messages.
        content: As a file holds it.
    """
    if not isinstance(content, dict) or not set(SPLITS) <= set(content):
        raise DataError(
            f"{name} must be a dict with the splits {SPLITS}. Received: {describe(content)}. "
            "Save one split each for training, selection and test."
        )
    splits = {split: _Reader(f"{name}, {split}", content.pop(split)).read() for split in SPLITS}
    _check_same_shapes(name, splits)
    check_disjoint(name, splits)
    return splits


def nested(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """`train/text` -> `["train"]["text"]`."""
    content: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        split, _, key = name.partition("/")
        content.setdefault(split, {})[key] = array
    return content


class _Reader:
    """Reads one split; each array leaves the raw dict when it is done, so that memory is freed."""

    def __init__(self, place: str, raw: Any) -> None:
        self.place = place
        if not isinstance(raw, dict):
            raise DataError(
                f"{place}: a split must be a dict of arrays. Received: {describe(raw)}."
            )
        needed = {"id", *MODALITIES}
        if not needed <= set(raw):
            raise DataError(
                f"{place}: keys {sorted(needed)} must be there. Missing: "
                f"{sorted(needed - set(raw))}. Received: {sorted(map(str, raw))}."
            )
        self.raw = dict(raw)
        raw.clear()

    def read(self) -> Segments:
        ids = self._strings("id")
        self.rows = len(ids)
        if not ids:
            raise DataError(f"{self.place}: a split must hold at least one segment. Received: 0.")
        if len(set(ids)) < len(ids):
            twice = next(name for i, name in enumerate(ids) if name in ids[:i])
            raise DataError(f"{self.place}: ids must be unique. Received: {twice!r} twice.")
        self.ids = ids
        labels = self._labels()
        features = {name: self._features(name) for name in MODALITIES}
        if self.raw.get(TEXT_BERT) is not None:
            features[TEXT_BERT] = self._text_bert()
        features |= self._lengths(features)
        raw_text = self._strings("raw_text") if "raw_text" in self.raw else [""] * self.rows
        if len(raw_text) != self.rows:
            raise self._unequal("raw_text", len(raw_text))
        return Segments(ids, raw_text, features, labels, self._unimodal())

    def _strings(self, key: str) -> list[str]:
        values = self.raw.pop(key)
        flat = isinstance(values, list | tuple) or getattr(values, "ndim", 0) == 1
        if not flat:
            raise DataError(
                f"{self.place}: `{key}` must list strings. Received: {describe(values)}."
            )
        try:
            strings = [value.decode() if isinstance(value, bytes) else value for value in values]
            "".join(value for value in strings if isinstance(value, str)).encode()
        except UnicodeError as error:
            raise DataError(
                f"{self.place}: `{key}` must be text in UTF-8. Received: {error}."
            ) from None
        if not all(isinstance(value, str) for value in strings):
            kinds = sorted({type(value).__name__ for value in strings})
            raise DataError(f"{self.place}: `{key}` must list strings. Received: {kinds}.")
        return [str(value) for value in strings]

    def _features(self, key: str) -> np.ndarray:
        array = self._array(key, "(N, steps, dim)", "fiu")
        with np.errstate(over="ignore"):
            array = array.astype(np.float32, copy=False)
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
        return self._finite(key, array)

    def _text_bert(self) -> np.ndarray:
        array = self._integers(TEXT_BERT, self._array(TEXT_BERT, "(N, 3, steps)", "fiu"))
        mask = array[:, 1] if array.shape[1] == 3 else None
        if mask is None or array.min() < 0 or mask.max() > 1:
            raise DataError(
                f"{self.place}: `{TEXT_BERT}` must be (N, 3, steps): token ids >= 0, mask of 0 and "
                f"1, segments. Received: {describe(array)}, values {array.min()}..{array.max()}."
            )
        return array

    def _array(self, key: str, form: str, kinds: str) -> np.ndarray:
        array = self.raw.pop(key)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds or array.ndim != 3:
            raise DataError(
                f"{self.place}: `{key}` must be one numeric array {form}. "
                f"Received: {describe(array)}. Pad sequences to one length and stack them."
            )
        if len(array) != self.rows:
            raise self._unequal(key, len(array))
        return np.asarray(array)

    def _labels(self) -> np.ndarray:
        if self.raw.get(key := "regression_labels") is not None:
            return self._finite(key, self._column(key))
        if self.raw.get(key := "classification_labels") is not None:
            return self._integers(key, self._column(key))
        raise DataError(
            f"{self.place}: `regression_labels` or `classification_labels` must be there. "
            f"Received: {sorted(map(str, self.raw))}."
        )

    def _unimodal(self) -> dict[str, np.ndarray]:
        keys = {name: f"regression_labels_{letter}" for name, letter in UNIMODAL.items()}
        return {
            name: self._finite(key, self._column(key))
            for name, key in keys.items()
            if self.raw.get(key) is not None
        }

    def _lengths(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        words = features["text"].shape[1]
        tokens = features.get(TEXT_BERT)
        lengths: dict[str, np.ndarray] = {}
        for name in ("text", "audio", "vision"):  # text first: aligned sequences are as long as it
            array, key = features[name], f"{name}_lengths"
            if self.raw.get(key) is not None:
                length = self._integers(key, self._column(key))
                self._check_within(key, length, array.shape[1])
            elif name == "text" and tokens is not None and tokens.shape[2] == words:
                length = tokens[:, 1].sum(axis=1, dtype=np.int32)
            elif name != "text" and array.shape[1] == words:
                length = lengths["text_length"]
            else:
                length = last_step(array)
            lengths[f"{name}_length"] = length
        return lengths

    def _column(self, key: str) -> np.ndarray:
        """A list or array of N numbers, as an array."""
        values = self.raw.pop(key)
        if isinstance(values, list | tuple):
            if not all(isinstance(value, int | float | np.number) for value in values):
                raise DataError(f"{self.place}: `{key}` must hold one number a segment. "
                                f"Received: {describe(values)}.")  # fmt: skip
            values = np.array(values, dtype=np.float64)
        if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind not in "fiu":
            raise DataError(f"{self.place}: `{key}` must hold one number a segment, shape (N,). "
                            f"Received: {describe(values)}.")  # fmt: skip
        if len(values) != self.rows:
            raise self._unequal(key, len(values))
        return np.asarray(values)

    def _finite(self, key: str, array: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32, copy=False)
        wrong = ~np.isfinite(array)
        if wrong.any():
            first = np.unravel_index(wrong.argmax(), wrong.shape)
            raise DataError(
                f"{self.place}: `{key}` must be finite (audio may hold -inf). Received: "
                f"{int(wrong.sum())} values of NaN or inf, the first {array[first]} in segment "
                f"{self.ids[first[0]]!r}, position {tuple(map(int, first))}. "
                "Replace them by 0, or leave these segments out."
            )
        return array

    def _integers(self, key: str, array: np.ndarray) -> np.ndarray:
        if array.dtype.kind == "f":
            self._finite(key, array)
        if array.size and (np.any(array != np.round(array)) or np.abs(array).max() >= 2**31):
            raise DataError(f"{self.place}: `{key}` must hold whole numbers below 2**31. "
                            f"Received: values {array.min()}..{array.max()}.")  # fmt: skip
        return array.astype(np.int32)

    def _check_within(self, key: str, length: np.ndarray, steps: int) -> None:
        wrong = (length < 0) | (length > steps)
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{self.place}: `{key}` must lie in 0..{steps}, the steps of the array. Received: "
                f"{int(wrong.sum())} beyond, the first {length[row]} in segment {self.ids[row]!r}. "
                "Cut the lengths where the arrays were cut."
            )

    def _unequal(self, key: str, rows: int) -> DataError:
        return DataError(
            f"{self.place}: all keys must hold the same number of segments. "
            f"Received: {self.rows} in `id`, {rows} in `{key}`."
        )


def last_step(array: np.ndarray) -> np.ndarray:
    """Steps up to the last one that is not all zero: int32 `(N,)` from `(N, steps, dim)`."""
    filled = (array != 0).any(axis=2)
    steps = array.shape[1] - filled[:, ::-1].argmax(axis=1)
    return np.where(filled.any(axis=1), steps, 0).astype(np.int32)


def _check_same_shapes(name: str, splits: Mapping[str, Segments]) -> None:
    for key in (*MODALITIES, TEXT_BERT):
        shapes = {
            split: segments.features[key].shape[1:] if key in segments.features else None
            for split, segments in splits.items()
        }
        if len(set(shapes.values())) > 1:
            raise DataError(
                f"{name}: `{key}` must have one shape in all splits. Received: {shapes}."
            )
    alone = {split: sorted(segments.unimodal) for split, segments in splits.items()}
    if len(set(map(tuple, alone.values()))) > 1:
        raise DataError(
            f"{name}: labels of single modalities must be in all splits. Received: {alone}."
        )
    kinds = {split: segments.labels.dtype.name for split, segments in splits.items()}
    if len(set(kinds.values())) > 1:
        raise DataError(f"{name}: labels must be of one kind in all splits. Received: {kinds}.")


def check_disjoint(name: str, splits: Mapping[str, Segments]) -> None:
    """Segments of one video in two splits leak: a warning, some corpora are published so."""
    videos = {
        split: {segment.rpartition("$_$")[0] or segment for segment in segments.ids}
        for split, segments in splits.items()
    }
    for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
        shared = sorted(videos[first] & videos[second])
        if shared:
            warnings.warn(
                f"{name}: splits should share no video. Received: {len(shared)} in both {first} "
                f"and {second}, {shared[0]!r} for one. Scores on {second} will be too good.",
                stacklevel=3,
            )


def describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"array {value.shape} of {value.dtype}"
    if isinstance(value, Mapping):
        return f"dict with keys {sorted(map(str, value))[:12]}"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
