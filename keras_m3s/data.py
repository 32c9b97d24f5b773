"""Data sets as arrays: by name through TFDS, or straight from a feature file.

    splits = load("synthetic_msa")
    splits = load("cmu_mosi", manual_dir="~/MOSI/Processed", config="unaligned_50")
    splits = load("features/unaligned_50.pkl")

Each gives a dict of `train`, `valid`, `test`. Batches are made by `keras_m3s.batches`. Neither
Keras nor TensorFlow is imported here, TFDS only when it is used.
"""

import contextlib
import dataclasses
import hashlib
import importlib
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from keras_m3s.modalities import INDEX, MODALITIES, TEXT_BERT, length_key
from keras_m3s.utils import atomic_files

DATASETS = {
    "ch_sims": "ChSims",
    "cmu_mosi": "CmuMosi",
    "iemocap": "Iemocap",
    "synthetic_msa": "SyntheticMsa",
}
"""Data set -> class of its builder in `tfds_builders/{name}/{name}_dataset_builder.py`."""

SPLITS = ("train", "valid", "test")

_FILE_ENDINGS = (".pkl", ".pickle", ".npz")


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """One split in memory.

    Attributes:
        name: `train`, `valid` or `test`.
        features: `audio`, `vision`, `text` float32 `(n, steps, dim)`; `text_bert` int32
            `(n, 3, steps)` where there is one; `audio_length`, `vision_length`, `text_length` and
            `index` int32 `(n,)`. `index` is the row: 0 .. n-1.
        labels: Float32 `(n,)` for regression, int32 `(n,)` for classes.
        ids: `n` names, `video$_$clip`.
        unimodal: Modality -> float32 `(n,)`, labels of it alone, where the data set has them
            (CH-SIMS). They are not in batches: no base model learns from them.
    """

    name: str
    features: dict[str, np.ndarray]
    labels: np.ndarray
    ids: list[str]
    unimodal: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> dict[str, np.ndarray]:
        """Modality -> true steps int32 `(n,)`, where the data says so."""
        keys = {modality: length_key(modality) for modality in MODALITIES}
        return {m: self.features[key] for m, key in keys.items() if key in self.features}

    def take(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Features of some rows, in their order."""
        return {key: array[rows] for key, array in self.features.items()}

    def fingerprint(self) -> str:
        """SHA-256 of all it holds, hexadecimal, to tell data apart that goes by one name."""
        digest = hashlib.sha256("\n".join((self.name, *self.ids)).encode())
        labels = {f"label_{name}": array for name, array in self.unimodal.items()}
        for name, array in sorted({**self.features, **labels, "label": self.labels}.items()):
            digest.update(f"{name} {array.shape} {array.dtype.str}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    config: str | None = None,
) -> dict[str, Split]:
    """Reads a data set into memory, after preparing it if need be.

    Args:
        name: One of `DATASETS`, the name that `prepare_own` was given, or the path of a pickle or
            .npz in MMSA's schema.
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
    if path.suffix in _FILE_ENDINGS:
        return {
            split: _as_split(
                split, segments.features, segments.labels, segments.ids, segments.unimodal
            )
            for split, segments in _builders_module("mmsa").read(path).items()
        }
    builder = prepare(str(name), data_dir, manual_dir, config)
    return {split: _read_split(builder, split) for split in SPLITS}


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
    if name not in DATASETS:
        return _own(name, data_dir, config)
    module = _builders_module(f"{name}.{name}_dataset_builder")
    builder_class = getattr(module, DATASETS[name])
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
        name: Lower case, digits, underscores; none of `DATASETS`.
        source: A pickle or .npz in MMSA's schema, or a folder of .npy with label.csv, as
            `tfds_builders.npy_folder` describes it.
        data_dir: As in `load`.

    Returns:
        The TFDS builder, prepared. The same source again is found, not made again.

    Raises:
        ValueError: the name is not usable, or taken by other data; the source breaks its schema.
        FileNotFoundError: a file is not where it must be.
    """
    own = _builders_module("own_data")
    own.check_name(name, DATASETS)
    source = pathlib.Path(source).expanduser()
    if (_data_folder(data_dir) / name).is_dir():
        builder = _own(name, data_dir, None)
        digest = _builders_module("files").digest(own.sources(source))
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


def inspect(path: str | os.PathLike[str]) -> Any:
    """What a file or folder holds, what is wrong with it, which data set reads it.

    Args:
        path: Any file that `load`, `prepare` or `prepare_own` could read.

    Returns:
        A `tfds_builders.inspection.Found`: `kind`, lines of `holds`, `problems`, `notes`, and the
        command that reads it, `reader`.

    Raises:
        FileNotFoundError: there is nothing.
    """
    return _builders_module("inspection").inspect(pathlib.Path(path).expanduser())


def unlabelled(path: str | os.PathLike[str], split: str | None = None) -> Any:
    """Features to predict from: no labels needed, any modality absent, any clip or step missing.

    Args:
        path: A .pkl or .npz in MMSA's schema, with splits or without, or a folder of .npy; see
            `tfds_builders.unlabelled`.
        split: Which split of a file that has such; `None` for all.

    Returns:
        A `tfds_builders.unlabelled.Unlabelled`: `ids`, `features`, `lengths`.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: it is no such file.
    """
    return _builders_module("unlabelled").read(pathlib.Path(path).expanduser(), split)


def label_lines(folder: str | os.PathLike[str]) -> list[dict[str, str]]:
    """The lines of a folder's `label.csv`, checked; see `tfds_builders.npy_folder`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no such table.
    """
    lines: list[dict[str, str]] = _builders_module("npy_folder").lines(folder)
    return lines


def _own(name: str, data_dir: str | os.PathLike[str] | None, config: str | None) -> Any:
    """A data set that `prepare_own` made."""
    versions = sorted((_data_folder(data_dir) / name).glob("*/dataset_info.json"))
    if not versions:
        raise ValueError(
            f"`name` must be one of the data sets {sorted(DATASETS)}, one that was made with "
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
    digest = _builders_module("files").digest(builder.sources(pathlib.Path(manual_dir)))
    if digest != prepared["sha256"]:
        raise ValueError(
            f"{builder.data_dir} must hold what {manual_dir} holds, but was made from another "
            f"{prepared['name']}. Received: SHA-256 {digest}, there {prepared['sha256']}. "
            "Remove that folder to make it anew, or pass another `data_dir`."
        )


def _read_split(builder: Any, split: str) -> Split:
    """Fills arrays made once, example by example, so that nothing is held twice."""
    size = builder.info.splits[split].num_examples
    lone = [f"label_{modality}" for modality in MODALITIES]
    keys = (*map(length_key, MODALITIES), *lone, "label")
    ids = [""] * size

    def numbered() -> Iterator[tuple[int, Mapping[str, Any]]]:
        for example in _examples(builder, split):
            row = int(example[INDEX])
            ids[row] = example["id"].decode()
            yield row, example

    arrays = filled(builder, numbered(), size, keys)
    if not all(ids):
        raise ValueError(
            f"{builder.data_dir} must hold {size} segments in {split}. Received: "
            f"{sum(map(bool, ids))}. Remove that folder to make it anew."
        )
    unimodal = {
        m: arrays.pop(key) for m, key in zip(MODALITIES, lone, strict=True) if key in arrays
    }
    return _as_split(split, arrays, arrays.pop("label"), ids, unimodal)


def filled(
    builder: Any,
    examples: Iterable[tuple[int, Mapping[str, Any]]],
    size: int,
    keys: Iterable[str] = (),
) -> dict[str, np.ndarray]:
    """Arrays of features from examples of a prepared data set.

    Sequences that are stored without padding are padded to the longest of all splits.

    Args:
        builder: Says what the features are.
        examples: Row and example; rows that do not come stay 0.
        size: Number of rows.
        keys: What else than sequences and tokens to take.

    Returns:
        Feature -> array `(size, ...)`.
    """
    kinds, said = builder.info.features, builder.info.metadata or {}
    steps, absent = said.get("steps", {}), said.get("absent", ())
    arrays: dict[str, np.ndarray] = {}
    wanted = (*MODALITIES, TEXT_BERT, *keys)
    for row, example in examples:
        for key in wanted:
            value = np.asarray(example.get(key, ()))
            if not value.size or key in absent:  # `text_bert` of width 0 stands for none
                continue
            if key not in arrays:
                shape = (steps[key], *value.shape[1:]) if key in steps else value.shape
                arrays[key] = np.zeros((size, *shape), dtype=memory_type(kinds[key].np_dtype))
            if key in steps:
                arrays[key][row, : len(value)] = value
            else:
                arrays[key][row] = value
    return arrays


def memory_type(stored: Any) -> Any:
    """What a stored type is in memory: TFDS keeps classes as int64."""
    return np.int32 if stored == np.int64 else stored


def _examples(builder: Any, split: str) -> Iterable[Mapping[str, Any]]:
    if builder.info.file_format.value == "array_record":
        source: Iterable[Mapping[str, Any]] = builder.as_data_source(split)
        return source
    import tensorflow as tf
    import tensorflow_datasets as tfds

    # TensorFlow only reads here: it must not take the memory of a device that another backend uses.
    for device in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # in use already, by the caller's own decision
            tf.config.experimental.set_memory_growth(device, True)
    read = tfds.ReadConfig(try_autocache=False)
    examples: Iterable[Mapping[str, Any]] = tfds.as_numpy(
        builder.as_dataset(split=split, read_config=read)
    )
    return examples


def _as_split(
    name: str,
    features: Mapping[str, np.ndarray],
    labels: np.ndarray,
    ids: list[str],
    unimodal: Mapping[str, np.ndarray],
) -> Split:
    index = np.arange(len(ids), dtype=np.int32)
    return Split(name, {**features, INDEX: index}, labels, ids, dict(unimodal))


def _expanded(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else str(pathlib.Path(path).expanduser())


def _builders_module(name: str) -> Any:
    """A module of `tfds_builders`, which installs inside this package.

    In a checkout it lies beside it and goes by its own name. TFDS registers a builder once, so only
    one of the two names may be imported in a process.
    """
    if "tfds_builders" not in sys.modules:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module("keras_m3s.tfds_builders")
            return importlib.import_module(f"keras_m3s.tfds_builders.{name}")
    return importlib.import_module(f"tfds_builders.{name}")
