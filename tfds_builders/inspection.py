"""What a file holds and what is wrong with it: all there is to say, not just the first error."""

import dataclasses
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import hdf5, mmsa, npy, npy_folder, pickles
from .mmsa import MODALITIES, SPLITS, UNIMODAL
from .pickles import DataError

SIMS = {f"regression_labels_{letter}" for letter in UNIMODAL.values()}


@dataclasses.dataclass
class Found:
    """What was found out.

    Attributes:
        kind: What the file is.
        holds: Lines on its content.
        problems: What must be mended before it can be used.
        notes: What to know, and what would be repaired and counted when it is read.
        reader: The command that reads it; empty where there is none.
    """

    kind: str
    holds: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    reader: str = ""


def inspect(path: Any) -> Found:
    """Looks at a file or a folder; no code in it runs.

    Args:
        path: A pickle, .npz, .npy, HDF5 or .csd file, or a folder.

    Raises:
        FileNotFoundError: there is nothing.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"A file or a folder must lie at the path given. Received: {path}")
    try:
        if path.is_dir():
            return _folder(path)
        if path.suffix in (".csd", ".h5", ".hdf5"):
            return _hdf5(path)
        if path.suffix == ".npy":
            return Found("a numpy array", [mmsa.describe(npy.mapped(path))])
        if path.suffix == ".npz":
            content: Any = mmsa.nested(npy.load_archive(path))
        else:
            content = pickles.load(path)
    except DataError as error:
        return Found("a file that cannot be read", problems=[str(error)])
    if isinstance(content, dict) and set(content) & set(SPLITS):
        return _mmsa(path, content)
    if isinstance(content, list) and content:
        return _word_list(path, content)
    return Found(
        "no file of a kind that is known",
        [mmsa.describe(content)],
        [f"It must be a dict of {SPLITS}, or a list of segments as MISA and MMIM write it."],
    )


def _mmsa(path: pathlib.Path, content: dict[str, Any]) -> Found:
    found = Found("segments in the schema of MMSA and Self-MM")
    lacking = [split for split in SPLITS if split not in content]
    if lacking:
        found.problems.append(f"These splits are not there: {lacking}.")
    ids: dict[str, list[str]] = {}
    labels = []
    keys: set[str] = set()
    for split in SPLITS:
        raw = content.get(split)
        if not isinstance(raw, dict):
            if split in content:
                found.problems.append(f"{split} must be a dict: it is {mmsa.describe(raw)}.")
            continue
        keys |= set(map(str, raw))
        ids[split] = [str(one) for one in raw["id"]] if _countable(raw.get("id")) else []
        _mmsa_split(found, split, raw, ids[split])
        if _countable(raw.get("regression_labels")):
            labels.append(np.asarray(raw["regression_labels"], dtype=object))
    _shared(found, ids)
    bound = _bound(labels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            mmsa.check(path.name, content)
    except DataError as error:
        found.problems.append(f"What reading it says first: {error}")
    sizes = tuple(len(ids.get(split, ())) for split in SPLITS)
    if keys >= SIMS and bound <= 1:
        found.reader = f"keras-m3s prepare ch_sims --manual-dir {path.parent}"
    elif sizes == (1284, 229, 686):
        found.reader = f"keras-m3s prepare cmu_mosi --manual-dir {path.parent}"
    else:
        found.reader = f"keras-m3s prepare --from {path} --name NAME"
    return found


def _countable(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _bound(labels: list[Any]) -> float:
    try:
        return float(np.nanmax(np.abs(np.concatenate(labels).astype(float))))
    except (ValueError, TypeError):
        return np.inf


def _mmsa_split(found: Found, split: str, raw: dict[str, Any], ids: list[str]) -> None:
    found.holds.append(f"{split}: {len(ids)} segments")
    for key in sorted(raw):
        found.holds.append(f"  {key:<22}{mmsa.describe(raw[key])}{_range(key, raw[key])}")
        if _countable(raw[key]) and len(raw[key]) != len(ids):
            found.problems.append(
                f"{split}: `{key}` has {len(raw[key])} entries for {len(ids)} ids."
            )
    for key in sorted({"id", *MODALITIES} - set(raw)):
        found.problems.append(f"{split}: `{key}` is not there.")
    if not ids:
        found.problems.append(f"{split}: it is empty.")
    twice = len(ids) - len(set(ids))
    if twice:
        found.problems.append(f"{split}: {twice} ids are there more than once.")
    for key, value in raw.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            continue
        for what, test in (("NaN", np.isnan), ("inf", np.isposinf), ("-inf", np.isneginf)):
            count = test(value).sum()
            if not count:
                continue
            repaired = key == "audio" and what == "-inf"
            line = f"{split}: `{key}` has {count} values of {what}"
            if repaired:
                found.notes.append(f"{line}, which become 0 when it is read.")
            else:
                found.problems.append(f"{line}.")
    for name in MODALITIES:
        _lengths(found, split, name, raw)


def _lengths(found: Found, split: str, name: str, raw: Mapping[str, Any]) -> None:
    array, lengths = raw.get(name), raw.get(f"{name}_lengths")
    if not isinstance(array, np.ndarray) or array.ndim != 3 or not _countable(lengths):
        return
    try:
        numbers = np.asarray(lengths, dtype=float).reshape(-1)
    except (TypeError, ValueError):
        found.problems.append(f"{split}: `{name}_lengths` are no numbers.")
        return
    beyond = int(((numbers > array.shape[1]) | (numbers < 0)).sum())
    if beyond:
        found.problems.append(
            f"{split}: {beyond} of `{name}_lengths` lie outside 0..{array.shape[1]}, the steps of "
            "the array."
        )


def _range(key: str, value: Any) -> str:
    if "labels" not in key or not _countable(value) or not len(value):
        return ""
    try:
        numbers = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return ""
    return f", from {np.nanmin(numbers):g} to {np.nanmax(numbers):g}"


def _shared(found: Found, ids: Mapping[str, list[str]]) -> None:
    for i, first in enumerate(ids):
        for second in list(ids)[i + 1 :]:
            shared = set(ids[first]) & set(ids[second])
            if shared:
                found.problems.append(
                    f"{first} and {second} share {len(shared)} ids, {sorted(shared)[0]!r} for one."
                )
            videos = [{one.rpartition("$_$")[0] or one for one in ids[s]} for s in (first, second)]
            if videos[0] & videos[1] and not shared:
                found.notes.append(
                    f"{first} and {second} share {len(videos[0] & videos[1])} videos: scores on "
                    f"{second} will be too good."
                )


def _word_list(path: pathlib.Path, content: list[Any]) -> Found:
    from .cmu_mosi import word_lists

    found = Found(f"a list of {len(content)} segments, as MISA and MMIM write it")
    first = content[0]
    if isinstance(first, tuple | list) and first and isinstance(first[0], tuple | list):
        found.holds += [f"  part {i}: {mmsa.describe(part)}" for i, part in enumerate(first[0])]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            word_lists.check(path.name, content)
        found.notes += [str(one.message) for one in caught]
    except DataError as error:
        found.problems.append(str(error))
    found.reader = f"keras-m3s prepare cmu_mosi --config word_lists --manual-dir {path.parent}"
    return found


def _hdf5(path: pathlib.Path) -> Found:
    with hdf5.opened(path) as file:
        names = hdf5.names(file, path.name)
        if path.suffix == ".csd":
            found = Found("a computational sequence of the CMU-MultimodalSDK")
            if len(names) != 1:
                found.problems.append(f"It must hold one group. It holds {names}.")
                return found
            data = hdf5.member(hdf5.member(file, names[0], path.name), "data", path.name)
            videos = hdf5.names(data, f"{path.name}: `data`")
            found.holds.append(f"{names}: {len(videos)} videos")
            if not videos:
                found.problems.append("There is no video in `data`.")
            for video in videos:
                _checked(found, data, video)
            start = "keras-m3s prepare cmu_mosi --config csd_aligned"
            found.reader = f"{start} --manual-dir {path.parent}"
            return found
        found = Found("HDF5 with an array for each utterance, as MMIN's authors share IEMOCAP")
        found.holds.append(f"{len(names)} utterances")
        if not names:
            found.problems.append("There is no utterance.")
        shapes = set()
        for name in names:
            try:
                array = hdf5.array(file, name, path.name)
            except DataError as error:
                found.problems.append(str(error))
                continue
            shapes.add(array.shape[1:])
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                found.problems.append(f"`{name}` has values of NaN or inf.")
        found.holds.append(f"columns: {sorted(shapes)}")
        if len(shapes) > 1:
            found.problems.append("Utterances differ in their columns.")
        found.reader = f"keras-m3s prepare iemocap --manual-dir {path.parent.parent}"
        return found


def _checked(found: Found, data: Any, video: str) -> None:
    try:
        group = hdf5.member(data, video, "data")
        rows = [len(hdf5.array(group, name, video)) for name in ("intervals", "features")]
        if rows[0] != rows[1]:
            found.problems.append(f"{video}: {rows[0]} intervals for {rows[1]} rows.")
    except DataError as error:
        found.problems.append(str(error))


def _folder(path: pathlib.Path) -> Found:
    if (path / npy_folder.LABELS).is_file():
        found = Found("own data: arrays with label.csv")
        try:
            splits = npy_folder.read(path)
            for split, segments in splits.items():
                low, high = segments.labels.min(), segments.labels.max()
                found.holds.append(
                    f"{split}: {len(segments)} segments, labels from {low:g} to {high:g}"
                )
                for name in MODALITIES:
                    for row in range(len(segments)):
                        segments.features[name][row]
        except (DataError, FileNotFoundError) as error:
            found.problems.append(str(error))
        found.reader = f"keras-m3s prepare --from {path} --name NAME"
        return found
    if (path / "target").is_dir():
        folds = sorted(p.name for p in (path / "target").iterdir())
        return Found(
            "IEMOCAP as MMIN's authors share it",
            [f"folds: {folds}"],
            reader=f"keras-m3s prepare iemocap --manual-dir {path}",
        )
    names = sorted(p.name for p in path.iterdir())
    return Found("a folder", names[:20], [f"There is no {npy_folder.LABELS} and no target/ in it."])
