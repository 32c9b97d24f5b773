"""`Split`, one split of a data set as arrays, and `SplitLike`, the interface of any split."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from keras_m3s.modalities import INDEX, length_key, modalities_in

SPLITS = ("train", "valid", "test")

SENTIMENT, REGRESSION, CLASSIFICATION = "sentiment", "regression", "classification"
"""Tasks: what the labels are, which decides the loss and the metrics. `SENTIMENT` are scores of
sentiment, which have metrics of their own; other scores are `REGRESSION`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """One split of a data set in memory.

    Attributes:
        name: `train`, `valid` or `test`.
        features: Modality -> float32 `(n, steps, dim)` or `(n, dim)`, NaN where nothing was
            measured; `text_bert` int32 `(n, 3, steps)` if the data has tokens; `*_length` of
            modalities that have padding, and `index`, int32 `(n,)`. `index` is the row, 0 .. n-1.
        labels: Float32 `(n,)` scores, int32 `(n,)` classes.
        ids: `n` names, `video$_$clip`.
        unimodal: Modality -> float32 `(n,)`, labels of that modality alone, if the data set has
            them (CH-SIMS). Batches leave them out, since no base model learns from them.
        task: `SENTIMENT`, `REGRESSION` or `CLASSIFICATION`.
    """

    name: str
    features: dict[str, np.ndarray]
    labels: np.ndarray
    ids: list[str]
    unimodal: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    task: str = SENTIMENT

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of the draws of a batch."""
        return modalities_in({key: array.shape for key, array in self.features.items()})

    @property
    def lengths(self) -> dict[str, np.ndarray]:
        """Modality -> true steps int32 `(n,)`, for the modalities that have lengths."""
        keys = {modality: length_key(modality) for modality in self.modalities}
        return {m: self.features[key] for m, key in keys.items() if key in self.features}

    def take(self, rows: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Features of the given rows, in that order."""
        return {key: array[rows] for key, array in self.features.items()}

    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of all features, labels and ids."""
        digest = hashlib.sha256("\n".join((self.name, *self.ids)).encode())
        labels = {f"label_{name}": array for name, array in self.unimodal.items()}
        for name, array in sorted({**self.features, **labels, "label": self.labels}.items()):
            digest.update(f"{name} {array.shape} {array.dtype.str}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def as_split(
    name: str,
    features: Mapping[str, np.ndarray],
    labels: np.ndarray,
    ids: list[str],
    unimodal: Mapping[str, np.ndarray],
    scores: str = SENTIMENT,
) -> Split:
    """Adds the row index to features and makes a `Split` of them.

    Args:
        name: As of `Split`, likewise `features`, `labels`, `ids` and `unimodal`.
        scores: Task of the data if its labels are scores.
    """
    index = np.arange(len(ids), dtype=np.int32)
    features = {**features, INDEX: index}
    return Split(name, features, labels, ids, dict(unimodal), task_of(labels, scores))


def task_of(labels: np.ndarray, scores: str = SENTIMENT) -> str:
    """Task of a data set: `CLASSIFICATION` if its labels are ints.

    Args:
        labels: Float or int array.
        scores: Task of the data set if its labels are floats.
    """
    return scores if np.issubdtype(labels.dtype, np.floating) else CLASSIFICATION


class SplitLike(Protocol):
    """A split in memory, `Split`, or on disk, `keras_m3s.data.streaming.StreamedSplit`.

    Attributes:
        name: `train`, `valid` or `test`.
        labels: As in `Split`.
        ids: As in `Split`.
        task: As in `Split`.
    """

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def ids(self) -> list[str]: ...

    @property
    def task(self) -> str: ...

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of the draws of a batch."""
        ...

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> Mapping[str, np.ndarray]:
        """Modality -> true steps int32 `(n,)`, for the modalities that have lengths."""
        ...

    def take(self, rows: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Features of the given rows, in that order."""
        ...

    def fingerprint(self) -> str:
        """Hexadecimal digest that differs for different data."""
        ...
