"""`Split`: one split of a data set as arrays, and what any split offers, in memory or on disk."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from keras_m3s.modalities import INDEX, MODALITIES, length_key

SPLITS = ("train", "valid", "test")


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

    def take(self, rows: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
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


def as_split(
    name: str,
    features: Mapping[str, np.ndarray],
    labels: np.ndarray,
    ids: list[str],
    unimodal: Mapping[str, np.ndarray],
) -> Split:
    index = np.arange(len(ids), dtype=np.int32)
    return Split(name, {**features, INDEX: index}, labels, ids, dict(unimodal))


class SplitLike(Protocol):
    """What a split offers: `Split` from memory, `keras_m3s.data.streaming.StreamedSplit` from disk.

    Attributes:
        name: `train`, `valid` or `test`.
        labels: As in `Split`.
        ids: As in `Split`.
    """

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def ids(self) -> list[str]: ...

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> Mapping[str, np.ndarray]:
        """Modality -> true steps int32 `(n,)`, where the data says so."""
        ...

    def take(self, rows: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Features of some rows, in their order."""
        ...

    def fingerprint(self) -> str:
        """Hexadecimal digest, to tell data apart that goes by one name."""
        ...
