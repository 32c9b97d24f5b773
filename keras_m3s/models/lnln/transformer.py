"""LNLN's transformers: pre-norm, with learned tokens in front and learned positions.

    x <- [tokens, x] + positions
    x <- x + attention(LN_q(x), LN_k(x), LN_v(x))            per layer
    x <- x + W_2 gelu(W_1 LN(x))

Reference: models/basic_layers.py of Haoyu-ha/LNLN, 80a052c.
"""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_m3s.layers.torch_defaults import EPSILON, Linear
from keras_m3s.models.torch_import.weights import TorchWeight, layer_norm, linear

HIDDEN = -1e9
"""Score of a key that must not be seen."""


def attend(query: Any, key: Any, value: Any, heads: int, visible: Any = None) -> Any:
    """Scaled dot-product attention of several heads.

    Plain matrix products, which every backend can differentiate twice.

    Args:
        query: `(batch, queries, heads * size)`.
        key: `(batch, keys, heads * size)`.
        value: Same shape as `key`.
        heads: Attention heads.
        visible: Bool `(batch, keys)`, which keys count; at least one a row. `None` for all.

    Returns:
        `(batch, queries, heads * size)`.
    """
    size = query.shape[-1] // heads

    def split(x: Any) -> Any:
        batch, steps, _ = ops.shape(x)
        return ops.reshape(x, (batch, steps, heads, size))

    scores = ops.einsum("bqhd,bkhd->bhqk", split(query) * size**-0.5, split(key))
    if visible is not None:
        scores = ops.where(visible[:, None, None], scores, ops.cast(HIDDEN, scores.dtype))
    attended = ops.einsum("bhqk,bkhd->bqhd", ops.softmax(scores, axis=-1), split(value))
    batch, steps, _, _ = ops.shape(attended)
    return ops.reshape(attended, (batch, steps, heads * size))


class Attention(keras.layers.Layer):
    """Attention behind norms of their own for queries, keys and values.

    Args:
        heads: Attention heads.
        head_size: Width of each, whatever the input's width.

    Call arguments:
        target: `(batch, queries, dim)`, where queries come from.
        source: `(batch, keys, dim)`, where keys and values come from.
        visible: See `attend`.

    Returns:
        Same shape as `target`.
    """

    def __init__(self, heads: int, head_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads, self.head_size = heads, head_size

    def build(self, target_shape: Any, source_shape: Any = None) -> None:
        dim, policy = target_shape[-1], {"dtype": self.dtype_policy}
        inner = self.heads * self.head_size
        self.norms = {name: norm(f"{name}_norm", dim, policy) for name in ("q", "k", "v")}
        self.projections = {
            name: built(Linear(inner, use_bias=False, name=name, **policy), dim)
            for name in ("q", "k", "v")
        }
        # As published: one head of full width has no output projection.
        identity = self.heads == 1 and self.head_size == dim
        self.output_projection = (
            None if identity else built(Linear(dim, name="output_projection", **policy), inner)
        )
        self.built = True

    def call(self, target: Any, source: Any, visible: Any = None) -> Any:
        inputs = {"q": target, "k": source, "v": source}
        q, k, v = (self.projections[n](self.norms[n](x)) for n, x in inputs.items())
        attended = attend(q, k, v, self.heads, visible)
        return attended if self.output_projection is None else self.output_projection(attended)

    def compute_output_shape(self, target_shape: Any, source_shape: Any) -> Any:
        return target_shape

    def torch_weights(self, prefix: str) -> Iterator[TorchWeight]:
        for name in ("q", "k", "v"):
            yield from layer_norm(f"{prefix}.norm_{name}", self.norms[name])
            yield from linear(f"{prefix}.fn.to_{name}", self.projections[name])
        if self.output_projection is not None:
            yield from linear(f"{prefix}.fn.to_out.0", self.output_projection)


class Block(keras.layers.Layer):
    """One layer of a transformer: attention and two dense layers, each added to its input.

    Args:
        heads: Attention heads.
        head_size: Width of each.
        hidden_size: Width between the dense layers.

    Call arguments:
        target: `(batch, steps, dim)`.
        source: What `target` attends to, `(batch, keys, dim)`; `None` for itself.
        visible: See `attend`.

    Returns:
        Same shape as `target`.
    """

    def __init__(self, heads: int, head_size: int, hidden_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.hidden_size = hidden_size
        self.attention = Attention(heads, head_size, name="attention", **policy)

    def build(self, target_shape: Any, source_shape: Any = None) -> None:
        dim, policy = target_shape[-1], {"dtype": self.dtype_policy}
        self.attention.build(target_shape)
        self.norm = norm("norm", dim, policy)
        self.inner = built(Linear(self.hidden_size, "gelu", name="inner", **policy), dim)
        self.outer = built(Linear(dim, name="outer", **policy), self.hidden_size)
        self.built = True

    def call(self, target: Any, source: Any = None, visible: Any = None) -> Any:
        x = target + self.attention(target, target if source is None else source, visible)
        return x + self.outer(self.inner(self.norm(x)))

    def compute_output_shape(self, target_shape: Any, source_shape: Any = None) -> Any:
        return target_shape

    def torch_weights(self, prefix: str) -> Iterator[TorchWeight]:
        yield from self.attention.torch_weights(f"{prefix}.0")
        yield from layer_norm(f"{prefix}.1.norm", self.norm)
        yield from linear(f"{prefix}.1.fn.net.0", self.inner)
        yield from linear(f"{prefix}.1.fn.net.3", self.outer)


class Transformer(keras.layers.Layer):
    """Learned tokens, then the sequence, plus learned positions, through several layers.

    Args:
        depth: Layers.
        heads: Attention heads.
        head_size: Width of each.
        hidden_size: Width between the dense layers of each.
        tokens: Learned tokens in front, which start at 0.

    Call arguments:
        inputs: `(batch, steps, dim)`, at most as many steps as it was built with.
        visible: Bool `(batch, steps)`, which steps are attended to; `None` for all.

    Returns:
        List of `depth + 1` tensors `(batch, tokens + steps, dim)`: what goes into the first layer,
        and what comes out of each.
    """

    def __init__(
        self,
        depth: int,
        heads: int,
        head_size: int,
        hidden_size: int,
        tokens: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tokens = tokens
        self.blocks = [
            Block(heads, head_size, hidden_size, name=f"block_{i}", dtype=self.dtype_policy)
            for i in range(depth)
        ]

    def build(self, inputs_shape: Any, visible_shape: Any = None) -> None:
        _, steps, dim = inputs_shape
        self.positions = positions(self, "positions", self.tokens + steps, dim)
        self.token = start(self, "token", self.tokens, dim) if self.tokens else None
        for block in self.blocks:
            block.build((None, None, dim))
        self.built = True

    def call(self, inputs: Any, visible: Any = None) -> list[Any]:
        x = inputs
        if self.token is not None:
            x = ops.concatenate([for_each_row(self.token, x), x], axis=1)
            if visible is not None:
                tokens = ops.ones_like(visible[:, :1])
                visible = ops.concatenate([ops.repeat(tokens, self.tokens, 1), visible], axis=1)
        states = [x + self.positions[:, : ops.shape(x)[1]]]
        for block in self.blocks:
            states.append(block(states[-1], visible=visible))
        return states

    def compute_output_shape(self, inputs_shape: Any, visible_shape: Any = None) -> Any:
        batch, steps, dim = inputs_shape
        shape = (batch, None if steps is None else self.tokens + steps, dim)
        return [shape] * (len(self.blocks) + 1)

    def torch_weights(self, prefix: str) -> Iterator[TorchWeight]:
        yield position_weight(f"{prefix}.pos_embedding", self.positions)
        if self.token is not None:
            yield TorchWeight(f"{prefix}.extra_token", self.token)
        for i, block in enumerate(self.blocks):
            yield from block.torch_weights(f"{prefix}.encoder.layers.{i}")


class CrossTransformer(keras.layers.Layer):
    """A target that attends to a source, both behind the same learned token.

    Args:
        depth: Layers.
        heads: Attention heads.
        head_size: Width of each.
        hidden_size: Width between the dense layers of each.

    Call arguments:
        source: `(batch, keys, dim)`, the same in each layer.
        target: `(batch, steps, dim)`.

    Returns:
        `(batch, 1 + steps, dim)`.
    """

    def __init__(
        self, depth: int, heads: int, head_size: int, hidden_size: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.blocks = [
            Block(heads, head_size, hidden_size, name=f"block_{i}", dtype=self.dtype_policy)
            for i in range(depth)
        ]

    def build(self, source_shape: Any, target_shape: Any) -> None:
        dim = target_shape[-1]
        self.source_positions = positions(self, "source_positions", 1 + source_shape[1], dim)
        self.target_positions = positions(self, "target_positions", 1 + target_shape[1], dim)
        self.token = start(self, "token", 1, dim)
        for block in self.blocks:
            block.build((None, None, dim))
        self.built = True

    def call(self, source: Any, target: Any) -> Any:
        token = for_each_row(self.token, target)
        source = ops.concatenate([token, source], axis=1)
        source = source + self.source_positions[:, : ops.shape(source)[1]]
        target = ops.concatenate([token, target], axis=1)
        target = target + self.target_positions[:, : ops.shape(target)[1]]
        for block in self.blocks:
            target = block(target, source)
        return target

    def compute_output_shape(self, source_shape: Any, target_shape: Any) -> Any:
        batch, steps, dim = target_shape
        return (batch, None if steps is None else 1 + steps, dim)

    def torch_weights(self, prefix: str) -> Iterator[TorchWeight]:
        yield position_weight(f"{prefix}.pos_embedding_s", self.source_positions)
        yield position_weight(f"{prefix}.pos_embedding_t", self.target_positions)
        yield TorchWeight(f"{prefix}.extra_token", self.token)
        for i, block in enumerate(self.blocks):
            yield from block.torch_weights(f"{prefix}.CrossTransformerEncoder.layers.{i}")


def built(layer: Any, width: int) -> Any:
    """The layer, built for inputs `(batch, steps, width)`."""
    layer.build((None, None, width))
    return layer


def norm(name: str, width: int, policy: dict[str, Any]) -> Any:
    """A layer normalization with PyTorch's epsilon."""
    return built(keras.layers.LayerNormalization(epsilon=EPSILON, name=name, **policy), width)


def positions(layer: Any, name: str, steps: int, dim: int) -> Any:
    """A new weight of `layer`, `(1, steps, dim)`, normal with standard deviation 1."""
    normal = keras.initializers.RandomNormal(stddev=1.0)
    return layer.add_weight(name=name, shape=(1, steps, dim), initializer=normal)


def start(layer: Any, name: str, tokens: int, dim: int, initializer: str = "zeros") -> Any:
    """A new weight of `layer`, `(1, tokens, dim)`: the same vectors for every sample."""
    return layer.add_weight(name=name, shape=(1, tokens, dim), initializer=initializer)


def for_each_row(vectors: Any, x: Any) -> Any:
    """`vectors` `(1, tokens, dim)` once for each of the rows of `x`, in its type."""
    vectors = ops.cast(ops.convert_to_tensor(vectors), x.dtype)
    return ops.broadcast_to(vectors, (ops.shape(x)[0], *vectors.shape[1:]))


def position_weight(name: str, variable: Any) -> TorchWeight:
    """Positions in a checkpoint, without those behind the last that the model can read."""
    steps = variable.shape[1]
    return TorchWeight(name, variable, lambda array: array[:, :steps])
