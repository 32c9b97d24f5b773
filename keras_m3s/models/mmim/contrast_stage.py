"""MMIM's training around the main one: stage 0, its optimizer, what happens when an epoch begins.

Reference: src/solver.py of declare-lab/Multimodal-Infomax, cd0774c.
"""

import copy
import re
from collections.abc import Mapping
from typing import Any

import keras

from keras_m3s.data.batches import Batches
from keras_m3s.data.callbacks import StopNotFinite
from keras_m3s.optimizers import GroupedAdam

MI_PATHS = r"(^|/)mi_(tv|ta|va)/"
"""Finds the variables of `mi_*` by path."""

_ALL_BUT_MI = rf"^(?!.*{MI_PATHS})"


@keras.saving.register_keras_serializable(package="keras_m3s")
class HoldingAdam(GroupedAdam):
    """`GroupedAdam` that leaves some variables as they are.

    Their gradients count in the norm that is clipped; moments they have none. With `use_ema` their
    averages are kept as all others', so that an averaged model is one of averages throughout.

    Args:
        held: Pattern; variables in whose path `re.search` finds it have no step.
        **kwargs: As of `GroupedAdam`, without accumulation.
    """

    def __init__(self, *args: Any, held: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.held = held

    def add_variable_from_reference(
        self, reference_variable: Any, name: str | None = None, **kwargs: Any
    ) -> Any:
        if name != "average" and re.search(self.held, reference_variable.path):
            return None
        return super().add_variable_from_reference(reference_variable, name=name, **kwargs)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self._momentums[self._get_variable_index(variable)] is not None:
            super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "held": self.held}


def main_optimizer(learning_rate: float, bert_paths: str | None) -> HoldingAdam:
    """That of stage 1.

    Args:
        learning_rate: Of all but the BERT, whose rate is 5e-5.
        bert_paths: Pattern of the BERT's variables; `None` without a BERT.
    """
    groups = {} if bert_paths is None else {bert_paths: {"learning_rate": 5e-5}}
    return HoldingAdam(
        learning_rate, weight_decay=1e-4, groups=groups, global_clipnorm=1.0, held=MI_PATHS
    )


def contrast_optimizer(learning_rate: float) -> HoldingAdam:
    """That of stage 0: steps `mi_*` alone, on gradients clipped by the norm of all."""
    return HoldingAdam(
        learning_rate,
        weight_decay=1e-4,
        global_clipnorm=1.0,
        held=_ALL_BUT_MI,
        name="contrast_optimizer",
    )


class Plateau(keras.callbacks.ReduceLROnPlateau):
    """Halves the learning rate when the 21st epoch in a row brings no better validation value.

    Better is one below (with `mode="max"` above) the best by 1e-4 of it.

    Args:
        monitor: Name of the value.
        mode: `"min"` or `"max"`.

    Reference: torch.optim.lr_scheduler.ReduceLROnPlateau, whose patience of 20 is that many epochs
    without a cut, and whose threshold is a share; Keras' own is absolute.
    """

    def __init__(self, monitor: str, mode: str) -> None:
        super().__init__(monitor, mode=mode, factor=0.5, patience=21, min_delta=0.0)
        # Given beforehand, this is what Keras compares by.
        if mode == "max":
            self.monitor_op = lambda value, best: value > best * (1 + 1e-4)
        else:
            self.monitor_op = lambda value, best: value < best * (1 - 1e-4)


class ContrastStage(keras.Model):
    """Stage 0 as a model of its own: `-lld` of an MMIM, seen through what is trained.

    Args:
        outer: The MMIM, or a model around it that in training returns what the MMIM returns.
    """

    def __init__(self, outer: keras.Model) -> None:
        # The outer model casts for itself; draws of holes must reach it as they are.
        super().__init__(name="contrast_stage", dtype=outer.dtype_policy, autocast=False)
        self.outer = outer

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return sum(self.outer(inputs, training=True)["lld"].values())

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        return -y_pred


class EpochStart(keras.callbacks.Callback):
    """At the start of each epoch empties an MMIM's memories and runs stage 0 over all the data.

    An epoch's log gets stage 0's mean loss as `contrast_loss`.

    Args:
        model: The MMIM, which may be inside the model that is trained.
        train_data: What stage 0 trains on: a dataset as for `fit`, or arrays `(x, y)`, in batches
            of 32; `None` for no stage 0. Of double batches, made for `M3S`, stage 0 gets single
            ones: each example once.
    """

    def __init__(self, model: Any, train_data: Any = None) -> None:
        super().__init__()
        self.mmim, self.train_data = model, train_data
        self._stage: ContrastStage | None = None
        self._loss: float | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._stage = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.mmim.forget()
        if self.train_data is None:
            return
        arguments = _arguments(self.train_data)
        if not self.mmim.built:  # TensorFlow's `fit` builds a model at the first batch only
            self.model(_first_inputs(arguments["x"]), training=False)
        if self._stage is None:
            self._stage = ContrastStage(self.model)
            self._stage.compile(
                self.mmim.contrast_optimizer,
                run_eagerly=self.model.run_eagerly,
                jit_compile=self.model.jit_compile,
            )
        data = arguments["x"]
        with self.mmim.contrast_variables():
            history = self._stage.fit(
                **arguments,
                initial_epoch=epoch,
                epochs=epoch + 1,
                callbacks=[StopNotFinite(data)] if isinstance(data, Batches) else [],
                verbose=0,
            )
        self._loss = history.history["loss"][-1]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None and self._loss is not None:
            logs["contrast_loss"] = self._loss


def _arguments(data: Any) -> dict[str, Any]:
    """Arguments of `fit` for one pass over the data that does not advance its own epoch."""
    if isinstance(data, tuple):
        x, y = data
        return {"x": x, "y": y, "batch_size": 32}
    if isinstance(data, Batches):
        data = _single_batches(data)
    elif isinstance(data, keras.utils.PyDataset):
        data = copy.copy(data)
    return {"x": data, "shuffle": False}


def _single_batches(data: Batches) -> Batches:
    """The same batches, holding each example once in an epoch."""
    single = copy.copy(data)  # with `draws`, `buckets` and whatever else they have
    single.double, single.passes = False, 1
    single.epoch = data.epoch  # the order of rows follows from these
    return single


def _first_inputs(data: Any) -> dict[str, Any]:
    """The inputs of one row, or of one batch."""
    if isinstance(data, Mapping):
        return {name: array[:1] for name, array in data.items()}
    x: dict[str, Any] = next(iter(data))[0]
    return x
