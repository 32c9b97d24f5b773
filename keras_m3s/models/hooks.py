"""What a run asks of its model beside what Keras does: callbacks, a first stage, an optimizer.

The base models answer it themselves, see `keras_m3s.models.base.BaseModel`. For any other
`keras.Model` it is answered here.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import keras

from keras_m3s.data.batches import Batches
from keras_m3s.data.split import CLASSIFICATION
from keras_m3s.metrics import PearsonCorrelation, UnweightedAverageRecall
from keras_m3s.models.base import BaseModel

LEARNING_RATE = 1e-3
"""Of Adam, for a model that was not compiled."""


class Hooks(Protocol):
    """What a run asks of its model; see `BaseModel`."""

    monitor: str
    monitor_mode: str

    def training_callbacks(self, train_data: Any = None) -> list[keras.callbacks.Callback]: ...

    def pretrain(
        self,
        train: Batches,
        valid: Batches,
        epochs: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> None: ...


def of(model: keras.Model) -> Hooks:
    """The hooks of a model: its own, or the defaults of any other `keras.Model`."""
    hooks: Hooks = model if isinstance(model, BaseModel) else PlainHooks()
    return hooks


class PlainHooks:
    """Hooks of a model that has none of its own.

    Attributes:
        monitor: The validation value by which the best epoch is chosen.
        monitor_mode: `"min"` or `"max"`.
    """

    monitor = "val_loss"
    monitor_mode = "min"

    def training_callbacks(self, train_data: Any = None) -> list[keras.callbacks.Callback]:
        """None."""
        return []

    def pretrain(
        self,
        train: Batches,
        valid: Batches,
        epochs: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        """Raises `ValueError`: there is no first stage."""
        raise ValueError(
            "`first_stage_epochs` must be 0 for a model without a first stage of its own. "
            f"Received: {epochs}."
        )


def compile_for_task(model: keras.Model, task: str, outputs: int) -> None:
    """Compiles a model with the loss and metrics of a task, unless it is compiled or has its own.

    Args:
        model: Any `keras.Model`, whose outputs are logits of classes or one score.
        task: As of `keras_m3s.data.Split`.
        outputs: Number of classes, or 1.
    """
    if model.compiled:
        return
    if isinstance(model, BaseModel):
        model.compile("sgd", metrics=model.task_metrics())  # a run brings the optimizer
        return
    loss: Any = keras.losses.MeanSquaredError()
    metrics: list[keras.metrics.Metric] = [
        keras.metrics.MeanAbsoluteError(name="mae"),
        PearsonCorrelation(),
    ]
    if task == CLASSIFICATION:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="acc")
        metrics = [accuracy, UnweightedAverageRecall(outputs)]
    model.compile(keras.optimizers.Adam(LEARNING_RATE), loss=loss, metrics=metrics)


def take_optimizer(
    model: keras.Model, learning_rate: float | None = None, averaging: float | None = None
) -> keras.optimizers.Optimizer:
    """The optimizer of a compiled model, for the wrapper that trains it.

    The model itself is left with plain SGD, which has no state to be saved with it. Custom objects
    that its loss or metrics are must be in scope.

    Args:
        model: Compiled. A base model's optimizer is its published one.
        learning_rate: `None` for the optimizer's own.
        averaging: Momentum of averaged weights that the optimizer is to keep; `None` for its own.

    Raises:
        ValueError: The optimizer cannot average weights.
    """
    if isinstance(model, BaseModel):
        return _averaging(model.published_optimizer(learning_rate), averaging)
    optimizer = model.optimizer
    config = optimizer.get_config()
    if learning_rate is not None:
        config["learning_rate"] = learning_rate
    model.compile_from_config({**model.get_compile_config(), "optimizer": "sgd"})
    return _averaging(type(optimizer).from_config(config), averaging)


def _averaging(
    optimizer: keras.optimizers.Optimizer, momentum: float | None
) -> keras.optimizers.Optimizer:
    """The optimizer, which is not built yet, keeping averaged weights."""
    if momentum is None:
        return optimizer
    averages = getattr(optimizer, "inner_optimizer", optimizer)
    if isinstance(averages, keras.optimizers.MultiOptimizer):
        raise ValueError(
            "`averaging` must be None for a model compiled with a MultiOptimizer, which keeps no "
            f"averages as a whole. Received: averaging={momentum}. Compile with one optimizer."
        )
    averages.use_ema, averages.ema_momentum = True, momentum
    return optimizer
