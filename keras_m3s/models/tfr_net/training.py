"""TFR-Net's training: its optimizer, the first epoch without reconstruction, the plateau.

Reference: trains/missingTask/TFR_NET.py of thuiar/TFR-Net 00f06a6.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_m3s.optimizers import GroupedAdam


@keras.saving.register_keras_serializable(package="keras_m3s")
class RunningSumAdam(GroupedAdam):
    """Adam that steps at each batch, on the clipped sum of the gradients of a window so far.

        s <- clip(s + g), s = 0 before the first batch of a window
        step on s; after the window's last batch step on s once more

    So `window` batches make `window + 1` steps: the published loop clears its gradients every
    `window` batches, as if to take one step, but steps at each batch as well. For one step on the
    sum take `GroupedAdam(gradient_accumulation_steps=4, accumulation="sum")`.

    Args:
        window: Batches between two clearings of s, >= 1.
        late: Pattern; variables in whose path `re.search` finds it rest while `late_rests` is set,
            and count their steps by themselves. `None` for no such variables.
        **kwargs: As of `GroupedAdam`, without accumulation, AMSGrad and overwriting by averages.
            Clipping is by value: `clipvalue`. On one device: gradients of several are not summed.
    """

    def __init__(self, *args: Any, window: int = 4, late: str | None = None, **kwargs: Any) -> None:
        if not isinstance(window, int) or window < 1:
            raise ValueError(f"`window` must be an int >= 1. Received: window={window!r}.")
        others = ("gradient_accumulation_steps", "ema_overwrite_frequency", "amsgrad", "clipnorm")
        unfit = (*others, "global_clipnorm", "group_clipnorm")
        if received := {name: kwargs[name] for name in unfit if kwargs.get(name)}:
            raise ValueError(
                f"RunningSumAdam must be made without {unfit}: it sums over `window` batches, and "
                f"clips by `clipvalue`. Received: {received}."
            )
        super().__init__(*args, **kwargs)
        self.window, self.late = window, late

        def counter(name: str) -> Any:
            return self.add_variable((), "zeros", "int32", name=name)

        self._position = counter("position")
        self._steps, self._late_steps = counter("steps"), counter("late_steps")
        self._late_rests = counter("late_rests")

    def build(self, variables: Sequence[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        self._sums = self.add_optimizer_variables(variables, "running_sum")
        self._are_late = [
            self.late is not None and re.search(self.late, v.path) is not None for v in variables
        ]

    @property
    def late_rests(self) -> bool:
        """Whether the variables that `late` finds rest."""
        return bool(ops.convert_to_numpy(self._late_rests))

    @late_rests.setter
    def late_rests(self, value: bool) -> None:
        self._late_rests.assign(int(value))

    def discard_accumulated(self) -> None:
        """Starts a new window with the next batch."""
        self._position.assign(0)

    def _backend_apply_gradients(self, grads: list[Any], trainable_variables: list[Any]) -> None:
        # In place of the base class's way, which is one step by `update_step`. What is the same for
        # all variables is computed once: a model has hundreds.
        fresh = ops.equal(self._position, 0)
        ends = ops.equal(self._position, self.window - 1)
        rests = ops.cast(self._late_rests, "bool")
        scales = {late: self._scales(late) for late in set(self._are_late)}
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            index = self._get_variable_index(variable)
            late, held = self._are_late[index], self._sums[index]
            # TensorFlow gives an embedding's gradient as rows: this makes it dense.
            gradient = ops.reshape(ops.cast(gradient, held.dtype), held.shape)
            total = self._clip_gradients([ops.where(fresh, gradient, held + gradient)])[0]
            self.assign(held, total)
            state = (variable, self._momentums[index], self._velocities[index])
            before = [ops.convert_to_tensor(value) for value in state]
            once = self._stepped(before, total, index, scales[late][0])
            twice = self._stepped(once, total, index, scales[late][1])
            for target, old, one, two in zip(state, before, once, twice, strict=True):
                after = ops.where(ends, two, one)
                self.assign(target, ops.where(rests, old, after) if late else after)
        steps = 1 + ops.cast(ends, "int32")
        self._steps.assign_add(steps)
        self._late_steps.assign_add(steps * (1 - self._late_rests))
        self._position.assign((self._position + 1) % self.window)
        if self.use_ema:
            self._update_model_variables_moving_average(self._trainable_variables)

    def _scales(self, late: bool) -> list[tuple[Any, Any]]:
        """Of the next step and the one after: the rate, and what the root of v is multiplied by."""
        done = ops.cast(self._late_steps if late else self._steps, "float32")
        scales = []
        for step in (done + 1, done + 2):
            # Through expm1: in float32, 1 - .999 is off by 1e-5 of itself.
            left_1, left_2 = (-ops.expm1(step * math.log(b)) for b in (self.beta_1, self.beta_2))
            rate = ops.cast(self.learning_rate, "float32") / left_1
            scales.append((rate, ops.rsqrt(left_2)))
        return scales

    def _stepped(
        self, values: Sequence[Any], gradient: Any, index: int, scales: tuple[Any, Any]
    ) -> tuple[Any, Any, Any]:
        """The variable and its moments after a step, the equations of `keras_m3s.optimizers`."""
        variable, m, v = values
        rate, root = (ops.cast(scale, v.dtype) for scale in scales)
        if self._decays[index]:
            gradient = gradient + variable * self._decays[index]
        if self._multipliers[index] != 1:
            rate = rate * self._multipliers[index]
        m = m + (gradient - m) * (1 - self.beta_1)
        v = v + (ops.square(gradient) - v) * (1 - self.beta_2)
        return variable - rate * m / (ops.sqrt(v) * root + self.epsilon), m, v

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "window": self.window, "late": self.late}


class EpochStart(keras.callbacks.Callback):
    """In the first epoch the prediction's loss alone counts; each epoch starts a new window.

    While reconstruction rests, so do its variables, which PyTorch's Adam leaves alone as long as
    they have no gradient; their weight decay and their count of steps begin with the second epoch.

    Args:
        model: The TFRNet, which may be inside the model that is trained.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tfr_net = model

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.tfr_net.reconstruction_counts = epoch > 0
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        if isinstance(optimizer, RunningSumAdam):
            optimizer.late_rests = epoch == 0
            optimizer.discard_accumulated()


class Plateau(keras.callbacks.ReduceLROnPlateau):
    """Divides the learning rate by 10 when validation has not become better for too long.

    Better is one below the best by 1e-4 of it.

    Args:
        monitor: Name of the value, a loss.
        patience: Epochs without a better one that are borne; the next one cuts the rate.

    Reference: torch.optim.lr_scheduler.ReduceLROnPlateau. Keras' own bears one epoch less, and its
    threshold is absolute.
    """

    def __init__(self, monitor: str, patience: int) -> None:
        super().__init__(monitor, mode="min", factor=0.1, patience=patience + 1, min_delta=0.0)
        # Given beforehand, this is what Keras compares by.
        self.monitor_op = lambda value, best: value < best * (1 - 1e-4)
