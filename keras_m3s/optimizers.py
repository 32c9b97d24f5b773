"""Adam as in PyTorch, with parameter groups selected by variable path.

    g <- clip(g)                                     by value, by global norm, or by group
    g <- g + weight_decay * w                        L2 penalty, after clipping
    m <- beta_1 m + (1 - beta_1) g
    v <- beta_2 v + (1 - beta_2) g^2
    w <- w - lr / (1 - beta_1^t) * m / (sqrt(v / (1 - beta_2^t)) + epsilon)

`keras.optimizers.Adam` differs: it adds epsilon to sqrt(v) before the correction by 1 - beta_2^t,
and its `weight_decay` is decoupled, as in AdamW.

Reference: torch.optim.Adam.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import keras
from keras import ops

Tensor: TypeAlias = Any
"""A tensor of the Keras backend."""

OPTIONS = ("learning_rate", "multiplier", "weight_decay")
ACCUMULATIONS = ("mean", "sum")
CLIP_EPSILON = 1e-6  # of torch.nn.utils.clip_grad_norm_


@keras.saving.register_keras_serializable(package="keras_m3s")
class GroupedAdam(keras.optimizers.Adam):
    """`torch.optim.Adam` with parameter groups.

    ```python
    GroupedAdam(
        1e-3,
        weight_decay=1e-4,
        groups={
            r"bert/.*(bias|gamma|beta)$": {"learning_rate": 5e-5, "weight_decay": 0.0},
            r"bert/": {"learning_rate": 5e-5},
        },
        global_clipnorm=1.0,
    )
    ```

    A group's rate is stored as a multiple of `learning_rate`, so that a schedule or a callback such
    as `ReduceLROnPlateau` scales all groups alike.

    Args:
        learning_rate: Learning rate of variables in no group; float, schedule or callable.
        beta_1: Decay of the first moment, in [0, 1).
        beta_2: Decay of the second moment, in [0, 1).
        epsilon: Added to the square root of the corrected second moment, as in PyTorch.
        weight_decay: L2 coefficient of variables in no group, and of groups that set none.
        groups: Dict of regular expression -> options. A variable belongs to the first pattern that
            `re.search` finds in its path. Options: `learning_rate`, the group's initial rate
            (`learning_rate` must then be a float > 0), or `multiplier` of `learning_rate`; and
            `weight_decay`.
        group_clipnorm: Largest global norm of each group's gradients; the variables in no group
            form a group too. At most one kind of clipping can be given.
        accumulation: With `gradient_accumulation_steps`, whether a step uses the `"mean"` of the
            gradients, as Keras does, or their `"sum"`, as in PyTorch code that calls `backward`
            several times per step. Gradients are clipped afterwards.
        **kwargs: As of `keras.optimizers.Adam`: `global_clipnorm` and `clipvalue` (both as
            `torch.nn.utils.clip_grad_norm_` and `clip_grad_value_`), `clipnorm` of each variable,
            `use_ema`, `amsgrad`, `gradient_accumulation_steps`, `loss_scale_factor`, `name`, ...

    Raises:
        ValueError: An argument is out of range, or (when built) a group has no variable.
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float | None = None,
        groups: Mapping[str, Mapping[str, float]] | None = None,
        group_clipnorm: float | None = None,
        accumulation: str = "mean",
        **kwargs: Any,
    ) -> None:
        if accumulation not in ACCUMULATIONS:
            raise ValueError(
                f"`accumulation` must be one of {ACCUMULATIONS}. Received: {accumulation!r}."
            )
        for name, value in (("group_clipnorm", group_clipnorm), ("weight_decay", weight_decay)):
            _check_range(name, value)
        others = [n for n in ("clipnorm", "clipvalue", "global_clipnorm") if kwargs.get(n)]
        if group_clipnorm is not None and others:
            raise ValueError(
                "At most one kind of clipping must be set, all others must be left out. Received: "
                f"`group_clipnorm` and {others}."
            )
        super().__init__(
            learning_rate=learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            weight_decay=weight_decay,
            **kwargs,
        )
        self.group_clipnorm = group_clipnorm
        self.accumulation = accumulation
        self.groups = {
            pattern: _checked_options(pattern, options, learning_rate)
            for pattern, options in (groups or {}).items()
        }

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        members = [self._group_of(variable.path) for variable in variables]
        unused = [pattern for pattern in self.groups if pattern not in members]
        if unused:
            raise ValueError(
                "Each pattern of `groups` must be the first to match some trainable variable. "
                f"Received: {unused}, which are the first to match none of "
                f"{[v.path for v in variables]}."
            )
        super().build(variables)
        options = [{} if pattern is None else self.groups[pattern] for pattern in members]
        default = self.weight_decay or 0.0
        self._members = tuple(members)
        self._multipliers = tuple(option.get("multiplier", 1.0) for option in options)
        self._decays = tuple(
            option.get("weight_decay", default) if self._use_weight_decay(v) else 0.0
            for option, v in zip(options, variables, strict=True)
        )

    def _group_of(self, path: str) -> str | None:
        """The pattern of a variable's group."""
        return next((pattern for pattern in self.groups if re.search(pattern, path)), None)

    # The base class calls the four methods below in this order: gradients arrive and are
    # accumulated, gradients are clipped, weights decay (decoupled), variables are updated.

    def _backend_apply_gradients(
        self, grads: list[Tensor], trainable_variables: list[keras.Variable]
    ) -> None:
        # Makes gradients dense. TensorFlow's `IndexedSlices` of an embedding may hold a row twice,
        # which gives a wrong norm and wrong moments.
        grads = [ops.reshape(g, v.shape) for g, v in zip(grads, trainable_variables, strict=True)]
        if self.accumulation == "sum" and self.gradient_accumulation_steps:
            # The base class divides the sum by this number.
            grads = [g * self.gradient_accumulation_steps for g in grads]
        super()._backend_apply_gradients(grads, trainable_variables)

    def _clip_gradients(self, grads: list[Tensor]) -> list[Tensor]:
        if self.global_clipnorm:
            return clip_norm(grads, self.global_clipnorm)
        return super()._clip_gradients(grads)

    def _apply_weight_decay(self, variables: list[keras.Variable]) -> None:
        """Does nothing: `update_step` adds the penalty to the gradient."""

    def _backend_update_step(
        self, grads: list[Tensor], trainable_variables: list[keras.Variable], learning_rate: Any
    ) -> None:
        if self.group_clipnorm:
            members = [self._members[self._get_variable_index(v)] for v in trainable_variables]
            for group in dict.fromkeys(members):
                rows = [i for i, member in enumerate(members) if member == group]
                clipped = clip_norm([grads[i] for i in rows], self.group_clipnorm)
                grads = list(grads)
                for i, gradient in zip(rows, clipped, strict=True):
                    grads[i] = gradient
        super()._backend_update_step(grads, trainable_variables, learning_rate)

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        gradient = ops.cast(gradient, dtype)
        if self._decays[index]:
            gradient = ops.add(gradient, ops.multiply(variable, self._decays[index]))
        m, v = self._momentums[index], self._velocities[index]
        self.assign_add(m, ops.multiply(ops.subtract(gradient, m), 1 - self.beta_1))
        self.assign_add(v, ops.multiply(ops.subtract(ops.square(gradient), v), 1 - self.beta_2))
        if self.amsgrad:
            largest = self._velocity_hats[index]
            self.assign(largest, ops.maximum(largest, v))
            v = largest
        # In float32: float16 cannot count steps.
        step = ops.cast(self.iterations + 1, "float32")
        rate = ops.cast(learning_rate, "float32") * self._multipliers[index]
        rate = ops.cast(rate / _correction(self.beta_1, step), dtype)
        root = ops.cast(ops.sqrt(_correction(self.beta_2, step)), dtype)
        denominator = ops.add(ops.divide(ops.sqrt(v), root), self.epsilon)
        self.assign_sub(variable, ops.multiply(rate, ops.divide(m, denominator)))

    def finalize_variable_values(self, var_list: list[keras.Variable]) -> None:
        super().finalize_variable_values(var_list)
        if self.use_ema:
            # On JAX a weight and its average now share a buffer, which the next `fit` would donate
            # twice (Keras 3.15).
            for variable in var_list:
                variable.assign(ops.copy(variable))

    def discard_accumulated(self) -> None:
        """Drops partly accumulated gradients, so that the next batch starts a new accumulation."""
        steps = self.gradient_accumulation_steps
        if steps and self.built:
            self._backend_reset_gradient_accumulators()
            self._iterations.assign(self._iterations // steps * steps)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "groups": {pattern: dict(options) for pattern, options in self.groups.items()},
            "group_clipnorm": self.group_clipnorm,
            "accumulation": self.accumulation,
        }


class DiscardPartialAccumulation(keras.callbacks.Callback):
    """Drops partly accumulated gradients at epoch start.

    With `gradient_accumulation_steps` that do not divide the number of batches, the last batches of
    an epoch are not used.

    Reference: Self-MM, trains/multiTask/SELF_MM.py (1786283), which clears the gradients before the
        first batch of an epoch.
    """

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        optimizer = self.model.optimizer
        getattr(optimizer, "inner_optimizer", optimizer).discard_accumulated()


def clip_norm(gradients: Sequence[Tensor], max_norm: float) -> list[Tensor]:
    """Scales gradients by min(1, max_norm / (norm + 1e-6)), where norm is their global L2 norm.

    Reference: torch.nn.utils.clip_grad_norm_.
    """
    squares = [ops.sum(ops.square(ops.cast(g, "float32"))) for g in gradients]
    norm = ops.sqrt(ops.sum(ops.stack(squares)))
    scale = ops.minimum(max_norm / (norm + CLIP_EPSILON), 1.0)
    return [ops.multiply(g, ops.cast(scale, g.dtype)) for g in gradients]


def _correction(beta: float, step: Tensor) -> Tensor:
    """1 - beta^step, through expm1: in float32, 1 - 0.999 has a relative error of 1e-5."""
    return -ops.expm1(step * math.log(beta)) if beta else ops.ones_like(step)


def _checked_options(
    pattern: str, options: Mapping[str, float], learning_rate: Any
) -> dict[str, float]:
    """Options of a group with its learning rate as `multiplier`."""
    unknown = [name for name in options if name not in OPTIONS]
    if unknown or ("learning_rate" in options and "multiplier" in options):
        raise ValueError(
            f"Options of a group must be among {OPTIONS}, with `learning_rate` or `multiplier`, "
            f"not both. Received: {dict(options)} for {pattern!r}."
        )
    for name, value in options.items():
        _check_range(f"groups[{pattern!r}][{name!r}]", value)
    checked = {name: float(value) for name, value in options.items()}
    rate = checked.pop("learning_rate", None)
    if rate is not None:
        if not isinstance(learning_rate, float) or learning_rate <= 0:
            raise ValueError(
                "With a group's `learning_rate` the optimizer's own must be a float > 0, to be a "
                f"multiple of. Received: learning_rate={learning_rate!r} and {dict(options)} for "
                f"{pattern!r}. Give the group a `multiplier` instead."
            )
        checked["multiplier"] = rate / learning_rate
    return checked


def _check_range(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"`{name}` must be a finite float >= 0. Received: {value!r}.")
