"""Pickles and .npz of features: with splits, in MMSA's or MulT's schema; clips to predict."""

import pathlib
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .. import columns, files, formats, gaps, mmsa, mult, npy_folder, tables, unlabelled
from ..cmu_mosi import word_lists
from ..describing import describe
from ..limits import DataError, Problems
from ..segments import MODALITIES, TEXT_BERT, UNIMODAL, Segments, split_names, warn_narrow
from .mosi import ListsReader
from .source import LABELS, Reader, Source, command, own_command


class SegmentsReader:
    """A pickle or .npz with splits."""

    def recognises(self, source: Source) -> bool:
        held = source.content
        return (
            isinstance(held, Mapping)
            and bool(split_names(held))
            and not word_lists.is_mag_bert(held)
        )

    def kind(self, source: Source) -> str:
        first = next(iter(_splits(source).values()), {})
        if mult.recognises(first):
            return "segments in the layout of MulT"
        return "segments in the schema of MMSA and Self-MM"

    def holds(self, source: Source) -> list[str]:
        lines = []
        for split, raw in _splits(source).items():
            ids = raw.get("id")
            rows = len(ids) if isinstance(ids, list | tuple | np.ndarray) and np.ndim(ids) else 0
            lines.append(f"{split}: {rows} segments")
            for key in sorted(map(str, raw)):
                lines.append(f"  {key:<22}{describe(raw[key])}{_range(key, raw[key])}")
        return lines

    def commands(self, source: Source) -> list[str]:
        return _commands(source.path, self.read(source))

    def read(self, source: Source) -> dict[str, Segments]:
        return mmsa.check(formats.place(source.path), source.content)


class SegmentsFolderReader:
    """A folder of such pickles, as MMSA publishes it, or its parent, which contains `Processed`."""

    def recognises(self, source: Source) -> bool:
        if not source.is_folder or npy_folder.arrays_in(source.path):
            return False
        problems = Problems()
        for pickle in _pickles(source.path):
            with problems.noted():
                if _reader(Source(pickle)) is not None:
                    return True
        problems.raise_any()
        return False

    def kind(self, source: Source) -> str:
        return "a folder of feature files"

    def holds(self, source: Source) -> list[str]:
        return [str(path.relative_to(source.path)) for path in _pickles(source.path)]

    def commands(self, source: Source) -> list[str]:
        problems, commands = Problems(), []
        for path in _pickles(source.path):
            with problems.noted():
                pickle = Source(path)
                reader = _reader(pickle)
                commands += [] if reader is None else reader.commands(pickle)
        problems.raise_any()
        return commands


def _reader(source: Source) -> Reader | None:
    """Returns the reader of a pickle with splits, `None` if none recognises it."""
    readers: tuple[Reader, ...] = (SegmentsReader(), ListsReader())
    return next((reader for reader in readers if reader.recognises(source)), None)


class ClipsReader:
    """Clips without splits or labels: a pickle, a .npz, a folder of .npy."""

    def recognises(self, source: Source) -> bool:
        if not source.is_folder or source.content is not None:
            return unlabelled.recognises(source.content)
        table = files.find(source.path, LABELS)
        if not npy_folder.arrays_in(source.path):
            return False
        return not table.is_file() or not _has_labels(table)

    def kind(self, source: Source) -> str:
        return "clips to predict"

    def holds(self, source: Source) -> list[str]:
        if source.is_folder and source.content is None:
            return npy_folder.arrays_in(source.path)
        return [f"{key:<22}{describe(value)}" for key, value in sorted(source.content.items())]

    def commands(self, source: Source) -> list[str]:
        if source.is_folder and source.content is None:
            clips = unlabelled.read(source.path)
        else:
            clips = unlabelled.of_content(formats.place(source.path), source.content)
        problems = Problems()
        for name in set(clips.features) & set(MODALITIES):
            for row in range(len(clips)):
                with problems.noted():
                    clips.sequence(name, row)
        problems.raise_any()
        arrays = {
            name: array
            for name, array in clips.features.items()
            if name != TEXT_BERT and isinstance(array, np.ndarray) and array.dtype.kind == "f"
        }
        lengths = {f"{name}_length": array for name, array in clips.lengths.items()}
        source.gaps = gaps.of([arrays | lengths], arrays)
        return [f"keras-m3s predict RUN {shlex.quote(str(source.path))}"]


def _splits(source: Source) -> dict[str, Mapping[Any, Any]]:
    """Returns the splits that are dicts, under the names used in this package."""
    held = source.content
    found = {split: held[key] for split, key in split_names(held).items()}
    return {split: raw for split, raw in found.items() if isinstance(raw, Mapping)}


def _range(key: str, value: Any) -> str:
    if "labels" not in key:
        return ""
    try:
        numbers = columns.numbers("", key, value)
    except DataError:
        return ""
    rated = numbers[np.isfinite(numbers)]
    return f", from {rated.min():g} to {rated.max():g}" if rated.size else ", none of them a number"


def _pickles(folder: pathlib.Path) -> list[pathlib.Path]:
    return files.pickles_in(folder) or files.pickles_in(files.find(folder, "Processed"))


def _has_labels(table: pathlib.Path) -> bool:
    try:
        return "label" in tables.read(table, ("video_id", "clip_id"))[0]
    except DataError:
        return True  # and then that error is told


def _commands(path: pathlib.Path, splits: Mapping[str, Segments]) -> list[str]:
    """Yields the commands that read a feature file in its folder; each has been tried."""
    for dataset in _likely(path, splits):
        builder = _builders()[dataset]
        default = builder.DEFAULT_BUILDER_CONFIG_NAME
        for name, config in builder.builder_configs.items():
            try:
                if builder.find(config, path.parent) != [path]:
                    continue
                builder.check(config, path.name, splits)
            except (DataError, FileNotFoundError):
                continue
            return [command(dataset, path.parent, None if name == default else name)]
    warn_narrow(formats.place(path), splits)
    return [own_command(path)]


def _builders() -> dict[str, Any]:
    # With TFDS, which takes a second to import: only where one of them is likely.
    from ..ch_sims.ch_sims_dataset_builder import ChSims
    from ..cmu_mosi.cmu_mosi_dataset_builder import CmuMosi

    return {"ch_sims": ChSims, "cmu_mosi": CmuMosi}


def _likely(path: pathlib.Path, splits: Mapping[str, Segments]) -> Iterator[str]:
    """Guesses a file's data sets from its sizes, its labels, its name and that of its folder."""
    sizes = {split: len(segments) for split, segments in splits.items()}
    names = [part.casefold() for part in path.resolve().parts[-3:]]
    if splits["train"].labels.dtype != np.float32:
        return
    bound = max(float(np.abs(segments.labels).max()) for segments in splits.values())
    rated = len(splits["train"].unimodal) == len(UNIMODAL)
    sims = (
        rated or sizes == files.PUBLISHED_SIZES["ch_sims"] or any("sims" in name for name in names)
    )
    if bound <= 1 and sims:
        yield "ch_sims"
    if sizes == files.PUBLISHED_SIZES["cmu_mosi"] or any("mosi" in name for name in names):
        yield "cmu_mosi"
