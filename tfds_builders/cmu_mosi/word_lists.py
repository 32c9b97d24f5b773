"""`train.pkl`, `dev.pkl`, `test.pkl` as MISA and MMIM write them, or MAG-BERT's one pickle of all.

Each file is a list of segments, MAG-BERT's a dict of such lists, `train`, `dev` and `test`:

    ((word ids, vision (n, dv), audio (m, da), words), label, "video[clip]")               MISA
    ((word ids or [], vision, audio, words, vision length, audio length), label, name)     MMIM
    ((words, vision, audio), label, name)                                                  MAG-BERT

Sequences have one step a word; MMIM's may be padded in front. There are no text features in
them: `embeddings.npy` beside them, a table (words, dim), turns word ids into `text`, BERT's
`vocab.txt` the words into `text_bert`. One of the two must be there.

Reference: declare-lab/MISA ec42fad, src/create_dataset.py; declare-lab/Multimodal-Infomax cd0774c,
src/create_dataset.py; WasifurRahman/BERT_multimodal_transformer, multimodal_driver.py.
"""

import pathlib
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import files, formats, npy, pickles, tokens
from ..describing import describe
from ..limits import DataError, Problems
from ..segments import SPLITS, TEXT_BERT, Segments, check_disjoint, split_names
from ..sequences import Repairs, check_columns

FILES = {"train": "train.pkl", "valid": "dev.pkl", "test": "test.pkl"}
EMBEDDINGS, VOCABULARY = "embeddings.npy", "vocab.txt"


def three(folder: Any) -> list[pathlib.Path]:
    """The files of `FILES` in a folder; empty if one is absent."""
    paths = [files.find(folder, name) for name in FILES.values()]
    return paths if all(path.is_file() for path in paths) else []


def find(folder: Any) -> list[pathlib.Path]:
    """The three files of lists, or MAG-BERT's single file; empty if there is neither.

    Raises:
        DataError: a pickle that may be MAG-BERT's is damaged.
    """
    if paths := three(folder):
        return paths
    named = FILES.values()
    others = [path for path in files.pickles_in(folder) if path.name.casefold() not in named]
    found = [path for path in others if is_mag_bert(pickles.load(path))]
    return found if len(found) == 1 else []


def read(paths: Sequence[Any]) -> dict[str, Segments]:
    """All splits.

    Args:
        paths: The files of `FILES` or MAG-BERT's, and one or both of `EMBEDDINGS` and `VOCABULARY`.

    Returns:
        Dict with `train`, `valid`, `test`; sequences have each its own steps.

    Raises:
        DataError: a file is not as above; the message names file and row.
    """
    by_name = {path.name.casefold(): path for path in paths}
    table = npy.mapped(by_name[EMBEDDINGS]) if EMBEDDINGS in by_name else None
    if table is not None and (table.ndim != 2 or table.dtype.kind != "f"):
        raise DataError(f"{EMBEDDINGS} must be a table (words, dim). Received: {table.shape}.")
    pieces = tokens.vocabulary(by_name[VOCABULARY]) if VOCABULARY in by_name else None
    problems = Problems()
    rows = {}
    for split, (place, content) in _lists(by_name).items():
        with problems.noted():
            rows[split] = check(place, content)
    problems.raise_any()
    splits = {split: _segments(one, table, pieces) for split, one in rows.items()}
    columns = {
        split: {name: segments.features[name][0].shape[1] for name in ("audio", "vision")}
        for split, segments in splits.items()
    }
    if len({tuple(one.values()) for one in columns.values()}) > 1:
        raise DataError(f"All files must have the same columns. Received: {columns}.")
    check_disjoint(", ".join(path.name for path in paths), splits)
    return splits


def _lists(by_name: Mapping[str, pathlib.Path]) -> dict[str, tuple[str, Any]]:
    """Split -> name of its list in messages, and the list."""
    if set(FILES.values()) <= set(by_name):
        paths = {split: by_name[name] for split, name in FILES.items()}
        return {split: (formats.place(path), pickles.load(path)) for split, path in paths.items()}
    path = next(path for name, path in by_name.items() if name not in (EMBEDDINGS, VOCABULARY))
    content = pickles.load(path)
    if not is_mag_bert(content):
        raise DataError(
            f"{formats.place(path)} must be a dict of lists train, dev and test, as MAG-BERT has "
            f"it. Received: {describe(content)}."
        )
    keys = split_names(content)
    return {split: (f"{formats.place(path)}, {keys[split]}", content[keys[split]])
            for split in SPLITS}  # fmt: skip


def is_mag_bert(content: Any) -> bool:
    """Whether content is a dict of three lists of segments."""
    names = split_names(content) if isinstance(content, dict) else {}
    return set(names) == set(SPLITS) and all(
        isinstance(content[key], list | tuple) for key in names.values()
    )


def check(name: str, content: Any) -> "list[_Row]":
    """The segments of a list that has been loaded.

    Args:
        name: What to call it in messages.
        content: As a file holds it.

    Raises:
        DataError: it is not as above.
    """
    if not isinstance(content, list | tuple) or not content:
        raise DataError(
            f"{name} must be a list of segments, as MISA and MMIM write it. "
            f"Received: {describe(content)}."
        )
    repairs, problems = Repairs(), Problems()
    rows: list[_Row] = []
    for number, item in enumerate(content):
        with problems.noted():
            rows.append(_Row(f"{name}, row {number}", item, repairs))
    problems.raise_any()
    if repairs.counts:
        # As MISA does with `nan_to_num`.
        warnings.warn(f"{name}: {repairs.text()} were not finite and became 0.", stacklevel=4)
    if len({row.id for row in rows}) < len(rows):
        raise DataError(f"{name}: names of segments must be unique.")
    for modality in ("audio", "vision"):
        check_columns(name, modality, [row.features[modality] for row in rows])
    return rows


def _segments(rows: "list[_Row]", table: Any, pieces: list[str] | None) -> Segments:
    ids, raw_text = [row.id for row in rows], [" ".join(row.words) for row in rows]
    features: dict[str, Any] = {
        name: [row.features[name] for row in rows] for name in ("audio", "vision")
    }
    if table is not None:
        features["text"] = [row.embedded(table) for row in rows]
    if pieces is not None:
        features[TEXT_BERT] = tokens.text_bert(raw_text, pieces)
    lengths = {f"{name}_length": _counts(features[name]) for name in ("audio", "vision")}
    if table is not None:
        lengths["text_length"] = _counts(features["text"])
    else:
        lengths["text_length"] = features[TEXT_BERT][:, 1].sum(axis=1, dtype=np.int32)
    labels = np.array([row.label for row in rows], dtype=np.float32)
    return Segments(ids, raw_text, {**features, **lengths}, labels)


def _counts(sequences: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([len(sequence) for sequence in sequences], dtype=np.int32)


class _Row:
    """One segment of a list, checked."""

    def __init__(self, place: str, item: Any, repairs: Repairs) -> None:
        self.place = place
        if not isinstance(item, tuple | list) or len(item) != 3:
            raise DataError(f"{place}: must be (features, label, name). Received: "
                            f"{describe(item)}.")  # fmt: skip
        parts, label, name = item
        if not isinstance(parts, tuple | list) or len(parts) not in (3, 4, 6):
            raise DataError(f"{place}: features must be (word ids, vision, audio, words) and, for "
                            f"MMIM, two lengths. Received: {describe(parts)}.")  # fmt: skip
        if len(parts) == 3:  # MAG-BERT
            words, vision, audio = parts
            parts = ([], vision, audio, words)
        self.word_ids, vision, audio, words = parts[:4]
        lengths = dict(zip(("vision", "audio"), parts[4:], strict=False))
        if not isinstance(name, str) or not name:
            raise DataError(f"{place}: its name must be a string. Received: {name!r}.")
        # As in MMSA's files.
        self.id = re.sub(r"^(.*)\[(\w+)\]$", r"\1$_$\2", name)
        listed = isinstance(words, list | tuple) or getattr(words, "ndim", 0) == 1
        if not listed or not all(isinstance(word, str) for word in words):
            raise DataError(f"{place}: words must be strings. Received: {describe(words)}.")
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
        """The word vectors `text` `(words, dim)`."""
        ids = np.asarray(self.word_ids).reshape(-1)
        if ids.size == 0 or ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= len(table):
            raise DataError(
                f"{self.place}: word ids must lie in 0..{len(table) - 1}, the rows of "
                f"{EMBEDDINGS}. Received: {ids.size} ids of {ids.dtype}. Without ids, as MMIM "
                f"writes them, take away {EMBEDDINGS} and put BERT's {VOCABULARY} there."
            )
        return np.asarray(table[ids], dtype=np.float32)
