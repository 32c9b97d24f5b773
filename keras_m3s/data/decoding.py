"""A prepared TFDS data set to arrays."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from keras_m3s.data.split import Split, as_split
from keras_m3s.modalities import INDEX, MODALITIES, TEXT_BERT, length_key


def read_split(builder: Any, split: str) -> Split:
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
    return as_split(split, arrays, arrays.pop("label"), ids, unimodal)


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
