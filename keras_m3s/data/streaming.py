"""Splits larger than memory: rows are read from the prepared data set when a batch asks for them.

    splits = stream.load("iemocap", config="fold1")
    model.fit(Batches(splits["train"], 32, shuffle=True), shuffle=False)

Batches are the same, and in the same order, as from `data.load`.
"""

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_m3s.data import decoding, loading
from keras_m3s.data.split import SPLITS
from keras_m3s.modalities import INDEX, MODALITIES, length_key


class StreamedSplit:
    """One split on disk; only names, labels and lengths are in memory.

    Args:
        builder: A prepared TFDS builder, its files of a kind with random access (ArrayRecord).
        name: `train`, `valid` or `test`.

    Attributes:
        name: As given.
        labels: As in `keras_m3s.data.Split`, likewise `ids` and `unimodal`.
        lengths: Modality -> true steps int32 `(n,)`.

    Raises:
        ValueError: the files have no random access.
    """

    def __init__(self, builder: Any, name: str) -> None:
        if builder.info.file_format.value != "array_record":
            raise ValueError(
                f"{builder.data_dir} must be in the format array_record, to be read row by row. "
                f"Received: {builder.info.file_format.value}. Install `array-record`, remove that "
                "folder and prepare it anew."
            )
        from tensorflow_datasets.core.decode import SkipDecoding

        self.name, self._builder = name, builder
        self._source = builder.as_data_source(name)
        absent = (builder.info.metadata or {}).get("absent", ())
        small = [*(length_key(m) for m in MODALITIES), *(f"label_{m}" for m in MODALITIES), "id",
                 "label", INDEX]  # fmt: skip
        large = {key: SkipDecoding() for key in builder.info.features if key not in small}
        columns: dict[str, list[Any]] = {
            key: [] for key in small if key in builder.info.features and key not in absent
        }
        for row in builder.as_data_source(name, decoders=large):
            for key, values in columns.items():
                values.append(row[key])
        order = np.argsort(columns[INDEX])
        self._places = order.astype(np.int64)  # row -> where it lies in the files

        def column(key: str) -> np.ndarray:
            kind = decoding.memory_type(builder.info.features[key].np_dtype)
            return np.asarray(columns[key], dtype=kind)[order]

        self.ids = [columns["id"][place].decode() for place in order]
        self.labels = column("label")
        self.lengths = {m: column(length_key(m)) for m in MODALITIES if length_key(m) in columns}
        self.unimodal = {m: column(f"label_{m}") for m in MODALITIES if f"label_{m}" in columns}

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Features of some rows, in their order, as `Split.take` gives them."""
        places = self._places[np.asarray(rows)].tolist()
        read = enumerate(self._source.__getitems__(places))
        arrays = decoding.filled(self._builder, read, len(places))
        arrays.update({length_key(m): length[rows] for m, length in self.lengths.items()})
        return {**arrays, INDEX: np.asarray(rows, dtype=np.int32)}

    def fingerprint(self) -> str:
        """SHA-256 that tells data apart: of its source, its names, labels and lengths."""
        source = (self._builder.info.metadata or {}).get("source", self._builder.info.full_name)
        digest = hashlib.sha256("\n".join((str(source), self.name, *self.ids)).encode())
        for array in (self.labels, *self.lengths.values(), *self.unimodal.values()):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    config: str | None = None,
) -> dict[str, StreamedSplit]:
    """As `keras_m3s.data.load`, for data sets with a name; features stay on disk.

    Returns:
        Dict with `train`, `valid`, `test`.

    Raises: as `keras_m3s.data.load`, and ValueError where the files have no random access.
    """
    builder = loading.prepare(name, data_dir, manual_dir, config)
    return {split: StreamedSplit(builder, split) for split in SPLITS}
