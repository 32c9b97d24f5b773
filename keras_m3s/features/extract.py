"""Extraction of features: a file for each clip as it is done, then one file in MMSA's schema.

    output/audio/{video_id}/{clip_id}.npy  likewise vision, text; text_bert if text has tokens
    output/label.csv, output/failed.csv    clips with features; clips that failed, and why
    output/extractors.json                 the extractors' names
    output/made_from.csv                   SHA-256 of the clip or text of each sequence
    output/features.pkl                    MMSA's schema, padded, without the clips that failed

A clip that fails is reported and left out. Another call with the same output computes what is
missing or failed, and clips that have changed.
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
from typing import Any, TypeAlias

import numpy as np

from keras_m3s.data.split import SPLITS
from keras_m3s.features.clips import Clip, read_clips
from keras_m3s.features.extractor import Extractor
from keras_m3s.modalities import MODALITIES, TEXT_BERT
from keras_m3s.utils import user_code
from keras_m3s.utils.atomic_files import WriteError, whole

Line: TypeAlias = Mapping[str, str]
"""A line of `label.csv`."""


@dataclasses.dataclass(frozen=True)
class ExtractionSummary:
    """Result of an extraction.

    Attributes:
        file: The file of all features; `None` if a split has no clip.
        done: Number of clips with features.
        computed: Number of sequences computed by this call, not found from an earlier one.
        failed: Id of a clip -> why it failed.
    """

    file: pathlib.Path | None
    done: int
    computed: int
    failed: dict[str, str]


def extract(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    extractors: Mapping[str, Extractor],
    progress: Callable[[Clip, str | None], None] = lambda clip, failure: None,
) -> ExtractionSummary:
    """Extracts the features of a folder of clips.

    Args:
        folder: Clips with `label.csv`, see `keras_m3s.features.clips`.
        output: Folder to write to.
        extractors: Modality -> extractor. A modality without one becomes one step of zeros, of
            length 0.
        progress: Called after each clip with the reason of its failure, or `None`.

    Returns:
        Where the features are, and what failed.

    Raises:
        ValueError: There is no extractor, or `output` is of other extractors.
        FileNotFoundError: There is no `label.csv`.
        WriteError: `output` cannot be written to.
    """
    folder, output = pathlib.Path(folder).expanduser(), pathlib.Path(output).expanduser()
    unknown = sorted(set(extractors) - set(MODALITIES))
    if unknown or not extractors:
        raise ValueError(f"`extractors` must be for some of {MODALITIES}. Received: {unknown}.")
    clips, lines = read_clips(folder)
    _write_names(output, extractors)
    digests = _SourceDigests(output / "made_from.csv")
    failed: dict[str, str] = {}
    computed = 0
    for clip in clips:
        failure = None
        try:
            computed += _extract_clip(output, clip, extractors, digests)
        except WriteError:  # not a failure of the clip
            raise
        except Exception as error:  # any, from the libraries that decode a broken file
            failure = failed[clip.id] = user_code.describe(error)
        progress(clip, failure)
    kept = [(clip, line) for clip, line in zip(clips, lines, strict=True) if clip.id not in failed]
    columns = [name for name in lines[0] if name not in ("id", "number")]
    _write_table(output / "label.csv", columns, [line for _, line in kept])
    rows = [{"id": name, "failure": failure} for name, failure in failed.items()]
    _write_table(output / "failed.csv", ["id", "failure"], rows)
    file = output / "features.pkl"
    if {line["mode"] for _, line in kept} != set(SPLITS):
        file.unlink(missing_ok=True)
        return ExtractionSummary(None, len(kept), computed, failed)
    content = {
        split: _split(output, [pair for pair in kept if pair[1]["mode"] == split], kept, extractors)
        for split in SPLITS
    }
    with whole(file) as temporary, temporary.open("wb") as stream:
        pickle.dump(content, stream, protocol=4)
    return ExtractionSummary(file, len(kept), computed, failed)


class _SourceDigests:
    """`made_from.csv`: the SHA-256 of the clip or text that each sequence was computed from.

    A line is appended for each sequence; the last line of a sequence is valid.

    Args:
        path: The file; it may not exist yet, or its last line may be cut off.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.known: dict[tuple[str, str], str] = {}
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            complete = [line for line in lines if line.endswith("\n")]
            if complete != lines:
                path.write_text("".join(complete), encoding="utf-8")
            for modality, name, digest in csv.reader(complete):
                self.known[modality, name] = digest

    def add(self, modality: str, name: str, digest: str) -> None:
        """Appends a line for a sequence that has been written."""
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow([modality, name, digest])


def _extract_clip(
    output: pathlib.Path, clip: Clip, extractors: Mapping[str, Extractor], digests: _SourceDigests
) -> int:
    """Computes the missing sequences of a clip; returns their number."""
    computed = 0
    for modality, extractor in extractors.items():
        path, digest = _path(output, modality, clip), clip.digest(modality)
        if path.is_file() and digests.known.get((modality, clip.id)) == digest:
            continue
        sequence = np.asarray(extractor(clip), dtype=np.float32)
        if sequence.ndim != 2 or not sequence.size or not np.isfinite(sequence).all():
            values = "" if np.isfinite(sequence).all() else " with NaN or infinity"
            raise ValueError(
                f"{extractor.name} must return finite numbers of shape (steps, dim), at least one "
                f"of each. Received: shape {sequence.shape}{values}."
            )
        if modality == "text" and (tokens := getattr(extractor, "tokens", None)):
            _save(_path(output, TEXT_BERT, clip), tokens(clip))
        _save(path, sequence)
        digests.add(modality, clip.id, digest)
        computed += 1
    return computed


def _path(output: pathlib.Path, key: str, clip: Clip) -> pathlib.Path:
    return output / key / clip.video_id / f"{clip.clip_id}.npy"


def _save(path: pathlib.Path, array: np.ndarray) -> None:
    stream = io.BytesIO()  # NumPy writing to a full disk raises an error without its reason
    np.save(stream, array, allow_pickle=False)
    with whole(path) as temporary:
        temporary.write_bytes(stream.getvalue())


def _split(
    output: pathlib.Path,
    pairs: Sequence[tuple[Clip, Line]],
    all_pairs: Sequence[tuple[Clip, Line]],
    extractors: Mapping[str, Extractor],
) -> dict[str, Any]:
    """One split in MMSA's schema; sequences are padded to the longest of all splits."""
    clips, lines = [clip for clip, _ in pairs], [line for _, line in pairs]
    # Integers >= 0 are classes, as in a folder of own data.
    classes = all(re.fullmatch(r"\d{1,4}", line["label"]) for _, line in all_pairs)
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
            content[modality] = np.zeros((len(clips), 1, 1), dtype=np.float32)
            content[f"{modality}_lengths"] = [0] * len(clips)
            continue
        shapes = [_shape(output, modality, clip) for clip, _ in all_pairs]
        longest, dim = max(steps for steps, _ in shapes), shapes[0][1]
        sequences = [np.load(_path(output, modality, clip)) for clip in clips]
        padded = np.zeros((len(clips), longest, dim), dtype=np.float32)
        for row, sequence in enumerate(sequences):
            padded[row, : len(sequence)] = sequence
        content[modality] = padded
        content[f"{modality}_lengths"] = [len(sequence) for sequence in sequences]
    if all(_path(output, TEXT_BERT, clip).is_file() for clip, _ in all_pairs):
        content[TEXT_BERT] = np.stack([np.load(_path(output, TEXT_BERT, clip)) for clip in clips])
    return content


def _shape(output: pathlib.Path, modality: str, clip: Clip) -> tuple[int, int]:
    steps, dim = np.load(_path(output, modality, clip), mmap_mode="r").shape
    return steps, dim


def _write_names(output: pathlib.Path, extractors: Mapping[str, Extractor]) -> None:
    """Writes the extractors' names; raises if earlier features are of others."""
    path = output / "extractors.json"
    names = {modality: str(extractor.name) for modality, extractor in extractors.items()}
    if path.is_file():
        before = json.loads(path.read_text())
        other = {m: before[m] for m in names if before.get(m, names[m]) != names[m]}
        if other:
            raise ValueError(
                f"{output} must have been made by the same extractors. There: {other}. "
                f"Received: {names}. Choose another folder."
            )
        names = {**before, **names}
    with whole(path) as temporary:
        temporary.write_text(json.dumps(names, indent=2, sort_keys=True))


def _write_table(path: pathlib.Path, columns: Sequence[str], rows: Sequence[Line]) -> None:
    with whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
