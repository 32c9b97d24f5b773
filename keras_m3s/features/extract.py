"""Clips to features: one file each as they come, then one file of all in MMSA's schema.

    out/audio/{video_id}/{clip_id}.npy     likewise vision, text; text_bert where text has tokens
    out/label.csv, out/failed.csv          the clips that came through; those that did not, and why
    out/extractors.json                    what computed what
    out/made_from.csv                      SHA-256 of the clip or text that each sequence is of
    out/features.pkl                       MMSA's schema, padded, of the clips that came through

A clip that fails is reported and left out, the rest goes on. A second run computes only what is not
there yet or whose clip has changed, and tries anew what failed.
"""

import csv
import dataclasses
import io
import json
import os
import pathlib
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_m3s.features.clips import Clip, read_clips
from keras_m3s.modalities import MODALITIES, TEXT_BERT
from keras_m3s.utils.atomic_files import WriteError, whole

SPLITS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class Report:
    """What came of it.

    Attributes:
        file: The file of all features; `None` if a split has no clip.
        done: Number of clips that came through.
        computed: Sequences computed now, not found from an earlier run.
        failed: Name of a clip -> why.
    """

    file: pathlib.Path | None
    done: int
    computed: int
    failed: dict[str, str]


def extract(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    extractors: Mapping[str, Any],
    progress: Callable[[Clip, str | None], None] = lambda clip, failure: None,
) -> Report:
    """Extracts the features of a folder of clips.

    Args:
        folder: Clips with `label.csv`, see `keras_m3s.features.clips`.
        out: Where to write.
        extractors: Modality -> extractor; a modality without one is a single step of zero.
        progress: Called after each clip with what went wrong, or `None`.

    Returns:
        What came of it.

    Raises:
        ValueError: no extractor, or `out` was made by other extractors.
        FileNotFoundError: there is no `label.csv`.
        WriteError: there is no room in `out`, or no right to write there.
    """
    folder, out = pathlib.Path(folder).expanduser(), pathlib.Path(out).expanduser()
    unknown = sorted(set(extractors) - set(MODALITIES))
    if unknown or not extractors:
        raise ValueError(f"`extractors` must be for some of {MODALITIES}. Received: {unknown}.")
    clips, lines = read_clips(folder)
    _note_extractors(out, extractors)
    origins = _Origins(out / "made_from.csv")
    failed: dict[str, str] = {}
    computed = 0
    for clip in clips:
        failure = None
        try:
            computed += _clip(out, clip, extractors, origins)
        except WriteError:  # no fault of the clip's
            raise
        except Exception as error:  # whatever a program for media makes of a broken file
            failure = f"{type(error).__name__}: {error}".replace("\n", " ")
            failed[clip.id] = failure
        progress(clip, failure)
    kept = [(clip, line) for clip, line in zip(clips, lines, strict=True) if clip.id not in failed]
    columns = [name for name in lines[0] if name not in ("id", "number")]
    _write_table(out / "label.csv", columns, [line for _, line in kept])
    rows = [{"id": name, "failure": why} for name, why in failed.items()]
    _write_table(out / "failed.csv", ["id", "failure"], rows)
    file = out / "features.pkl"
    if {line["mode"] for _, line in kept} != set(SPLITS):
        file.unlink(missing_ok=True)
        return Report(None, len(kept), computed, failed)
    content = {
        split: _split(out, [pair for pair in kept if pair[1]["mode"] == split], kept, extractors)
        for split in SPLITS
    }
    with whole(file) as temporary, temporary.open("wb") as stream:
        pickle.dump(content, stream, protocol=4)
    return Report(file, len(kept), computed, failed)


def _clip(out: pathlib.Path, clip: Clip, extractors: Mapping[str, Any], origins: "_Origins") -> int:
    """Computes what a clip lacks; returns how many sequences."""
    computed = 0
    for modality, extractor in extractors.items():
        path, origin = _path(out, modality, clip), clip.digest(modality)
        if path.is_file() and origins.known.get((modality, clip.id)) == origin:
            continue
        table = np.asarray(extractor(clip), dtype=np.float32)
        if table.ndim != 2 or not table.size or not np.isfinite(table).all():
            raise ValueError(
                f"{extractor.name} must give finite numbers (steps, dim). Received: {table.shape}."
            )
        if modality == "text" and hasattr(extractor, "tokens"):
            _save(_path(out, TEXT_BERT, clip), extractor.tokens(clip))
        _save(path, table)
        origins.note(modality, clip.id, origin)
        computed += 1
    return computed


class _Origins:
    """What each sequence was computed from: a line is added when one is there, the last counts.

    Args:
        path: The file; it may be absent, or break off in its last line.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.known: dict[tuple[str, str], str] = {}
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]
            if whole != lines:
                path.write_text("".join(whole), encoding="utf-8")
            for modality, name, digest in csv.reader(whole):
                self.known[modality, name] = digest

    def note(self, modality: str, name: str, digest: str) -> None:
        """Adds a line: the sequence is there, whole."""
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow([modality, name, digest])


def _path(out: pathlib.Path, key: str, clip: Clip) -> pathlib.Path:
    return out / key / clip.video_id / f"{clip.clip_id}.npy"


def _save(path: pathlib.Path, array: np.ndarray) -> None:
    stream = io.BytesIO()  # into a file, numpy does not say why it cannot
    np.save(stream, array, allow_pickle=False)
    with whole(path) as temporary:
        temporary.write_bytes(stream.getvalue())


def _split(
    out: pathlib.Path,
    pairs: Sequence[tuple[Clip, Mapping[str, str]]],
    kept: Sequence[tuple[Clip, Mapping[str, str]]],
    extractors: Mapping[str, Any],
) -> dict[str, Any]:
    """One split in MMSA's schema; sequences padded to the longest of all splits."""
    clips, lines = [clip for clip, _ in pairs], [line for _, line in pairs]
    # As in a folder of own data: whole numbers from 0 on are classes.
    classes = all(re.fullmatch(r"\d{1,4}", line["label"]) for _, line in kept)
    scores = {"label": "classification_labels" if classes else "regression_labels"}
    scores |= {f"label_{letter}": f"regression_labels_{letter}" for letter in "TAV"}
    content: dict[str, Any] = {
        "id": np.array([clip.id for clip in clips]),
        "raw_text": np.array([clip.text for clip in clips]),
    }
    for column, key in scores.items():
        if any(line.get(column) for line in lines):
            values = [float(line.get(column) or "nan") for line in lines]
            content[key] = np.array(values, dtype=np.float32)
    for modality in MODALITIES:
        if modality not in extractors:
            tables = [np.zeros((1, 1), np.float32)] * len(clips)
            longest, dim = 1, 1
        else:
            shapes = [_shape(out, modality, clip) for clip, _ in kept]
            longest, dim = max(steps for steps, _ in shapes), shapes[0][1]
            tables = [np.load(_path(out, modality, clip)) for clip in clips]
        padded = np.zeros((len(clips), longest, dim), dtype=np.float32)
        for row, table in enumerate(tables):
            padded[row, : len(table)] = table
        content[modality] = padded
        content[f"{modality}_lengths"] = [len(table) for table in tables]
    if all(_path(out, TEXT_BERT, clip).is_file() for clip, _ in kept):
        content[TEXT_BERT] = np.stack([np.load(_path(out, TEXT_BERT, clip)) for clip in clips])
    return content


def _shape(out: pathlib.Path, modality: str, clip: Clip) -> tuple[int, int]:
    steps, dim = np.load(_path(out, modality, clip), mmap_mode="r").shape
    return steps, dim


def _note_extractors(out: pathlib.Path, extractors: Mapping[str, Any]) -> None:
    """Features of two kinds must not meet in one folder."""
    path = out / "extractors.json"
    names = {modality: str(extractor.name) for modality, extractor in extractors.items()}
    if path.is_file():
        before = json.loads(path.read_text())
        other = {m: before[m] for m in names if before.get(m, names[m]) != names[m]}
        if other:
            raise ValueError(
                f"{out} must have been made by the same extractors. There: {other}. "
                f"Received: {names}. Take another folder."
            )
        names = {**before, **names}
    with whole(path) as temporary:
        temporary.write_text(json.dumps(names, indent=2, sort_keys=True))


def _write_table(
    path: pathlib.Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]
) -> None:
    with whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
