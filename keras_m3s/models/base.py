"""What the base models share: encode each modality, fuse them, add the model's own losses."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_m3s.data.batches import Batches

PREDICTION = "prediction"


class BaseModel(keras.Model):
    """A base model, such as the paper's four or LNLN and TFR-Net.

    A subclass gives `encode` and `fuse`, and where its paper adds losses to the task's,
    `loss_terms` and `term_weights`. All of it works with plain `fit`, and inside `WithMissing`,
    `MetaModel` and `M3S`, which only use what any `keras.Model` has.

    In training, `fuse` returns a dict: `prediction` and the tensors that `loss_terms` reads.
    Otherwise it returns the prediction alone, so `predict` and `evaluate` see just that.

    Attributes:
        published_loss: Name of the task's loss in the published code; `compile` falls back to it.
        uses_complement: True where the model wants, beside the holed features, what the holes
            removed (`inputs["complement"]`), as MMIN's teacher does, and the input before the holes
            (`inputs["complete"]`), as LNLN's targets do.
        monitor: The validation value by which the best epoch is chosen, never a test value.
        monitor_mode: Whether it should be `"min"` or `"max"`.
    """

    published_loss = "mean_squared_error"
    uses_complement = False
    monitor = "val_loss"
    monitor_mode = "min"

    def encode(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        """One vector per modality: dict with `audio`, `vision`, `text`, each `(batch, dim)`."""
        raise NotImplementedError(f"{type(self).__name__} must define `encode`.")

    def fuse(self, encoded: Mapping[str, Any], training: bool | None = None) -> Any:
        """Prediction from the encoded vectors; in training a dict, see the class docstring."""
        raise NotImplementedError(f"{type(self).__name__} must define `fuse`.")

    def call(self, inputs: Mapping[str, Any], training: bool | None = None) -> Any:
        return self.fuse(self.encode(inputs, training=training), training=training)

    def loss_terms(self, x: Any, y: Any, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Unweighted scalar loss terms beside the task's, by name; read in training only."""
        return {}

    def prediction_of(self, outputs: Any) -> Any:
        """The prediction in what the model returns; a consistency penalty is on it alone."""
        return outputs[PREDICTION] if isinstance(outputs, Mapping) else outputs

    @property
    def term_weights(self) -> dict[str, float]:
        """The factor of each of `loss_terms` in the total loss."""
        return {}

    @property
    def memories(self) -> list[keras.Variable]:
        """Non-trainable variables that only the query pass of a meta step may write."""
        return []

    def compile(self, optimizer: Any = "adam", loss: Any = None, **kwargs: Any) -> None:
        """As `keras.Model.compile`; without `loss`, the loss of the published code."""
        super().compile(optimizer=optimizer, loss=loss or self.published_loss, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Task loss, plus in training the weighted sum of `loss_terms`."""
        if not isinstance(y_pred, Mapping):
            return super().compute_loss(x, y, y_pred, sample_weight, training=training)
        loss = super().compute_loss(x, y, y_pred[PREDICTION], sample_weight, training=training)
        terms = self.loss_terms(x, y, y_pred)
        for name, weight in self.term_weights.items():
            loss = loss + weight * keras.ops.cast(terms[name], loss.dtype)
        return loss

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        if isinstance(y_pred, Mapping):
            y_pred = y_pred[PREDICTION]
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def published_optimizer(self, learning_rate: float | None = None) -> keras.optimizers.Optimizer:
        """The optimizer of the published training.

        Args:
            learning_rate: Of the main group; `None` for the published one.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `published_optimizer`.")

    def training_callbacks(self, train_data: Any = None) -> list[keras.callbacks.Callback]:
        """What the published training does between epochs, for `fit(callbacks=...)`.

        A run calls them in this order, after those that set the order of the data and stop at a
        loss that is not finite, and before those that log and save.

        Args:
            train_data: What `fit` trains on, where a stage of its own needs it.
        """
        return []

    def pretrain(
        self,
        train: Batches,
        valid: Batches,
        epochs: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        """Trains on complete input what the model needs before its own training: a teacher.

        Args:
            train: Training data without holes.
            valid: Validation data without holes.
            epochs: Of this stage.
            callbacks: More callbacks for its `fit`.

        Raises:
            ValueError: The model has no such stage.
        """
        raise ValueError(
            f"`epochs` of a first stage must be 0 for {type(self).__name__}, which has none. "
            f"Received: {epochs}."
        )

    @classmethod
    def data_arguments(cls, labels: Any, num_classes: int | None = None) -> dict[str, Any]:
        """Constructor arguments that follow from the data.

        Args:
            labels: Training labels `(examples,)`.
            num_classes: Number of classes of the whole data set, where it has classes; by default
                of the training labels.

        Raises:
            ValueError: Labels are classes, and the model predicts a score.
        """
        if np.issubdtype(np.asarray(labels).dtype, np.integer):
            raise ValueError(
                f"{cls.__name__} predicts a score: labels must be floats. Received: dtype "
                f"{np.asarray(labels).dtype}. For classes, as in IEMOCAP, take MMIN or MISA."
            )
        return {}

    def task_metrics(self) -> list[keras.metrics.Metric]:
        """Metrics to follow while training."""
        return [keras.metrics.MeanAbsoluteError(name="mae")]


def count_classes(labels: Any, name: str = "labels") -> int:
    """Number of classes, the highest one plus 1.

    Args:
        labels: Int array.
        name: What an error calls them.

    Raises:
        ValueError: If a class is negative.
    """
    labels = np.asarray(labels)
    if labels.size and labels.min() < 0:
        found = ", ".join(map(str, np.unique(labels)[:10]))
        raise ValueError(
            f"`{name}` must be classes 0, 1, 2 and so on. Received: {found}. Number the classes "
            "from 0, or pass them as floats if they are scores."
        )
    return int(labels.max(initial=-1)) + 1
