"""Pre-norm attention with separate norms for queries, keys and values.

    x <- x + W attention(W_q LN_q(x), W_k LN_k(z), W_v LN_v(z))       z: x or another sequence
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
"""Score of a masked key."""


def attend(query: Any, key: Any, value: Any, heads: int, visible: Any = None) -> Any:
    """Scaled dot-product attention of several heads.

    Written as matrix products: fused attention on PyTorch has no second derivative.

    Args:
        query: `(batch, queries, heads * size)`.
        key: `(batch, keys, heads * size)`.
        value: Same shape as `key`.
        heads: Attention heads.
        visible: Bool `(batch, keys)`, keys that are attended to, at least one a row; `None` for
            all.

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
    """Attention with a layer norm each in front of queries, keys and values.

    Args:
        heads: Attention heads.
        head_size: Width of a head; it does not depend on the input's width.

    Call arguments:
        target: `(batch, queries, dim)`, for the queries.
        source: `(batch, keys, dim)`, for keys and values.
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
        # As published, a single head of the input's width has no output projection.
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


def built(layer: Any, width: int) -> Any:
    """The layer, built for inputs `(batch, steps, width)`."""
    layer.build((None, None, width))
    return layer


def norm(name: str, width: int, policy: dict[str, Any]) -> Any:
    """A layer normalization with PyTorch's epsilon."""
    return built(keras.layers.LayerNormalization(epsilon=EPSILON, name=name, **policy), width)
