"""Data sets as arrays: by name through TFDS, or straight from a feature file.

    splits = load("synthetic_msa")
    splits = load("cmu_mosi", manual_dir="~/MOSI/Processed", config="unaligned_50")
    splits = load("features/unaligned_50.pkl")

Each gives a dict of `train`, `valid`, `test`. Batches are made by `keras_m3s.data.batches`. Neither
Keras nor TensorFlow is imported here, TFDS only when it is used.
"""

import contextlib
import importlib
import os
import pathlib
import sys
from typing import Any

from keras_m3s.data import builders
from keras_m3s.data.decoding import read_split
from keras_m3s.data.split import SPLITS, Split, as_split
from keras_m3s.registry import datasets
from keras_m3s.utils import atomic_files


def load(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    config: str | None = None,
) -> dict[str, Split]:
    """Reads a data set into memory, after preparing it if need be.

    Args:
        name: A name in `keras_m3s.registry.datasets`, the name that `prepare_own` was given, or the
            path of a pickle or .npz in MMSA's schema.
        data_dir: Where TFDS keeps prepared data sets, by default `~/tensorflow_datasets`.
        manual_dir: Folder of the files a data set is made from.
        config: A config of the builder; by default its first.

    Returns:
        Dict with `train`, `valid`, `test`.

    Raises:
        ValueError: unknown name or config, or the file breaks the schema.
        FileNotFoundError: a file is not where it must be; the message says where.
    """
    path = pathlib.Path(name).expanduser()
    if datasets.is_file(str(name)):
        return {
            split: as_split(
                split, segments.features, segments.labels, segments.ids, segments.unimodal
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
) -> Any:
    """Writes a data set in TFDS form, unless it is there already. No network is used.

    Args: as in `load`.

    Returns:
        The TFDS builder, prepared; `builder.data_dir` is where the data lies.

    Raises: as `load`.
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
    if _is_prepared(builder):
        _check_source(builder, _expanded(manual_dir))
        return builder
    try:
        _prepare(builder, _expanded(manual_dir))
    except OSError:
        builder = builder_class(data_dir=_expanded(data_dir), config=config)
        if not _is_prepared(builder):  # else another process was faster
            raise
    return builder


def prepare_own(
    name: str,
    source: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
) -> Any:
    """Makes a data set of anybody's own, which `load` then takes by its name.

    Args:
        name: Lower case, digits, underscores; none of `keras_m3s.registry.datasets`.
        source: A pickle or .npz in MMSA's schema, or a folder of .npy with label.csv, as
            `tfds_builders.npy_folder` describes it.
        data_dir: As in `load`.

    Returns:
        The TFDS builder, prepared. The same source again is found, not made again.

    Raises:
        ValueError: the name is not usable, or taken by other data; the source breaks its schema.
        FileNotFoundError: a file is not where it must be.
    """
    own = builders.module("own_data")
    own.check_name(name, datasets.CARDS)
    source = pathlib.Path(source).expanduser()
    if (_data_folder(data_dir) / name).is_dir():
        builder = _own(name, data_dir, None)
        digest = builders.module("files").digest(own.sources(source))
        if digest != builder.info.metadata["source"]["sha256"]:
            raise ValueError(
                f"{name!r} must be a new name, or the data that has it. Received: {source}, while "
                f"{builder.data_dir} was made from another {builder.info.metadata['source']}. "
                "Remove that folder, or take another name."
            )
        return builder
    builder = own.builder(name, source, str(_data_folder(data_dir)))
    try:
        _prepare(builder, None)
    except BaseException:
        with contextlib.suppress(OSError):  # empty after TFDS has cleaned up
            (_data_folder(data_dir) / name).rmdir()
        raise
    return builder


def _own(name: str, data_dir: str | os.PathLike[str] | None, config: str | None) -> Any:
    """A data set that `prepare_own` made."""
    versions = sorted((_data_folder(data_dir) / name).glob("*/dataset_info.json"))
    if not versions:
        raise ValueError(
            f"`name` must be one of the data sets {sorted(datasets.CARDS)}, one that was made with "
            f"`keras-m3s prepare --from` in {_data_folder(data_dir)}, or the path of a .pkl or "
            f".npz file. Received: {name!r}."
        )
    if config is not None:
        raise ValueError(
            f"`config` must be left out: {name} has no configs. Received: config={config!r}."
        )
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(versions[-1].parent)


def _data_folder(data_dir: str | os.PathLike[str] | None) -> pathlib.Path:
    usual = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    return pathlib.Path(data_dir or usual).expanduser()


def _is_prepared(builder: Any) -> bool:
    # `builder.is_prepared` answers the same, but warns on the way.
    return (pathlib.Path(builder.data_dir) / "dataset_info.json").is_file()


def _prepare(builder: Any, manual_dir: str | None) -> None:
    import tensorflow_datasets as tfds

    # TFDS prints to stdout, which belongs to the results of a command.
    with contextlib.redirect_stdout(sys.stderr), atomic_files.explained(builder.data_dir):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                manual_dir=manual_dir, compute_stats=tfds.download.ComputeStatsMode.SKIP
            ),
            file_format=_file_format(),
        )


def _file_format() -> str:
    """ArrayRecord needs no TensorFlow, which is slow to import; TFDS brings it on Linux only."""
    try:
        importlib.import_module("array_record")
    except ImportError:
        return "tfrecord"
    return "array_record"


def _check_source(builder: Any, manual_dir: str | None) -> None:
    """A prepared data set must come from the file that the caller points at."""
    prepared = (builder.info.metadata or {}).get("source")
    if manual_dir is None or prepared is None:
        return
    digest = builders.module("files").digest(builder.sources(pathlib.Path(manual_dir)))
    if digest != prepared["sha256"]:
        raise ValueError(
            f"{builder.data_dir} must hold what {manual_dir} holds, but was made from another "
            f"{prepared['name']}. Received: SHA-256 {digest}, there {prepared['sha256']}. "
            "Remove that folder to make it anew, or pass another `data_dir`."
        )


def _expanded(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else str(pathlib.Path(path).expanduser())
