"""Features to predict from: no labels, any modality absent, any step or clip missing.

    .pkl, .npz   MMSA's schema (see `mmsa`), with splits or without; of `audio`, `vision`, `text`,
                 `text_bert` at least one; `id`, `audio_lengths`, `vision_lengths`, `text_lengths`
                 where there are such. All else, labels too, is left unread
    a folder     audio.npy (N, steps, dim), or audio/{video_id}/{clip_id}.npy (steps, dim); likewise
                 the others; audio_lengths.npy, text_bert.npy; label.csv with the columns video_id
                 and clip_id says which clips there are. A clip without its file is missing

Steps that hold a NaN count as missing, and so does -inf in audio: both become 0.
"""

import csv
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import mmsa, npy, pickles
from .mmsa import MODALITIES, TEXT_BERT
from .pickles import DataError

LABELS = "label.csv"
KEYS = (*MODALITIES, TEXT_BERT)


@dataclasses.dataclass(frozen=True, eq=False)
class Unlabelled:
    """Clips to predict.

    Attributes:
        place: For messages.
        ids: `N` names.
        features: Those of `audio`, `vision`, `text`, `text_bert` that are there: an array, or
            `N` paths, None for a clip that is missing.
        lengths: Modality -> int32 `(N,)` true steps, where the input says so.
    """

    place: str
    ids: list[str]
    features: dict[str, Any]
    lengths: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.ids)

    def sequence(self, name: str, row: int) -> np.ndarray:
        """One clip's `(steps, dim)` float32, NaN where a value is missing; no steps if all is.

        Raises:
            DataError: it is no such array, or holds infinite values.
        """
        item = self.features[name][row]
        place = f"{self.place}, `{name}` of {self.ids[row]!r}"
        if item is None:
            return np.zeros((0, 0), np.float32)
        values = npy.load(item) if isinstance(item, pathlib.Path) else np.asarray(item)
        if values.ndim != 2 or values.dtype.kind not in "fiu":
            raise DataError(
                f"{place} must be a numeric array (steps, dim). Received: {mmsa.describe(values)}."
            )
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        if name == "audio":
            values[np.isneginf(values)] = 0
        if np.isinf(values).any():
            raise DataError(
                f"{place} must be finite, or NaN where it is missing. Received: "
                f"{int(np.isinf(values).sum())} infinite values. Replace them."
            )
        return values


def read(path: Any, split: str | None = None) -> Unlabelled:
    """Reads what is to be predicted; no code in a file runs.

    Args:
        path: As above.
        split: Which split of a file that has such; `None` for all of them, one after the other.

    Raises:
        FileNotFoundError: there is nothing.
        DataError: it is not as above.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        if split is not None:
            raise DataError(f"`split` must be left out for a folder. Received: split={split!r}.")
        return _folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"There must be a file or a folder to predict. Received: {path}")
    if path.suffix == ".npz":
        arrays = npy.load_archive(path)
        content: Any = mmsa.nested(arrays) if any("/" in name for name in arrays) else arrays
    elif path.suffix in (".pkl", ".pickle"):
        content = pickles.load(path)
    else:
        raise DataError(
            f"Features must be a .pkl, a .npz or a folder of .npy. Received: {path.name}. "
            f"`keras-m3s inspect {path.name}` says what it is."
        )
    if not isinstance(content, Mapping):
        raise DataError(
            f"{path.name} must hold a dict of arrays. Received: {mmsa.describe(content)}."
        )
    splits = [name for name in mmsa.SPLITS if isinstance(content.get(name), Mapping)]
    if split is not None and split not in splits:
        raise DataError(f"{path.name} must hold the split {split!r}. Received: {splits or 'none'}.")
    if not splits:
        return _columns(path.name, content)
    parts = [
        _columns(f"{path.name}, {one}", content[one]) for one in splits if split in (one, None)
    ]
    return parts[0] if len(parts) == 1 else _joined(path.name, parts)


def _columns(place: str, content: Mapping[str, Any]) -> Unlabelled:
    features = {name: content[name] for name in KEYS if content.get(name) is not None}
    for name, array in features.items():
        if not isinstance(array, np.ndarray) or array.ndim != 3 or array.dtype.kind not in "fiu":
            raise DataError(
                f"{place}: `{name}` must be one numeric array (N, steps, dim). "
                f"Received: {mmsa.describe(array)}. Pad sequences to one length, or leave it out."
            )
    rows = _rows(place, {name: len(array) for name, array in features.items()})
    ids = content.get("id")
    ids = [str(i) for i in range(rows)] if ids is None else _names(place, ids)
    lengths = {
        name: np.asarray(content[key])
        for name in MODALITIES
        if content.get(key := f"{name}_lengths") is not None
    }
    return _checked(place, ids, rows, features, lengths)


def _folder(folder: pathlib.Path) -> Unlabelled:
    place, clips = folder.name, _clips(folder / LABELS)
    features: dict[str, Any] = {}
    for name in KEYS:
        if (folder / f"{name}.npy").is_file():
            features[name] = npy.mapped(folder / f"{name}.npy")
        elif clips and name != TEXT_BERT and (folder / name).is_dir():
            files = [folder / name / video / f"{clip}.npy" for video, clip in clips]
            features[name] = [file if file.is_file() else None for file in files]
    rows = _rows(place, {name: len(array) for name, array in features.items()})
    ids = [f"{video}$_${clip}" for video, clip in clips] or [str(row) for row in range(rows)]
    lengths = {
        name: npy.load(file)
        for name in MODALITIES
        if (file := folder / f"{name}_lengths.npy").is_file()
    }
    return _checked(place, ids, rows, features, lengths)


def _clips(path: pathlib.Path) -> list[tuple[str, str]]:
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{LABELS} must be a table in UTF-8. Received: {error}.") from None
    clips = [(line.get("video_id") or "", line.get("clip_id") or "") for line in lines]
    for number, names in enumerate(clips, 2):
        if any(name in ("", "..") or "/" in name or "\\" in name for name in names):
            raise DataError(
                f"{LABELS}, line {number}: `video_id` and `clip_id` must be names of files. "
                f"Received: {names}."
            )
    return clips


def _rows(place: str, counts: Mapping[str, int]) -> int:
    if not counts:
        raise DataError(
            f"{place} must hold at least one of {KEYS}. Received: none of them. "
            "`keras-m3s inspect` says what is in a file."
        )
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise DataError(f"{place}: all features must have the same number of clips, at least 1. "
                        f"Received: {dict(counts)}.")  # fmt: skip
    return next(iter(counts.values()))


def _checked(
    place: str, ids: list[str], rows: int, features: dict[str, Any], lengths: Mapping[str, Any]
) -> Unlabelled:
    if len(ids) != rows:
        raise DataError(f"{place} must name each clip. Received: {len(ids)} names, {rows} clips.")
    if (tokens := features.get(TEXT_BERT)) is not None and (
        tokens.ndim != 3 or tokens.shape[1] != 3 or np.any(tokens != np.round(tokens))
    ):
        raise DataError(f"{place}: `{TEXT_BERT}` must be whole numbers (N, 3, steps). "
                        f"Received: {mmsa.describe(tokens)}.")  # fmt: skip
    for name, length in lengths.items():
        if length.shape != (rows,) or length.dtype.kind not in "iuf" or not (length >= 0).all():
            raise DataError(f"{place}: `{name}_lengths` must hold {rows} whole numbers >= 0. "
                            f"Received: {mmsa.describe(length)}.")  # fmt: skip
    return Unlabelled(place, ids, features, {n: a.astype(np.int32) for n, a in lengths.items()})


def _joined(place: str, parts: Sequence[Unlabelled]) -> Unlabelled:
    """Splits one after the other; their features are lists of rows, so nothing is copied."""
    kinds = {tuple(part.features) + tuple(part.lengths) for part in parts}
    if len(kinds) > 1:
        raise DataError(f"{place}: all splits must hold the same keys. Received: {sorted(kinds)}. "
                        "Choose one with `--split`.")  # fmt: skip
    return Unlabelled(
        place,
        [name for part in parts for name in part.ids],
        {
            name: [row for part in parts for row in part.features[name]]
            for name in parts[0].features
        },
        {name: np.concatenate([part.lengths[name] for part in parts]) for name in parts[0].lengths},
    )


def _names(place: str, ids: Any) -> list[str]:
    flat = ids.ravel() if isinstance(ids, np.ndarray) else ids
    if not isinstance(flat, np.ndarray | list | tuple):
        raise DataError(f"{place}: `id` must list names. Received: {mmsa.describe(ids)}.")
    try:
        return [one.decode() if isinstance(one, bytes) else str(one) for one in flat]
    except UnicodeError as error:
        raise DataError(f"{place}: `id` must be text in UTF-8. Received: {error}.") from None
