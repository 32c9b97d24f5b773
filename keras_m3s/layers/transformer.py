"""PyTorch's `TransformerEncoderLayer` with its defaults: post-norm, ReLU.

    x <- LayerNorm(x + dropout(attention(x)))
    x <- LayerNorm(x + dropout(W_2 dropout(relu(W_1 x))))

Reference: Vaswani et al., "Attention is all you need", 2017, section 3.1.
"""

from typing import Any

import keras
from keras import ops

from keras_m3s.layers.torch_defaults import EPSILON, Dropout, Linear, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_m3s")
class TransformerEncoderLayer(keras.layers.Layer):
    """Self-attention and a feed-forward block, each with a residual connection and layer norm.

    It does not use `keras.layers.MultiHeadAttention`: one matrix projects to queries, keys and
    values, as in PyTorch, which gives PyTorch's initialization and weights; and plain matrix
    products can be differentiated twice on every backend, unlike PyTorch's fused attention.

    Args:
        heads: Number of attention heads; must divide the width of the input.
        hidden_size: Width of the feed-forward block.
        dropout: Rate for attention weights, hidden units and the output of both blocks.

    Call arguments:
        inputs: `(batch, steps, dim)`.

    Returns:
        The same shape.

    Reference: torch.nn.TransformerEncoderLayer.
    """

    def __init__(
        self, heads: int = 2, hidden_size: int = 2048, dropout: float = 0.1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.heads, self.hidden_size, self.dropout = heads, hidden_size, dropout

    def build(self, input_shape: Shape) -> None:
        dim = input_shape[-1]
        if dim is None or dim % self.heads:
            raise ValueError(
                f"`heads` must divide the input's width. Received: heads={self.heads}, "
                f"width {dim}. Take a `hidden_size` of the model that is a multiple of `heads`."
            )
        policy = {"dtype": self.dtype_policy}

        def built(layer: keras.layers.Layer, width: int) -> keras.layers.Layer:
            layer.build((*input_shape[:-1], width))
            return layer

        def norm(name: str) -> keras.layers.Layer:
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

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        attended = self.drop(self._attend(inputs, training), training=training)
        x = self.attention_norm(inputs + attended)
        hidden = self.drop(self.inner(x), training=training)
        return self.dense_norm(x + self.drop(self.outer(hidden), training=training))

    def _attend(self, inputs: Tensor, training: bool | None) -> Tensor:
        """Multi-head self-attention, `(batch, steps, dim)`."""
        batch, steps, dim = ops.shape(inputs)
        size = dim // self.heads
        split = ops.reshape(self.projection(inputs), (batch, steps, 3, self.heads, size))
        query, key, value = (split[:, :, part] for part in range(3))
        scores = ops.einsum("bqhd,bkhd->bhqk", query * size**-0.5, key)
        weights = self.drop(ops.softmax(scores, axis=-1), training=training)
        attended = ops.einsum("bhqk,bkhd->bqhd", weights, value)
        return self.output_projection(ops.reshape(attended, (batch, steps, dim)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {"heads": self.heads, "hidden_size": self.hidden_size, "dropout": self.dropout}
        return {**super().get_config(), **own}
