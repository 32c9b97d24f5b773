"""The crossmodal transformer: one sequence attends to itself or to another one.

    z_0   = sqrt(d) x + position            y_0 = sqrt(d) y + position, y the other sequence
    z_i'  = z_{i-1} + attention(norm_1(z_{i-1}), norm_1(y_0))            alone, y_0 is z_{i-1}
    z_i   = z_i' + W_2 relu(W_1 norm_2(z_i'))
    out   = norm(z_n)

Norms come before what they serve (pre-norm), and y_0 is the same for all layers.

Reference: Tsai et al., "Multimodal transformer for unaligned multimodal language sequences", ACL
2019, section 3.2; models/subNets/transformers_encoder of thuiar/TFR-Net 00f06a6.
"""

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_m3s.layers.centred_norm import CentredNorm, precise
from keras_m3s.layers.torch_defaults import EPSILON, Dropout
from keras_m3s.models.torch_import.weights import TorchWeight, layer_norm, linear

NO_WEIGHT = -1e9
"""Attention score of a key that is not to be seen."""


def sinusoids(steps: Any, width: int) -> Any:
    """Position vectors `(steps, width)` of the positions 1, 2, ...

    Sines in the first half, cosines in the second, a zero at the end of an odd width.

    Args:
        steps: Number of positions, an int or a scalar tensor.
        width: Width of a vector. Below 4 the published formula divides by 0; here the single
            frequency of such a width is 1.
    """
    half = width // 2
    fall = np.float32(math.log(10000) / max(half - 1, 1))
    frequencies = np.exp(-np.arange(half, dtype="float32") * fall)
    positions = ops.cast(ops.arange(1, steps + 1), "float32")
    angles = ops.multiply(positions[:, None], frequencies)
    table = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
    return ops.pad(table, [[0, 0], [0, width % 2]])


def visible_keys(
    query_steps: Any,
    key_steps: Any,
    causal: bool,
    query_lengths: Any = None,
    key_lengths: Any = None,
) -> Any:
    """Which keys each query may see.

    Args:
        query_steps: Number of queries. key_steps: Number of keys.
        causal: Whether query i sees the keys up to i + |keys - queries| only.
        query_lengths: `(batch,)` int, true queries; with `key_lengths`, or `None`.
        key_lengths: `(batch,)` int, true keys. With lengths no padding is seen, and they count in
            place of the numbers of steps.

    Returns:
        Bool tensor that broadcasts to `(batch, heads, queries, keys)`; `None` where all are seen.
    """
    keys = ops.arange(key_steps)
    if key_lengths is None:
        if not causal:
            return None
        offset = ops.abs(ops.subtract(key_steps, query_steps))
        return keys <= ops.arange(query_steps)[:, None] + ops.cast(offset, keys.dtype)
    inside = keys < ops.cast(key_lengths, keys.dtype)[:, None, None, None]
    if not causal:
        return inside
    offset = ops.cast(ops.abs(key_lengths - query_lengths), keys.dtype)[:, None, None, None]
    return ops.logical_and(inside, keys <= ops.arange(query_steps)[:, None] + offset)


class CrossmodalLayer(keras.layers.Layer):
    """One layer: attention, then two dense layers of 4 times the width, each added to its input.

    Args:
        heads: Attention heads, a divisor of the width.
        attention_dropout: Rate on attention weights.
        relu_dropout: Rate on hidden units.
        residual_dropout: Rate on both branches before they are added.

    Call arguments:
        queries: `(batch, queries, dim)`.
        keys: `(batch, keys, dim)`, before their norm; `None` for the queries themselves.
        values: As `keys`; the same tensor costs less.
        visible: See `visible_keys`.
    """

    def __init__(
        self,
        heads: int,
        attention_dropout: float,
        relu_dropout: float,
        residual_dropout: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.heads = heads
        self.attention_drop, self.relu_drop, self.residual_drop = (
            Dropout(rate, name=name, dtype=self.dtype_policy)
            for rate, name in (
                (attention_dropout, "attention_drop"),
                (relu_dropout, "relu_drop"),
                (residual_dropout, "residual_drop"),
            )
        )

    def build(self, queries_shape: Any) -> None:
        dim = queries_shape[-1]
        policy = {"dtype": self.dtype_policy}

        def dense(name: str, inputs: int, units: int, activation: Any = None) -> Any:
            # Keras' defaults, Glorot and zeros, are the published ones.
            layer = keras.layers.Dense(units, activation, name=name, **policy)
            layer.build((None, None, inputs))
            return layer

        self.projection = dense("projection", dim, 3 * dim)
        self.output_projection = dense("output_projection", dim, dim)
        self.inner = dense("inner", dim, 4 * dim, "relu")
        self.outer = dense("outer", 4 * dim, dim)
        self.attention_norm = _norm("attention_norm", dim, policy)
        self.dense_norm = _norm("dense_norm", dim, policy)

    def call(
        self,
        queries: Any,
        keys: Any = None,
        values: Any = None,
        visible: Any = None,
        training: bool | None = None,
    ) -> Any:
        normed = self.attention_norm(queries)
        source = normed if keys is None else self.attention_norm(keys)
        other = source if values is keys else self.attention_norm(values)
        attended = self._attend(normed, source, other, visible, training)
        x = queries + self.residual_drop(attended, training=training)
        hidden = self.relu_drop(self.inner(self.dense_norm(x)), training=training)
        return x + self.residual_drop(self.outer(hidden), training=training)

    def _attend(self, queries: Any, keys: Any, values: Any, visible: Any, training: Any) -> Any:
        dim = queries.shape[-1]
        size = dim // self.heads
        if keys is queries:
            query, key, value = self._projected(queries, 0, 3)
        elif values is keys:
            (query,), (key, value) = self._projected(queries, 0, 1), self._projected(keys, 1, 3)
        else:
            query, key, value = (
                self._projected(x, part, part + 1)[0]
                for part, x in enumerate((queries, keys, values))
            )
        scores = precise(ops.einsum("bqhd,bkhd->bhqk", query * size**-0.5, key))
        if visible is not None:
            scores = ops.where(visible, scores, NO_WEIGHT)
        weights = ops.cast(ops.softmax(scores, axis=-1), value.dtype)
        weights = self.attention_drop(weights, training=training)
        attended = ops.einsum("bhqk,bkhd->bqhd", weights, value)
        return self.output_projection(ops.reshape(attended, (*ops.shape(attended)[:2], dim)))

    def _projected(self, x: Any, first: int, last: int) -> list[Any]:
        """Of queries (part 0), keys (1) and values (2) those from `first` to before `last`.

        Each is `(batch, steps, heads, size)`. One product for what has the same input.
        """
        dim, parts = x.shape[-1], last - first
        kernel = ops.convert_to_tensor(self.projection.kernel)[:, first * dim : last * dim]
        bias = ops.convert_to_tensor(self.projection.bias)[first * dim : last * dim]
        shape = (*ops.shape(x)[:2], parts, self.heads, dim // self.heads)
        projected = ops.reshape(ops.matmul(x, kernel) + bias, shape)
        return [projected[:, :, part] for part in range(parts)]

    def torch_weights(self, prefix: str) -> Iterator[TorchWeight]:
        attention = f"{prefix}.self_attn"
        yield TorchWeight(f"{attention}.in_proj_weight", self.projection.kernel, np.transpose)
        yield TorchWeight(f"{attention}.in_proj_bias", self.projection.bias)
        yield from linear(f"{attention}.out_proj", self.output_projection)
        yield from linear(f"{prefix}.fc1", self.inner)
        yield from linear(f"{prefix}.fc2", self.outer)
        yield from layer_norm(f"{prefix}.layer_norms.0", self.attention_norm)
        yield from layer_norm(f"{prefix}.layer_norms.1", self.dense_norm)


class CrossmodalTransformer(keras.layers.Layer):
    """Layers of attention from a sequence to itself or to another one of the same width.

    Args:
        layers: Number of `CrossmodalLayer`s.
        heads: Attention heads.
        attention_dropout: See `CrossmodalLayer`; likewise `relu_dropout`, `residual_dropout`.
        embedding_dropout: Rate on what goes into the first layer.
        causal: See `visible_keys`.
        positions: Whether positions are added, see `sinusoids`. A frame whose first feature is
            exactly 0, as of one that is missing or padding, gets none.

    Call arguments:
        queries: `(batch, steps, dim)`.
        source: `(batch, other steps, dim)`, what is attended to; `None` for `queries`.
        lengths: Of queries and keys, two `(batch,)` int, see `visible_keys`; `None` where padding
            is seen as well.

    Returns:
        The shape of `queries`.
    """

    def __init__(
        self,
        layers: int,
        heads: int,
        attention_dropout: float = 0.0,
        relu_dropout: float = 0.0,
        residual_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        causal: bool = True,
        positions: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.causal, self.positions = causal, positions
        self.embedding_drop = Dropout(embedding_dropout, name="embedding_drop", **policy)
        self.layers = [
            CrossmodalLayer(
                heads,
                attention_dropout,
                relu_dropout,
                residual_dropout,
                name=f"layer_{number}",
                **policy,
            )
            for number in range(layers)
        ]

    def build(self, queries_shape: Any) -> None:
        for layer in self.layers:
            layer.build(queries_shape)
        self.norm = _norm("norm", queries_shape[-1], {"dtype": self.dtype_policy})

    def call(
        self,
        queries: Any,
        source: Any = None,
        lengths: tuple[Any, Any] | None = None,
        training: bool | None = None,
    ) -> Any:
        x = self._embed(queries, training)
        keys = values = None
        if source is not None:
            keys = values = self._embed(source, training)
            if training and self.embedding_drop.rate:  # dropped out twice, as published
                values = self._embed(source, training)
        seen = queries if source is None else source
        visible = visible_keys(
            ops.shape(queries)[1], ops.shape(seen)[1], self.causal, *(lengths or (None, None))
        )
        for layer in self.layers:
            x = layer(x, keys, values, visible=visible, training=training)
        return self.norm(x)

    def _embed(self, x: Any, training: bool | None) -> Any:
        embedded = x * x.shape[-1] ** 0.5
        if self.positions:
            table = ops.cast(sinusoids(ops.shape(x)[1], x.shape[-1]), x.dtype)
            embedded = embedded + ops.where(x[..., :1] != 0, table, ops.zeros((), x.dtype))
        return self.embedding_drop(embedded, training=training)

    def compute_output_shape(self, queries_shape: Any, *others: Any, **kwargs: Any) -> Any:
        return queries_shape

    def torch_weights(self, prefix: str) -> Iterator[TorchWeight]:
        for number, layer in enumerate(self.layers):
            yield from layer.torch_weights(f"{prefix}.layers.{number}")
        yield from layer_norm(f"{prefix}.layer_norm", self.norm)


def _norm(name: str, dim: int, policy: dict[str, Any]) -> Any:
    layer = CentredNorm(epsilon=EPSILON, name=name, **policy)
    layer.build((None, None, dim))
    return layer
