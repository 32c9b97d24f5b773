"""Splits larger than memory: rows are read from the prepared data set batch by batch.

    splits = load_streamed("iemocap", config="fold1")
    model.fit(Batches(splits["train"], 32, shuffle=True), shuffle=False)

Batches are the same, and in the same order, as with `keras_m3s.data.load`.
"""

import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_m3s.data import decoding, loading
from keras_m3s.data.split import SPLITS, task_of
from keras_m3s.modalities import INDEX, length_key, modalities_in

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder


class StreamedSplit:
    """One split on disk; only ids, labels and lengths are in memory.

    Args:
        builder: A prepared TFDS builder with files of random access (ArrayRecord).
        name: `train`, `valid` or `test`.

    Attributes:
        name: As given.
        labels: As in `keras_m3s.data.Split`, likewise `ids`, `unimodal`, `task` and `modalities`.
        lengths: Modality -> true steps int32 `(n,)`.

    Raises:
        ValueError: The files have no random access.
    """

    def __init__(self, builder: "DatasetBuilder", name: str) -> None:
        if builder.info.file_format.value != "array_record":
            raise ValueError(
                f"{builder.data_dir} must be in the format array_record, to be read row by row. "
                f"Received: {builder.info.file_format.value}. Install `array-record`, remove that "
                "folder and prepare it again."
            )
        from tensorflow_datasets.core.decode import SkipDecoding

        self.name, self._builder = name, builder
        self._source = builder.as_data_source(name)
        absent = (builder.info.metadata or {}).get("absent", ())
        features = builder.info.features
        small = [key for key in features if features[key].shape == () and key != "raw_text"]
        large = {key: SkipDecoding() for key in features if key not in small}
        self._large = [key for key in large if key not in (*absent, *decoding.NO_ARRAYS)]
        columns: dict[str, list[Any]] = {key: [] for key in small if key not in absent}
        for row in builder.as_data_source(name, decoders=large):
            for key, values in columns.items():
                values.append(row[key])
        order = np.argsort(columns[INDEX])
        self._positions = order.astype(np.int64)  # row -> position in the files

        def column(key: str) -> np.ndarray:
            kind = decoding.memory_type(features[key].np_dtype)
            return np.asarray(columns[key], dtype=kind)[order]

        self.ids = [columns["id"][position].decode() for position in order]
        self.labels = column("label")
        self.task = task_of(self.labels, decoding.scores_task(builder))
        self.modalities = modalities_in({key: (None, *features[key].shape) for key in self._large})
        keys = {m: length_key(m) for m in self.modalities if length_key(m) in columns}
        self.lengths = {m: column(key) for m, key in keys.items()}
        self.unimodal = {
            key.removeprefix(decoding.UNIMODAL): column(key)
            for key in columns
            if key.startswith(decoding.UNIMODAL)
        }

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Features of the given rows, in that order, as from `Split.take`."""
        positions = self._positions[np.asarray(rows)].tolist()
        examples = enumerate(self._source.__getitems__(positions))
        arrays = decoding.filled(self._builder, examples, len(positions), self._large)
        arrays.update({length_key(m): length[rows] for m, length in self.lengths.items()})
        return {**arrays, INDEX: np.asarray(rows, dtype=np.int32)}

    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of the source's digest, the ids, labels and lengths."""
        source = (self._builder.info.metadata or {}).get("source", self._builder.info.full_name)
        digest = hashlib.sha256("\n".join((str(source), self.name, *self.ids)).encode())
        for array in (self.labels, *self.lengths.values(), *self.unimodal.values()):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load_streamed(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    config: str | None = None,
) -> dict[str, StreamedSplit]:
    """As `keras_m3s.data.load`, for data sets with a name; features stay on disk.

    Args:
        name: A name in `keras_m3s.registry.datasets`, or a name given to `prepare_own`.
        data_dir: As in `keras_m3s.data.load`.
        manual_dir: As in `keras_m3s.data.load`.
        config: As in `keras_m3s.data.load`.

    Returns:
        Dict with `train`, `valid`, `test`.

    Raises: As `keras_m3s.data.load`; also ValueError if the files have no random access.
    """
    builder = loading.prepare(name, data_dir, manual_dir, config)
    return {split: StreamedSplit(builder, split) for split in SPLITS}
