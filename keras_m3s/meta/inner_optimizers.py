"""Optimizers of the inner loop, as pure functions: what a step on the support rows does to theta.

An optimizer of the inner loop starts afresh in each step of `fit`: its memory is part of the inner
loop's state, not of the model. All are differentiable, for the second order. One of one's own is an
object with the methods of `InnerOptimizer` and, to be saved with a model, `get_config` and
`from_config`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import keras
from keras import ops

from keras_m3s.meta.functional import Tensor, Values


class InnerOptimizer(Protocol):
    """What an inner optimizer must define."""

    def init(self, theta: Values) -> Values:
        """Memory before the first step: a list of tensors, maybe empty."""
        ...

    def update(
        self,
        theta: Values,
        gradients: Values,
        rates: Sequence[float | Tensor],
        memory: Values,
        step: Tensor,
    ) -> tuple[Values, Values]:
        """Values and memory after a step.

        Args:
            theta: Values of the parameters.
            gradients: Gradients, one for each of them.
            rates: Learning rates, one for each of them.
            memory: As `init` and earlier steps returned it.
            step: Number of steps done before, an int tensor.
        """
        ...


@keras.saving.register_keras_serializable(package="keras_m3s")
class SGD:
    """Gradient descent, with momentum if asked: theta - alpha (mu v + g).

    Args:
        momentum: mu in [0, 1).
    """

    def __init__(self, momentum: float = 0.0) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1). Received: momentum={momentum!r}.")
        self.momentum = momentum

    def init(self, theta: Values) -> Values:
        return [ops.zeros_like(value) for value in theta] if self.momentum else []

    def update(
        self,
        theta: Values,
        gradients: Values,
        rates: Sequence[float | Tensor],
        memory: Values,
        step: Tensor,
    ) -> tuple[Values, Values]:
        if self.momentum:
            pairs = zip(memory, gradients, strict=True)
            gradients = memory = [self.momentum * v + g for v, g in pairs]
        return [t - a * g for t, a, g in zip(theta, rates, gradients, strict=True)], memory

    def get_config(self) -> dict[str, Any]:
        return {"momentum": self.momentum}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "SGD":
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_m3s")
class Adam:
    """Adam, whose moments start at zero in each inner loop.

    Args:
        beta_1: Decay of the mean of gradients.
        beta_2: Decay of the mean of squared gradients.
        epsilon: Added to the square root of the latter, and under it too, since the derivative of
            the square root is infinite at 0.

    Reference: Kingma & Ba, ICLR 2015, algorithm 1.
    """

    def __init__(self, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8) -> None:
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def init(self, theta: Values) -> Values:
        return [ops.zeros_like(value) for value in theta] * 2

    def update(
        self,
        theta: Values,
        gradients: Values,
        rates: Sequence[float | Tensor],
        memory: Values,
        step: Tensor,
    ) -> tuple[Values, Values]:
        means, squares = memory[: len(theta)], memory[len(theta) :]
        b1, b2 = self.beta_1, self.beta_2
        means = [b1 * m + (1 - b1) * g for m, g in zip(means, gradients, strict=True)]
        squares = [
            b2 * s + (1 - b2) * ops.square(g) for s, g in zip(squares, gradients, strict=True)
        ]
        power = ops.cast(step, "float32") + 1.0
        unbiased_1, unbiased_2 = 1.0 - b1**power, 1.0 - b2**power
        moved = []
        for t, a, m, s in zip(theta, rates, means, squares, strict=True):
            spread = ops.sqrt(s / ops.cast(unbiased_2, s.dtype) + self.epsilon**2) + self.epsilon
            moved.append(t - a * (m / ops.cast(unbiased_1, m.dtype)) / spread)
        return moved, [*means, *squares]

    def get_config(self) -> dict[str, Any]:
        return {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Adam":
        return cls(**config)


NAMES: Mapping[str, type[SGD] | type[Adam]] = {"sgd": SGD, "adam": Adam}


def get(optimizer: str | InnerOptimizer) -> InnerOptimizer:
    """An inner optimizer by its name, or itself.

    Raises:
        ValueError: It is neither a known name nor such an object.
    """
    if isinstance(optimizer, str) and optimizer in NAMES:
        return NAMES[optimizer]()
    if hasattr(optimizer, "init") and hasattr(optimizer, "update"):
        return optimizer
    raise ValueError(
        f"`inner_optimizer` must be one of {list(NAMES)}, or an object with `init` and `update` as "
        f"in `keras_m3s.meta.inner_optimizers`. Received: {optimizer!r}."
    )
