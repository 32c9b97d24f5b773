"""`train.pkl`, `dev.pkl`, `test.pkl` as MISA and MMIM write them.

Each file is a list of segments,

    ((word ids, vision (n, dv), audio (m, da), words), label, "video[clip]")                 MISA
    ((word ids or [], vision, audio, words, vision length, audio length), label, name)       MMIM

MISA's sequences have one step a word; MMIM's may be padded in front. There are no text features in
them: `embeddings.npy` beside them, a table (words, dim), turns word ids into `text`, BERT's
`vocab.txt` the words into `text_bert`. One of the two must be there.

Reference: declare-lab/MISA ec42fad, src/create_dataset.py; declare-lab/Multimodal-Infomax cd0774c,
src/create_dataset.py.
"""

import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import mmsa, npy, pickles, tokens
from ..pickles import DataError
from ..sequences import Repairs, check_columns

FILES = {"train": "train.pkl", "valid": "dev.pkl", "test": "test.pkl"}
EMBEDDINGS, VOCABULARY = "embeddings.npy", "vocab.txt"


def read(paths: Sequence[Any]) -> dict[str, mmsa.Segments]:
    """All splits.

    Args:
        paths: The files of `FILES`, and one or both of `EMBEDDINGS` and `VOCABULARY`.

    Returns:
        Dict with `train`, `valid`, `test`; sequences have each its own steps.

    Raises:
        DataError: a file is not as above; the message names file and row.
    """
    by_name = {path.name: path for path in paths}
    table = npy.mapped(by_name[EMBEDDINGS]) if EMBEDDINGS in by_name else None
    if table is not None and (table.ndim != 2 or table.dtype.kind != "f"):
        raise DataError(f"{EMBEDDINGS} must be a table (words, dim). Received: {table.shape}.")
    pieces = tokens.vocabulary(by_name[VOCABULARY]) if VOCABULARY in by_name else None
    splits = {split: _split(by_name[name], table, pieces) for split, name in FILES.items()}
    columns = {
        split: {name: segments.features[name][0].shape[1] for name in ("audio", "vision")}
        for split, segments in splits.items()
    }
    if len({tuple(one.values()) for one in columns.values()}) > 1:
        raise DataError(f"All files must have the same columns. Received: {columns}.")
    mmsa.check_disjoint("train.pkl, dev.pkl, test.pkl", splits)
    return splits


def check(name: str, content: Any) -> "list[_Row]":
    """The segments of a list that has been loaded.

    Args:
        name: What to call it in messages.
        content: As a file holds it.

    Raises:
        DataError: it is not as above.
    """
    if not isinstance(content, list) or not content:
        raise DataError(
            f"{name} must be a list of segments, as MISA and MMIM write it. "
            f"Received: {mmsa.describe(content)}."
        )
    repairs = Repairs()
    rows = [_Row(f"{name}, row {row}", item, repairs) for row, item in enumerate(content)]
    if repairs.counts:
        # As MISA does with `nan_to_num`.
        warnings.warn(f"{name}: {repairs.text()} were not finite and became 0.", stacklevel=4)
    if len({row.id for row in rows}) < len(rows):
        raise DataError(f"{name}: names of segments must be unique.")
    for modality in ("audio", "vision"):
        check_columns(name, modality, [row.features[modality] for row in rows])
    return rows


def _split(path: Any, table: Any, pieces: list[str] | None) -> mmsa.Segments:
    rows = check(path.name, pickles.load(path))
    ids, raw_text = [row.id for row in rows], [" ".join(row.words) for row in rows]
    features: dict[str, Any] = {
        name: [row.features[name] for row in rows] for name in ("audio", "vision")
    }
    if table is not None:
        features["text"] = [row.embedded(table) for row in rows]
    if pieces is not None:
        features[mmsa.TEXT_BERT] = tokens.text_bert(raw_text, pieces)
    lengths = {f"{name}_length": _counts(features[name]) for name in ("audio", "vision")}
    if table is not None:
        lengths["text_length"] = _counts(features["text"])
    else:
        lengths["text_length"] = features[mmsa.TEXT_BERT][:, 1].sum(axis=1, dtype=np.int32)
    labels = np.array([row.label for row in rows], dtype=np.float32)
    return mmsa.Segments(ids, raw_text, {**features, **lengths}, labels)


def _counts(sequences: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([len(sequence) for sequence in sequences], dtype=np.int32)


class _Row:
    """One segment of a list, checked."""

    def __init__(self, place: str, item: Any, repairs: Repairs) -> None:
        self.place = place
        if not isinstance(item, tuple | list) or len(item) != 3:
            raise DataError(f"{place}: must be (features, label, name). Received: "
                            f"{mmsa.describe(item)}.")  # fmt: skip
        parts, label, name = item
        if not isinstance(parts, tuple | list) or len(parts) not in (4, 6):
            raise DataError(f"{place}: features must be (word ids, vision, audio, words) and, for "
                            f"MMIM, two lengths. Received: {mmsa.describe(parts)}.")  # fmt: skip
        self.word_ids, vision, audio, words = parts[:4]
        lengths = dict(zip(("vision", "audio"), parts[4:], strict=False))
        if not isinstance(name, str) or not name:
            raise DataError(f"{place}: its name must be a string. Received: {name!r}.")
        # As in MMSA's files.
        self.id = re.sub(r"^(.*)\[(\w+)\]$", r"\1$_$\2", name)
        listed = isinstance(words, list | tuple) or getattr(words, "ndim", 0) == 1
        if not listed or not all(isinstance(word, str) for word in words):
            raise DataError(f"{place}: words must be strings. Received: {mmsa.describe(words)}.")
        self.words = [str(word) for word in words]
        self.label = self._number("label", label)
        self.features = {
            name: self._trimmed(
                name, repairs.sequence(place, name, values, mend_all=True), lengths.get(name)
            )
            for name, values in (("audio", audio), ("vision", vision))
        }

    def _number(self, what: str, value: Any) -> float:
        # MISA's label is an array (1, 1).
        number = np.asarray(value).reshape(-1)
        if number.size != 1 or number.dtype.kind not in "fiu" or not np.isfinite(number).all():
            raise DataError(f"{self.place}: its {what} must be one number. Received: {value!r}.")
        return float(number[0])

    def _trimmed(self, name: str, sequence: np.ndarray, length: Any) -> np.ndarray:
        if length is None:
            return sequence
        steps = self._number(f"{name} length", length)
        if not 0 <= steps <= len(sequence) or steps != int(steps):
            raise DataError(f"{self.place}: its {name} length must lie in 0..{len(sequence)}. "
                            f"Received: {length!r}.")  # fmt: skip
        padding = len(sequence) - int(steps)
        if not sequence[:padding].any():
            return sequence[padding:]
        if not sequence[int(steps) :].any():
            return sequence[: int(steps)]
        raise DataError(
            f"{self.place}: `{name}` must be zero outside its length, before or behind. "
            f"Received: {len(sequence)} steps, length {length!r}."
        )

    def embedded(self, table: np.ndarray) -> np.ndarray:
        """`text` `(words, dim)`."""
        ids = np.asarray(self.word_ids).reshape(-1)
        if ids.size == 0 or ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= len(table):
            raise DataError(
                f"{self.place}: word ids must lie in 0..{len(table) - 1}, the rows of "
                f"{EMBEDDINGS}. Received: {ids.size} ids of {ids.dtype}. Without ids, as MMIM "
                f"writes them, take away {EMBEDDINGS} and put BERT's {VOCABULARY} there."
            )
        return np.asarray(table[ids], dtype=np.float32)
