"""Prepared TFDS data sets to arrays."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from keras_m3s.data.split import SENTIMENT, Split, as_split
from keras_m3s.modalities import INDEX

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder

UNIMODAL = "label_"
"""What the names of labels of one modality alone begin with."""

NO_ARRAYS = ("id", "raw_text", INDEX)
"""Features that are not read into an array of their own."""

Example: TypeAlias = Mapping[str, Any]
"""An example as TFDS returns it: feature -> array, number or bytes."""


def read_split(builder: "DatasetBuilder", split: str) -> Split:
    """Reads a split into arrays that are allocated once, so that nothing is held twice.

    Besides `id`, `label`, `index`, `raw_text` and `label_*`, every feature of the data set is read.

    Args:
        builder: A prepared TFDS builder.
        split: `train`, `valid` or `test`.

    Raises:
        ValueError: Examples are missing.
    """
    size = builder.info.splits[split].num_examples
    keys = [key for key in builder.info.features if key not in NO_ARRAYS]
    ids = [""] * size

    def numbered() -> Iterator[tuple[int, Example]]:
        for example in _examples(builder, split):
            row = int(example[INDEX])
            ids[row] = example["id"].decode()
            yield row, example

    arrays = filled(builder, numbered(), size, keys)
    if not all(ids):
        raise ValueError(
            f"{builder.data_dir} must hold {size} segments in {split}. Received: "
            f"{sum(map(bool, ids))}. Remove that folder to prepare it again."
        )
    labels = arrays.pop("label")
    unimodal = {
        key.removeprefix(UNIMODAL): arrays.pop(key)
        for key in list(arrays)
        if key.startswith(UNIMODAL)
    }
    return as_split(split, arrays, labels, ids, unimodal, scores_task(builder))


def scores_task(builder: "DatasetBuilder") -> str:
    """Task of a data set whose labels are scores, `keras_m3s.data.split.SENTIMENT` by default."""
    return str((builder.info.metadata or {}).get("task", SENTIMENT))


def filled(
    builder: "DatasetBuilder",
    examples: Iterable[tuple[int, Example]],
    size: int,
    keys: Iterable[str],
) -> dict[str, np.ndarray]:
    """Arrays of features, filled from examples of a prepared data set.

    Sequences that are stored without padding are padded to the longest of all splits.

    Args:
        builder: A prepared TFDS builder.
        examples: Pairs of row and example; rows without an example stay 0.
        size: Number of rows.
        keys: Features to read.

    Returns:
        Feature -> array `(size, ...)`.
    """
    features, metadata = builder.info.features, builder.info.metadata or {}
    steps, absent = metadata.get("steps", {}), metadata.get("absent", ())
    arrays: dict[str, np.ndarray] = {}
    wanted = tuple(keys)
    for row, example in examples:
        for key in wanted:
            value = np.asarray(example.get(key, ()))
            if not value.size or key in absent:  # absent tokens are stored with width 0
                continue
            if key not in arrays:
                shape = (steps[key], *value.shape[1:]) if key in steps else value.shape
                arrays[key] = np.zeros((size, *shape), dtype=memory_type(features[key].np_dtype))
            if key in steps:
                arrays[key][row, : len(value)] = value
            else:
                arrays[key][row] = value
    return arrays


def memory_type(stored: np.dtype[Any] | type) -> Any:
    """Type in memory of a stored type: int32 for the int64 in which TFDS stores classes."""
    return np.int32 if stored == np.int64 else stored


def _examples(builder: "DatasetBuilder", split: str) -> Iterable[Example]:
    if builder.info.file_format.value == "array_record":
        source: Iterable[Example] = builder.as_data_source(split)
        return source
    import tensorflow as tf
    import tensorflow_datasets as tfds

    # TensorFlow only reads here; it must leave the GPU's memory to the backend in use.
    for device in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # initialized already, with the user's settings
            tf.config.experimental.set_memory_growth(device, True)
    read = tfds.ReadConfig(try_autocache=False)
    examples: Iterable[Example] = tfds.as_numpy(builder.as_dataset(split=split, read_config=read))
    return examples
