"""Keras layers with PyTorch's defaults: initialization, epsilon, momentum, slopes.

The published models were written in PyTorch; with these layers they start, train and import weights
as published.
"""

import random
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
from keras import ops

Tensor: TypeAlias = Any
"""A tensor of the Keras backend."""

Shape: TypeAlias = tuple[int | None, ...]

EPSILON = 1e-5
"""PyTorch's default in normalization layers; that of Keras is 1e-3."""

LEAK = 0.01
"""PyTorch's default negative slope of a leaky ReLU; that of Keras is 0.2."""


@keras.saving.register_keras_serializable(package="keras_m3s")
def leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU with PyTorch's negative slope, `LEAK`."""
    return ops.leaky_relu(x, LEAK)


def activation(identifier: Any) -> Callable[[Tensor], Tensor]:
    """Returns a Keras activation, also by its name in PyTorch.

    Such names are `"LeakyReLU"`, `"hardtanh"`, `"Tanh"`. `"leaky_relu"` has PyTorch's slope too,
    see `LEAK`. Activations with weights (`PReLU`) or random slopes (`RReLU`) are not supported.

    Args:
        identifier: Name, function, or a serialized function.
    """
    plain = identifier.lower().replace("_", "") if isinstance(identifier, str) else None
    named = {"leakyrelu": leaky_relu, "hardtanh": "hard_tanh", "hardshrink": "hard_shrink"}
    if plain in named:
        identifier = named[plain]
    elif plain is not None and not identifier.islower() and ">" not in identifier:
        identifier = identifier.lower()
    found: Callable[[Tensor], Tensor] = keras.activations.get(identifier)
    return found


@keras.saving.register_keras_serializable(package="keras_m3s")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` that always draws its masks from a seed state of its own.

    Without a seed, Keras on PyTorch uses the global generator. No checkpoint saves that, so a
    resumed run would draw other masks.

    Args:
        rate: Share of entries set to 0.
        seed: Int; `None` for one that `keras.utils.set_random_seed` determines.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(rate, seed=random.randrange(2**31) if seed is None else seed, **kwargs)


@keras.saving.register_keras_serializable(package="keras_m3s")
class Linear(keras.layers.Dense):
    """`Dense` initialized as PyTorch's `nn.Linear`: kernel and bias uniform in +-1/sqrt(inputs).

    Args:
        units: Size of the output.
        activation: As in `keras.layers.Dense`.
        kernel_initializer: `None` for PyTorch's.
        bias_initializer: `None` for PyTorch's.
        **kwargs: As in `keras.layers.Dense`.

    Reference: torch.nn.Linear.reset_parameters; its Kaiming initialization with a = sqrt(5) is
        uniform in the same bounds.
    """

    kernel_initializer: Any
    bias_initializer: Any

    def __init__(
        self,
        units: int,
        activation: Any = None,
        kernel_initializer: Any = None,
        bias_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units,
            activation=activation,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            **kwargs,
        )

    def build(self, input_shape: Any) -> None:
        bound = input_shape[-1] ** -0.5
        if self.kernel_initializer is None:
            self.kernel_initializer = keras.initializers.RandomUniform(-bound, bound)
        if self.bias_initializer is None:
            self.bias_initializer = keras.initializers.RandomUniform(-bound, bound)
        super().build(input_shape)


@keras.saving.register_keras_serializable(package="keras_m3s")
class BatchNorm(keras.layers.BatchNormalization):
    """`BatchNormalization` with PyTorch's momentum, epsilon and moving variance.

    The moving variance takes the unbiased variance of each batch, as in PyTorch; Keras takes the
    biased one. Both normalize by the biased one. PyTorch refuses a batch of 1; here its variance
    is 0.

    Args:
        momentum: Weight of the old moving average; PyTorch's `momentum` is 1 minus this.
        epsilon: Added to the variance.
        **kwargs: As in `keras.layers.BatchNormalization`.

    Call arguments:
        inputs: `(batch, dim)`.

    Reference: torch.nn.BatchNorm1d.
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = EPSILON, **kwargs: Any) -> None:
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
    ) -> Tensor:
        before = ops.copy(self.moving_variance)  # PyTorch updates the tensor in place
        outputs = super().call(inputs, training=training, mask=mask)
        if training and self.trainable:
            after = ops.convert_to_tensor(self.moving_variance)
            others = ops.cast(ops.maximum(ops.shape(inputs)[0] - 1, 1), after.dtype)
            self.moving_variance.assign(after + (after - self.momentum * before) / others)
        return outputs
