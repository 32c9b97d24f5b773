"""`Spec`: what a model of one's own must know of the data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_m3s.data.split import CLASSIFICATION, SplitLike
from keras_m3s.modalities import TEXT_BERT, length_key

ROWS = 1024
"""Rows of training data that are read at once."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """The data that a model is made for, as the function that makes it gets it.

    Examples:
        >>> def build(spec):
        ...     inputs = {m: keras.Input(shape, name=m) for m, shape in spec.inputs.items()}
        ...     pooled = []
        ...     for name, x in inputs.items():
        ...         scale = keras.layers.Normalization(
        ...             mean=spec.mean[name], variance=spec.variance[name]
        ...         )
        ...         pooled.append(keras.layers.GlobalAveragePooling1D()(scale(x)))
        ...     outputs = keras.layers.Dense(spec.outputs)(keras.layers.concatenate(pooled))
        ...     return keras.Model(inputs, outputs)

    Attributes:
        inputs: Modality -> shape of a sample, `(steps, dim)` of sequences and `(dim,)` of vectors.
            Where the data has token ids, `text_bert` is among them.
        outputs: Columns of the prediction: the number of classes, or 1 for scores.
        task: `"classification"`, `"regression"` or `"sentiment"`, as of `keras_m3s.data.Split`.
        mean: Modality -> float32 `(dim,)`, mean of each channel over the training data; what was
            never measured, and padding, are not counted. 0 for a channel without a value.
        variance: The same of the variance; 1 for a channel that is constant.
        lengths: Modalities that have true lengths, an input `{modality}_length` of shape `()`.
    """

    inputs: Mapping[str, tuple[int, ...]]
    outputs: int
    task: str
    mean: Mapping[str, np.ndarray]
    variance: Mapping[str, np.ndarray]
    lengths: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, ready for JSON."""
        return {
            **dataclasses.asdict(self),
            "inputs": {name: list(shape) for name, shape in self.inputs.items()},
            "mean": {name: values.tolist() for name, values in self.mean.items()},
            "variance": {name: values.tolist() for name, values in self.variance.items()},
            "lengths": list(self.lengths),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Spec":
        """The inverse of `to_dict`.

        Raises:
            ValueError: A field is absent or of another kind.
        """
        try:
            vectors = {
                field: {n: np.asarray(v, "float32") for n, v in values[field].items()}
                for field in ("mean", "variance")
            }
            inputs = {n: tuple(map(int, shape)) for n, shape in values["inputs"].items()}
            lengths = tuple(map(str, values["lengths"]))
            return cls(
                inputs, int(values["outputs"]), str(values["task"]), lengths=lengths, **vectors
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"A spec must hold what `Spec` has. Received: {error!r}.") from error


def spec_of(train: SplitLike, num_classes: int | None) -> Spec:
    """The spec of a data set.

    Args:
        train: Training data.
        num_classes: Number of classes of the whole data set; `None` for scores.
    """
    first = train.take(np.arange(min(1, len(train))))
    names = [name for name in train.modalities if name in first]
    inputs = {name: tuple(map(int, first[name].shape[1:])) for name in names}
    if TEXT_BERT in first:
        inputs[TEXT_BERT] = tuple(map(int, first[TEXT_BERT].shape[1:]))
    moments = {name: _Moments() for name in names}
    for start in range(0, len(train), ROWS):
        rows = train.take(np.arange(start, min(start + ROWS, len(train))))
        for name, moment in moments.items():
            moment.add(_measured(rows[name], rows.get(length_key(name))))
    outputs = num_classes if train.task == CLASSIFICATION and num_classes is not None else 1
    return Spec(
        inputs,
        outputs,
        train.task,
        {name: moment.mean.astype("float32") for name, moment in moments.items()},
        {name: moment.variance.astype("float32") for name, moment in moments.items()},
        tuple(train.lengths),
    )


def _measured(values: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """Float64 `(n, dim)`, NaN for padding and for what was never measured."""
    values = values.astype("float64")
    if lengths is not None and values.ndim == 3:
        values[np.arange(values.shape[1]) >= lengths[:, None]] = np.nan
    return values.reshape(-1, values.shape[-1])


class _Moments:
    """Mean and variance of each channel, part by part.

    Reference: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing
    sample variances", 1979.
    """

    def __init__(self) -> None:
        self.count: Any = 0.0
        self.mean: Any = 0.0
        self.squares: Any = 0.0

    def add(self, values: np.ndarray) -> None:
        there = ~np.isnan(values)
        count = there.sum(axis=0)
        mean = np.where(there, values, 0).sum(axis=0) / np.maximum(count, 1)
        squares = (np.where(there, values - mean, 0) ** 2).sum(axis=0)
        total = np.maximum(self.count + count, 1)
        apart = np.where(count > 0, mean - self.mean, 0)
        self.squares = self.squares + squares + apart**2 * self.count * count / total
        self.mean = self.mean + apart * count / total
        self.count = self.count + count

    @property
    def variance(self) -> Any:
        found = self.squares / np.maximum(self.count, 1)
        return np.where(found > 0, found, 1.0)
