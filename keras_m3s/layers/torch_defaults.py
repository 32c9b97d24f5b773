"""Layers that two or more of the models use."""

import random
from typing import Any

import keras
from keras import ops

EPSILON = 1e-5
"""PyTorch's epsilon in its norms; Keras' own is 1e-3."""

LEAK = 0.01
"""PyTorch's negative slope of a leaky ReLU; Keras' own is 0.2."""


@keras.saving.register_keras_serializable(package="keras_m3s")
def leaky_relu(x: Any) -> Any:
    """x, or `LEAK` x where x is negative."""
    return ops.leaky_relu(x, LEAK)


def activation(identifier: Any) -> Any:
    """A Keras activation, also by PyTorch's name: `"LeakyReLU"`, `"hardtanh"`, `"Tanh"`.

    `"leaky_relu"` is PyTorch's as well, see `LEAK`. Those with weights of their own or random
    slopes (`PReLU`, `RReLU`) are none of these.

    Args:
        identifier: Name, function, or a serialized one.
    """
    plain = identifier.lower().replace("_", "") if isinstance(identifier, str) else None
    named = {"leakyrelu": leaky_relu, "hardtanh": "hard_tanh", "hardshrink": "hard_shrink"}
    if plain in named:
        identifier = named[plain]
    elif plain is not None and not identifier.islower() and ">" not in identifier:
        identifier = identifier.lower()
    return keras.activations.get(identifier)


@keras.saving.register_keras_serializable(package="keras_m3s")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` whose masks always come from the layer's own seed state.

    Without a seed Keras on PyTorch takes the global generator, which no checkpoint holds: a run
    that is resumed would not go on as it would have.

    Args:
        rate: Share of entries set to 0.
        seed: Int; `None` for one that `keras.utils.set_random_seed` decides.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(rate, seed=random.randrange(2**31) if seed is None else seed, **kwargs)


@keras.saving.register_keras_serializable(package="keras_m3s")
class Linear(keras.layers.Dense):
    """A `Dense` initialised as PyTorch's `nn.Linear`: kernel and bias uniform in +-1/sqrt(inputs).

    Args:
        units: Size of the output.
        activation: As in `keras.layers.Dense`.
        kernel_initializer: `None` for PyTorch's.
        bias_initializer: `None` for PyTorch's.
        **kwargs: As in `keras.layers.Dense`.

    Reference: torch.nn.Linear.reset_parameters (uniform Kaiming with a = sqrt(5), which is this).
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
    """A `BatchNormalization` with PyTorch's momentum, epsilon and moving variance.

    PyTorch keeps the variance of a batch as n - 1 rows give it, Keras as n do; both normalise by
    the latter. A batch of 1, which PyTorch refuses, counts with its variance of 0.

    Args:
        **kwargs: As in `keras.layers.BatchNormalization`.

    Call with `(batch, dim)`.

    Reference: torch.nn.BatchNorm1d.
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = EPSILON, **kwargs: Any) -> None:
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        before = ops.copy(self.moving_variance)  # on PyTorch the tensor itself is written to
        outputs = super().call(inputs, training=training, mask=mask)
        if training and self.trainable:
            after = ops.convert_to_tensor(self.moving_variance)
            others = ops.cast(ops.maximum(ops.shape(inputs)[0] - 1, 1), after.dtype)
            self.moving_variance.assign(after + (after - self.momentum * before) / others)
        return outputs


@keras.saving.register_keras_serializable(package="keras_m3s")
class GradientReversal(keras.layers.Layer):
    """Returns its input; the gradient that comes back is multiplied by `-scale`.

    Args:
        scale: Factor of the reversed gradient, >= 0.

    Reference: Ganin and Lempitsky, "Unsupervised domain adaptation by backpropagation", ICML 2015.
    """

    def __init__(self, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs: Any) -> Any:
        # The value of x + 0, the gradient of -scale * x: no custom gradient, so any order of
        # derivative and every backend. The difference is 0 exactly, unless x is not finite.
        flipped = -(1.0 + self.scale) * inputs
        return inputs + (flipped - ops.stop_gradient(flipped))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable(package="keras_m3s")
class TransformerEncoderLayer(keras.layers.Layer):
    """Self-attention, then two dense layers, each added to its input and then normalised.

    Not `keras.layers.MultiHeadAttention`: here one matrix makes queries, keys and values, as in
    PyTorch (so its initialisation and its weights are PyTorch's), and plain matrix products can be
    differentiated twice on every backend, which fused attention on PyTorch cannot.

    Args:
        heads: Attention heads; the input's width must be a multiple.
        hidden_size: Width between the two dense layers.
        dropout: Rate on attention weights, hidden units and both branches before they are added.

    Call arguments:
        inputs: `(batch, steps, dim)`.

    Returns:
        Same shape.

    Reference: Vaswani et al., "Attention is all you need", 2017, section 3.1;
    torch.nn.TransformerEncoderLayer with its defaults (post-norm, ReLU).
    """

    def __init__(
        self, heads: int = 2, hidden_size: int = 2048, dropout: float = 0.1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.heads, self.hidden_size, self.dropout = heads, hidden_size, dropout

    def build(self, input_shape: Any) -> None:
        dim = input_shape[-1]
        if dim % self.heads:
            raise ValueError(
                f"`heads` must divide the input's width. Received: heads={self.heads}, "
                f"width {dim}. Take a `hidden_size` of the model that is a multiple of `heads`."
            )
        policy = {"dtype": self.dtype_policy}

        def built(layer: Any, width: int) -> Any:
            layer.build((*input_shape[:-1], width))
            return layer

        def norm(name: str) -> Any:
            layer = keras.layers.LayerNormalization(epsilon=EPSILON, name=name, **policy)
            return built(layer, dim)

        # Glorot over (dim, 3 dim) is PyTorch's Xavier over its (3 dim, dim); biases start at 0.
        self.projection = built(
            keras.layers.Dense(
                3 * dim, kernel_initializer="glorot_uniform", name="projection", **policy
            ),
            dim,
        )
        self.output_projection = built(
            Linear(dim, bias_initializer="zeros", name="output_projection", **policy), dim
        )
        self.inner = built(Linear(self.hidden_size, "relu", name="inner", **policy), dim)
        self.outer = built(Linear(dim, name="outer", **policy), self.hidden_size)
        self.attention_norm, self.dense_norm = norm("attention_norm"), norm("dense_norm")
        self.drop = Dropout(self.dropout, name="drop", **policy)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        attended = self.drop(self._attend(inputs, training), training=training)
        x = self.attention_norm(inputs + attended)
        hidden = self.drop(self.inner(x), training=training)
        return self.dense_norm(x + self.drop(self.outer(hidden), training=training))

    def _attend(self, inputs: Any, training: bool | None) -> Any:
        batch, steps, dim = ops.shape(inputs)
        size = dim // self.heads
        split = ops.reshape(self.projection(inputs), (batch, steps, 3, self.heads, size))
        query, key, value = (split[:, :, part] for part in range(3))
        scores = ops.einsum("bqhd,bkhd->bhqk", query * size**-0.5, key)
        weights = self.drop(ops.softmax(scores, axis=-1), training=training)
        attended = ops.einsum("bhqk,bkhd->bqhd", weights, value)
        return self.output_projection(ops.reshape(attended, (batch, steps, dim)))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {"heads": self.heads, "hidden_size": self.hidden_size, "dropout": self.dropout}
        return {**super().get_config(), **own}
