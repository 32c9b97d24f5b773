"""Data sets as arrays: by name through TFDS, or straight from a feature file.

    splits = load("synthetic_msa")
    splits = load("cmu_mosi", manual_dir="~/MOSI/Processed", config="unaligned_50")
    splits = load("features/unaligned_50.pkl")

Each returns a dict of `train`, `valid`, `test`, which `keras_m3s.data.batches` makes batches of.
This module imports neither Keras nor TensorFlow, and TFDS only on use.
"""

import contextlib
import importlib
import os
import pathlib
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_m3s.data import builders
from keras_m3s.data.decoding import read_split
from keras_m3s.data.split import SPLITS, Split, as_split
from keras_m3s.registry import datasets
from keras_m3s.utils import atomic_files

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder

INFO = "dataset_info.json"
"""TFDS writes it into every data set that is complete."""


def load(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    config: str | None = None,
) -> dict[str, Split]:
    """Reads a data set into memory; prepares it first if necessary.

    Args:
        name: A name in `keras_m3s.registry.datasets`, a name given to `prepare_own`, or the path of
            a pickle or .npz, of a folder of arrays (with a `/` in it, or a `pathlib.Path`), or of a
            table's description in YAML.
        data_dir: Folder of prepared data sets; default `TFDS_DATA_DIR` or `~/tensorflow_datasets`.
        manual_dir: Folder with the files that the data set is made from.
        config: A config of the builder; default its first.

    Returns:
        Dict with `train`, `valid`, `test`.

    Raises:
        ValueError: Unknown name or config, or a file violates its schema.
        FileNotFoundError: A file is missing; the message says where it must be.
    """
    path = pathlib.Path(name).expanduser()
    if datasets.is_file(str(name)) or _is_folder(name, path):
        if config is not None:
            raise ValueError(
                f"`config` must be left out for a file. Received: config={config!r} for {path}."
            )
        return {
            split: as_split(
                split,
                _arrays(path, segments.features),
                segments.labels,
                segments.ids,
                segments.unimodal,
                segments.scores,
            )
            for split, segments in builders.module("readers").read(path).items()
        }
    builder = prepare(str(name), data_dir, manual_dir, config)
    return {split: read_split(builder, split) for split in SPLITS}


def prepare(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    config: str | None = None,
) -> "DatasetBuilder":
    """Converts a data set to TFDS's format, unless that is done already. Uses no network.

    Args:
        name: A name in `keras_m3s.registry.datasets`, or a name given to `prepare_own`.
        data_dir: As in `load`.
        manual_dir: As in `load`.
        config: As in `load`.

    Returns:
        The TFDS builder of the prepared data set; its folder is `builder.data_dir`.

    Raises: As `load`.
    """
    if name not in datasets.CARDS:
        return _own(name, data_dir, config)
    module = builders.module(f"{name}.{name}_dataset_builder")
    builder_class = getattr(module, datasets.CARDS[name].builder)
    configs = list(builder_class.builder_configs)
    if config is not None and config not in configs and hasattr(builder_class, "config_named"):
        config = builder_class.config_named(config)
    elif config is not None and config not in configs:
        raise ValueError(f"`config` of {name} must be one of {configs}. Received: {config!r}.")
    builder = builder_class(data_dir=_expanded(data_dir), config=config)
    if _is_complete(builder.data_dir):
        _check_source(builder, _expanded(manual_dir))
        return builder
    try:
        _write(builder, _expanded(manual_dir))
    except OSError:
        # Another process may have prepared it meanwhile.
        builder = builder_class(data_dir=_expanded(data_dir), config=config)
        if not _is_complete(builder.data_dir):
            raise
    return builder


def prepare_own(
    name: str,
    source: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
) -> "DatasetBuilder":
    """Converts your own data to a TFDS data set, which `load` then reads by its name.

    Preparing the same source again returns the existing data set. After an interruption it starts
    over.

    Args:
        name: Lower case letters, digits, underscores; not in `keras_m3s.registry.datasets`.
        source: A pickle or .npz in MMSA's schema or with arrays of any modalities
            (`tfds_builders.arrays`); a folder of .npy, with label.csv (`tfds_builders.npy_folder`)
            or as SPLIT/NAME.npy; a description of tables in YAML (`tfds_builders.table_layout`).
        data_dir: As in `load`.

    Returns:
        The TFDS builder of the prepared data set.

    Raises:
        ValueError: The name is invalid or belongs to other data, or the source violates its schema.
        FileNotFoundError: A file is missing.
    """
    own = builders.module("own_data")
    own.check_name(name, datasets.CARDS)
    source = pathlib.Path(source).expanduser()
    folder = _data_folder(data_dir) / name
    if complete := _complete_versions(folder):
        builder = _from_directory(complete[-1])
        digest = builders.module("files").digest(own.sources(source))
        made_from = (builder.info.metadata or {}).get("source")
        if made_from is None or digest != made_from["sha256"]:
            raise ValueError(
                f"{name!r} must be a new name, or that of the same data. Received: {source}, while "
                f"{builder.data_dir} was made from another {made_from or 'source'}. Remove that "
                "folder, or choose another name."
            )
        return builder
    builder = own.builder(name, source, str(_data_folder(data_dir)))
    try:
        _write(builder, None)
    except BaseException:
        with contextlib.suppress(OSError):  # not empty: another process writes there
            folder.rmdir()
        raise
    return builder


def _is_folder(name: str | os.PathLike[str], path: pathlib.Path) -> bool:
    """Whether a folder is meant; a word alone is the name of a data set."""
    return path.is_dir() and (isinstance(name, os.PathLike) or len(path.parts) > 1)


def _arrays(path: pathlib.Path, features: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Features that lie in memory.

    Raises:
        ValueError: They do not, but are read from files one by one.
    """
    if not all(isinstance(array, np.ndarray) for array in features.values()):
        raise ValueError(
            f"`name` must be a data set that was prepared, for the clips in {path} lie in many "
            f"files. Received: that folder. First `keras-m3s prepare --from {path} --name NAME`."
        )
    return dict(features)


def _own(
    name: str, data_dir: str | os.PathLike[str] | None, config: str | None
) -> "DatasetBuilder":
    """A data set made by `prepare_own`."""
    versions = _complete_versions(_data_folder(data_dir) / name)
    if not versions:
        raise ValueError(
            f"`name` must be one of the data sets {sorted(datasets.CARDS)}, one that was made with "
            f"`keras-m3s prepare --from` in {_data_folder(data_dir)}, or the path of a .pkl, "
            f".npz or .yaml file. Received: {name!r}."
        )
    if config is not None:
        raise ValueError(
            f"`config` must be left out: {name} has no configs. Received: config={config!r}."
        )
    return _from_directory(versions[-1])


def _from_directory(folder: pathlib.Path) -> "DatasetBuilder":
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(folder)


def _complete_versions(folder: pathlib.Path) -> list[pathlib.Path]:
    """Folders of complete versions of a data set, the newest last.

    What an interrupted preparation leaves, `incomplete.*_1.0.0`, is none of them, even if it was
    interrupted after the last file.
    """
    found = [path for path in folder.glob("*") if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    complete = [path for path in found if _is_complete(path)]
    return sorted(complete, key=lambda path: [*map(int, path.name.split("."))])


def _data_folder(data_dir: str | os.PathLike[str] | None) -> pathlib.Path:
    default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    return pathlib.Path(data_dir or default).expanduser()


def _is_complete(folder: str | os.PathLike[str]) -> bool:
    # `builder.is_prepared` returns the same, but warns.
    return (pathlib.Path(folder) / INFO).is_file()


def _write(builder: "DatasetBuilder", manual_dir: str | None) -> None:
    """Writes a data set; it appears under its version when it is complete.

    Raises:
        ValueError: The folder of the version exists, but holds other files.
        WriteError: It cannot be written.
    """
    import tensorflow_datasets as tfds

    _remove_empty(pathlib.Path(builder.data_dir))
    # TFDS prints to stdout, which is for the results of a command.
    with contextlib.redirect_stdout(sys.stderr), atomic_files.explained(builder.data_dir):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                manual_dir=manual_dir, compute_stats=tfds.download.ComputeStatsMode.SKIP
            ),
            file_format=_file_format(),
        )


def _remove_empty(folder: pathlib.Path) -> None:
    """Removes an empty folder, which TFDS would take for a data set.

    Raises:
        ValueError: It is not empty.
    """
    if not folder.is_dir() or _is_complete(folder):
        return
    if found := sorted(path.name for path in folder.iterdir()):
        raise ValueError(
            f"{folder} must hold a complete data set, with {INFO}. Received: {found[:5]}. Remove "
            "that folder, or choose another `data_dir`."
        )
    folder.rmdir()


def _file_format() -> str:
    """ArrayRecord where it is installed: reading it needs no TensorFlow, which is slow to import.

    TFDS installs it on Linux only.
    """
    try:
        importlib.import_module("array_record")
    except ImportError:
        return "tfrecord"
    return "array_record"


def _check_source(builder: "DatasetBuilder", manual_dir: str | None) -> None:
    """Raises if a prepared data set was made from other files than those in `manual_dir`."""
    made_from = (builder.info.metadata or {}).get("source")
    if manual_dir is None or made_from is None:
        return
    digest = builders.module("files").digest(builder.sources(pathlib.Path(manual_dir)))
    if digest != made_from["sha256"]:
        raise ValueError(
            f"{builder.data_dir} must hold what {manual_dir} holds, but was made from another "
            f"{made_from['name']}. Received: SHA-256 {digest}, there {made_from['sha256']}. "
            "Remove that folder to prepare it again, or pass another `data_dir`."
        )


def _expanded(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else str(pathlib.Path(path).expanduser())
