"""Reads features for prediction: without labels, with modalities, steps or clips missing.

    a file     a pickle or .npz in MMSA's schema (see `mmsa`), with splits or without; of `audio`,
               `vision`, `text`, `text_bert` at least one; `id`, `audio_lengths`, `vision_lengths`,
               `text_lengths` where there are such. All else, labels too, is left unread. Or one
               clip, (steps, dim) and `text_bert` (3, steps), as `run_single` of MMSA-FET saves it
    a folder   audio.npy (N, steps, dim), or audio/{video_id}/{clip_id}.npy (steps, dim); likewise
               the others; audio_lengths.npy, text_bert.npy; label.csv with the columns video_id
               and clip_id says which clips there are. A clip without its file is missing
    any data   of other modalities, as `arrays`, `array_folder` and `long_table` have it, with
               splits or without: sequences (N, steps, dim), vectors (N, dim), `NAME_length`, `id`.
               Or one example: (steps, dim), (dim,)

In the first two, steps that hold a NaN count as missing, and so does -inf in audio: both become 0.
In the last NaN stays, and infinite values become NaN.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import arrays, columns, content, files, formats, mult, npy, tables
from .describing import describe
from .limits import DataError, Problems
from .segments import MODALITIES, MODES, TEXT_BERT, split_names

LABELS = "label.csv"
KEYS = (*MODALITIES, TEXT_BERT)


@dataclasses.dataclass(frozen=True, eq=False)
class Unlabelled:
    """Clips to predict.

    Attributes:
        place: For messages.
        ids: `N` names.
        features: Those of `audio`, `vision`, `text`, `text_bert` or other modalities that are
            there: an array, or `N` paths, None for a clip that is missing.
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

        Of a modality of vectors `(dim,)`.

        Raises:
            DataError: it is no such array, or holds infinite values.
        """
        item = self.features[name][row]
        place = f"{self.place}, `{name}` of {self.ids[row]!r}"
        if item is None:
            return np.zeros((0, 0), np.float32)
        values = npy.load(item) if isinstance(item, pathlib.Path) else np.asarray(item)
        vector = values.ndim == 1 and not isinstance(item, pathlib.Path)
        if (values.ndim != 2 and not vector) or values.dtype.kind not in "fiu":
            raise DataError(
                f"{place} must be a numeric array (steps, dim). Received: {describe(values)}."
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
    if path.exists() and (held := content.of(path)) is not None:
        return of_content(formats.place(path), held, split, path.stem)
    if path.is_dir():
        if split is not None:
            raise DataError(f"`split` must be left out for a folder. Received: split={split!r}.")
        return _folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"There must be a file or a folder to predict. Received: {path}")
    known = formats.sniff(path)
    if known.name not in (formats.PICKLE, formats.NPZ):
        advice = f" {known.advice}." if known.advice else ""
        raise DataError(
            "Features must be a .pkl, a .npz or a folder of .npy. Received: "
            f"{formats.place(path)}, {known.title}.{advice}"
        )
    return of_content(formats.place(path), content.load(path), split, path.stem)


def of_content(place: str, held: Any, split: str | None = None, clip: str = "clip") -> Unlabelled:
    """As `read`, of content that has been loaded.

    Args:
        place: What to call it in messages.
        held: As a file holds it.
        split: As for `read`.
        clip: What to call the clip, if there is one alone, without a name.
    """
    if not isinstance(held, Mapping):
        raise DataError(f"{place} must hold a dict of arrays. Received: {describe(held)}.")
    names = split_names(held)
    splits = {name: held[key] for name, key in names.items() if isinstance(held[key], Mapping)}
    if split is not None and MODES.get(split.casefold(), split) not in splits:
        raise DataError(
            f"{place} must hold the split {split!r}. Received: {list(splits) or 'none'}."
        )
    if not splits:
        return _columns(place, held, clip)
    parts = [
        _columns(f"{place}, {name}", one, clip)
        for name, one in splits.items()
        if split is None or MODES.get(split.casefold(), split) == name
    ]
    return parts[0] if len(parts) == 1 else _joined(place, parts)


def recognises(held: Any) -> bool:
    """Whether content is a dict of clips without splits."""
    if not isinstance(held, Mapping):
        return False
    return any(held.get(key) is not None for key in KEYS) or bool(arrays.modalities(held))


def _columns(place: str, held: Mapping[str, Any], clip: str) -> Unlabelled:
    if mult.recognises(held):
        held = mult.renamed(dict(held))
    if set(arrays.modalities(held)) - {*KEYS} and not set(arrays.MMSA_LABELS) & set(held):
        return _any(place, held, clip)
    features = {name: held[name] for name in KEYS if held.get(name) is not None}
    if _is_one_clip(features, held.get("id")):
        tokens = features.get(TEXT_BERT)
        if tokens is not None and tokens.shape[0] != 3:  # MMSA-FET has them (steps, 3)
            features[TEXT_BERT] = tokens.T
        features = {name: array[None] for name, array in features.items()}
        held = {"id": [held.get("id") or clip]}
    for name, array in features.items():
        if not isinstance(array, np.ndarray) or array.ndim != 3 or array.dtype.kind not in "fiu":
            raise DataError(
                f"{place}: `{name}` must be one numeric array (N, steps, dim). "
                f"Received: {describe(array)}. {_advice(array)}"
            )
    rows = _rows(place, {name: len(array) for name, array in features.items()})
    ids = held.get("id")
    ids = [str(i) for i in range(rows)] if ids is None else _names(place, ids)
    lengths = {
        name: columns.numbers(place, key, held[key])
        for name in MODALITIES
        if held.get(key := f"{name}_lengths") is not None
    }
    return _checked(place, ids, rows, features, lengths)


def _any(place: str, held: Mapping[str, Any], clip: str) -> Unlabelled:
    """Reads any modalities; in the arrays of a single example the first axis is absent."""
    names = arrays.modalities(held)
    given, known = {name: held[name] for name in names}, held.get("id")
    if _is_one_clip({name: one for name, one in given.items() if one.ndim > 1}, known):
        vectors = {
            name: array
            for name, array in held.items()
            if arrays.is_modality(name, array, 1) and not name.endswith(arrays.LENGTHS)
        }
        given = {name: array[None] for name, array in {**vectors, **given}.items()}
        known = [known or clip]
    problems, features, lengths = Problems(), {}, {}
    rows = _rows(place, {name: len(array) for name, array in given.items()})
    ids = [str(row) for row in range(rows)]
    with problems.noted():
        ids = ids if known is None else arrays.ids(place, known, rows)
    for name, array in given.items():
        with problems.noted():
            arrays.check_name(place, name)
            features[name] = arrays.numbers(place, name, array)
            features[name], true = arrays.padded(place, name, held, features[name], ids)
            if true is not None:
                lengths[name] = true
    problems.raise_any()
    return Unlabelled(place, ids, features, lengths)


def _is_one_clip(features: Mapping[str, Any], ids: Any) -> bool:
    """Whether arrays of rank 2 are the steps of one clip, rather than one row per clip."""
    if not features or not (ids is None or isinstance(ids, str)):
        return False
    if any(not isinstance(one, np.ndarray) or one.ndim != 2 for one in features.values()):
        return False
    if (tokens := features.get(TEXT_BERT)) is not None:
        return 3 in tokens.shape
    return isinstance(ids, str) or len({len(one) for one in features.values()}) > 1


def _advice(array: Any) -> str:
    if isinstance(array, np.ndarray) and array.ndim == 2 and array.dtype.kind in "fiu":
        return (
            "One vector a clip is a sequence of one step, `array[:, None]`; the steps of one clip "
            "alone are `array[None]`."
        )
    return "Pad sequences to one length, or leave it out."


def _folder(folder: pathlib.Path) -> Unlabelled:
    place, clips = folder.name, _clips(files.find(folder, LABELS))
    features: dict[str, Any] = {}
    for name in KEYS:
        stacked, each = files.find(folder, f"{name}.npy"), files.find(folder, name)
        if stacked.is_file():
            features[name] = npy.mapped(stacked)
        elif clips and each.is_dir():
            paths = [files.find(each / video, f"{clip}.npy") for video, clip in clips]
            found = [path if path.is_file() else None for path in paths]
            if name != TEXT_BERT:
                features[name] = found
            elif None not in found:
                features[name] = _tokens(f"{place}/{name}", [npy.load(path) for path in paths])
    rows = _rows(place, {name: len(array) for name, array in features.items()})
    ids = [f"{video}$_${clip}" for video, clip in clips] or [str(row) for row in range(rows)]
    lengths = {
        name: columns.numbers(place, f"{name}_lengths", npy.load(file))
        for name in MODALITIES
        if (file := files.find(folder, f"{name}_lengths.npy")).is_file()
    }
    return _checked(place, ids, rows, features, lengths)


def _tokens(place: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise DataError(f"{place}: tokens must be (3, steps), of one shape. Received: {shapes}.")
    return np.stack(arrays)


def _clips(path: pathlib.Path) -> list[tuple[str, str]]:
    if not path.is_file():
        return []
    clips = []
    for line in tables.read(path, ("video_id", "clip_id")):
        names = (line["video_id"], line["clip_id"])
        if any(name in ("", "..") or "/" in name or "\\" in name or "\0" in name for name in names):
            raise DataError(
                f"{formats.place(path)}, line {line['number']}: `video_id` and `clip_id` must be "
                f"names of files. Received: {names}."
            )
        clips.append(names)
    return clips


def _rows(place: str, counts: Mapping[str, int]) -> int:
    if not counts:
        raise DataError(
            f"{place} must hold at least one of {KEYS}. Received: none of them. "
            "`keras-m3s inspect` says what is in a file or folder."
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
                        f"Received: {describe(tokens)}.")  # fmt: skip
    for name, length in lengths.items():
        if length.shape != (rows,) or length.dtype.kind not in "iuf" or not (length >= 0).all():
            raise DataError(f"{place}: `{name}_lengths` must hold {rows} whole numbers >= 0. "
                            f"Received: {describe(length)}.")  # fmt: skip
    return Unlabelled(place, ids, features, {n: a.astype(np.int32) for n, a in lengths.items()})


def _joined(place: str, parts: Sequence[Unlabelled]) -> Unlabelled:
    """Concatenates splits as lists of rows, without copying arrays."""
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
    flat = ids.ravel().tolist() if isinstance(ids, np.ndarray) else ids
    if not isinstance(flat, list | tuple):
        raise DataError(f"{place}: `id` must list names. Received: {describe(ids)}.")
    try:
        return [one.decode() if isinstance(one, bytes) else str(one) for one in flat]
    except UnicodeError as error:
        raise DataError(f"{place}: `id` must be text in UTF-8. Received: {error}.") from None
