"""The metrics of the paper's section 4.3 as Keras metrics, accumulated over batches in float32.

They give the numbers of `keras_m3s.metrics.functions` inside `fit` on every backend, take sample
weights, and are saved with a compiled model. Before the first example the result is 0, as for
Keras' own metrics.
"""

from typing import Any, TypeAlias

import keras
from keras import ops

from keras_m3s.metrics.functions import check_zero

Tensor: TypeAlias = Any
"""A tensor of the Keras backend."""

STATE = "float32"
"""Type of the state in any precision of the model: float16 cannot count beyond 2048."""


def _flat(y: Tensor) -> Tensor:
    """Float32 `(batch,)`."""
    return ops.reshape(ops.cast(y, STATE), (-1,))


def _pair(y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float32 `(batch,)`; raises if their sizes differ."""
    true, pred = _flat(y_true), _flat(y_pred)
    if None not in (true.shape[0], pred.shape[0]) and true.shape[0] != pred.shape[0]:
        raise ValueError(
            "`y_true` and `y_pred` must have the same number of values. "
            f"Received: shapes {tuple(y_true.shape)} and {tuple(y_pred.shape)}."
        )
    return true, pred


def _weights(sample_weight: Tensor | None, like: Tensor) -> Tensor:
    """Weights `(batch,)`, from `(batch,)`, `(batch, 1)`, a scalar or `None`."""
    ones = ops.ones_like(like, dtype=STATE)
    return ones if sample_weight is None else ones * _flat(sample_weight)


def _positive(y: Tensor, zero: str) -> Tensor:
    """Whether sentiment counts as positive."""
    return y >= 0 if zero == "has0" else y > 0


def _without_zeros(weights: Tensor, true: Tensor, zero: str) -> Tensor:
    """Weights with 0 for the examples that `zero` leaves out."""
    return ops.where(true == 0, 0.0, weights) if zero == "non0" else weights


@keras.saving.register_keras_serializable(package="keras_m3s")
class PearsonCorrelation(keras.metrics.Metric):
    """`corr` over batches: running means and central second moments, merged as in Chan et al.

    Unlike sums of squares, this keeps its precision in float32 for scores far from 0. Under a
    TensorFlow distribution strategy, where Keras sums the state of the replicas, the result is the
    correlation within replicas; the difference between their means is not included.

    Reference: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing
    sample variances", 1979.
    """

    def __init__(self, name: str = "corr", dtype: Any = STATE) -> None:
        super().__init__(name=name, dtype=dtype)
        self.weight = self.add_variable((), "zeros", dtype=STATE, name="weight")
        self.means = self.add_variable((2,), "zeros", dtype=STATE, name="means")
        self.squares = self.add_variable((2,), "zeros", dtype=STATE, name="squares")
        self.product = self.add_variable((), "zeros", dtype=STATE, name="product")

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        true, pred = _pair(y_true, y_pred)
        weights = _weights(sample_weight, true)
        scores = ops.stack([true, pred])
        # Deviations from an example with weight: exactly 0 if all scores are equal.
        pivot = ops.take(scores, ops.argmax(weights), axis=1)
        deviations = scores - pivot[:, None]
        weight = ops.sum(weights)
        shift = ops.sum(weights * deviations, axis=1) / ops.where(weight > 0, weight, 1.0)
        deviations = deviations - shift[:, None]

        total = self.weight + weight
        share = weight / ops.where(total > 0, total, 1.0)
        delta = ops.where(weight > 0, pivot + shift - self.means, 0.0)
        between = self.weight * share
        self.squares.assign_add(
            ops.sum(weights * deviations * deviations, axis=1) + delta * delta * between
        )
        self.product.assign_add(
            ops.sum(weights * deviations[0] * deviations[1]) + delta[0] * delta[1] * between
        )
        self.means.assign_add(delta * share)
        self.weight.assign(total)

    def result(self) -> Tensor:
        scale = ops.prod(ops.sqrt(self.squares))
        correlation = self.product / ops.where(scale > 0, scale, 1.0)
        return ops.where(scale > 0, ops.clip(correlation, -1.0, 1.0), 0.0)


@keras.saving.register_keras_serializable(package="keras_m3s")
class SentimentAccuracy(keras.metrics.Mean):
    """`acc2` over batches: accuracy of the sign of sentiment.

    Args:
        zero: `"has0"`, `"non0"` or `"neg0"`, see `keras_m3s.metrics.functions`.
        name: Default: `acc2_` followed by `zero`.
    """

    def __init__(self, zero: str = "has0", name: str | None = None, dtype: Any = STATE) -> None:
        check_zero(zero)
        super().__init__(name=name or f"acc2_{zero}", dtype=dtype)
        self.zero = zero

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        true, pred = _pair(y_true, y_pred)
        correct = _positive(true, self.zero) == _positive(pred, self.zero)
        super().update_state(
            ops.cast(correct, STATE), _without_zeros(_weights(sample_weight, true), true, self.zero)
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "zero": self.zero}


@keras.saving.register_keras_serializable(package="keras_m3s")
class SevenClassAccuracy(keras.metrics.Mean):
    """`acc7` over batches: scores clipped to [-3, 3], then rounded, halves to even."""

    def __init__(self, name: str = "acc7", dtype: Any = STATE) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        true, pred = (ops.round(ops.clip(y, -3.0, 3.0)) for y in _pair(y_true, y_pred))
        super().update_state(ops.cast(true == pred, STATE), _weights(sample_weight, true))


class _Confusion(keras.metrics.Metric):
    """Weighted confusion matrix; subclasses compute their result from it.

    Args:
        num_classes: Number of classes; examples with other labels than 0 .. `num_classes` - 1 are
            ignored.
    """

    def __init__(self, num_classes: int, name: str, dtype: Any = STATE) -> None:
        if num_classes < 2:
            raise ValueError(f"`num_classes` must be >= 2. Received: {num_classes}.")
        super().__init__(name=name, dtype=dtype)
        self.num_classes = num_classes
        shape = (num_classes, num_classes)
        self.counts = self.add_variable(shape, "zeros", dtype=STATE, name="counts")

    def classes(self, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
        """True and predicted class of each example, from classes or `(batch, num_classes)`."""
        if len(y_pred.shape) == 2 and y_pred.shape[1] == self.num_classes:
            y_pred = ops.argmax(y_pred, axis=-1)
        return _pair(y_true, y_pred)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        true, pred = self.classes(y_true, y_pred)
        self._count(true, pred, _weights(sample_weight, true))

    def _count(self, true: Tensor, pred: Tensor, weights: Tensor) -> None:
        """Adds a batch to the confusion matrix."""
        # Not `segment_sum`, whose output shape cannot be traced on PyTorch.
        labels = ops.arange(self.num_classes, dtype=STATE)
        rows = ops.cast(true, STATE)[:, None, None] == labels[:, None]
        cells = rows & (ops.cast(pred, STATE)[:, None, None] == labels)
        self.counts.assign_add(ops.sum(weights[:, None, None] * ops.cast(cells, STATE), axis=0))

    def _correct_true_predicted(self) -> tuple[Tensor, Tensor, Tensor]:
        """Per class: number of correct predictions, of true examples, of predictions."""
        return (
            ops.diagonal(self.counts),
            ops.sum(self.counts, axis=1),
            ops.sum(self.counts, axis=0),
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_classes": self.num_classes}


@keras.saving.register_keras_serializable(package="keras_m3s")
class UnweightedAverageRecall(_Confusion):
    """`uar` over batches: the mean recall over classes with true examples."""

    def __init__(self, num_classes: int, name: str = "uar", dtype: Any = STATE) -> None:
        super().__init__(num_classes, name, dtype)

    def result(self) -> Tensor:
        correct, true, _ = self._correct_true_predicted()
        occurring = ops.sum(ops.cast(true > 0, STATE))
        return ops.divide_no_nan(ops.sum(ops.divide_no_nan(correct, true)), occurring)


@keras.saving.register_keras_serializable(package="keras_m3s")
class WeightedF1(_Confusion):
    """`f1` over batches: F1 of each class, weighted by its true examples."""

    def __init__(self, num_classes: int, name: str = "f1", dtype: Any = STATE) -> None:
        super().__init__(num_classes, name, dtype)

    def result(self) -> Tensor:
        correct, true, predicted = self._correct_true_predicted()
        scores = ops.divide_no_nan(2.0 * correct, true + predicted)
        return ops.divide_no_nan(ops.sum(true * scores), ops.sum(true))


@keras.saving.register_keras_serializable(package="keras_m3s")
class SentimentF1(WeightedF1):
    """`sentiment_f1` over batches: weighted F1 of positive and negative sentiment.

    Args:
        zero: `"has0"`, `"non0"` or `"neg0"`, see `keras_m3s.metrics.functions`.
        name: Default: `f1_` followed by `zero`.
    """

    def __init__(self, zero: str = "has0", name: str | None = None, dtype: Any = STATE) -> None:
        check_zero(zero)
        super().__init__(2, name or f"f1_{zero}", dtype)
        self.zero = zero

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        true, pred = _pair(y_true, y_pred)
        weights = _without_zeros(_weights(sample_weight, true), true, self.zero)
        self._count(_positive(true, self.zero), _positive(pred, self.zero), weights)

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "zero": self.zero}
        del config["num_classes"]
        return config
