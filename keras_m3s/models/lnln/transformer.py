"""LNLN's transformers: learned tokens, learned positions, then the layers of `attention`.

    x <- [tokens, x] + positions

Reference: models/basic_layers.py of Haoyu-ha/LNLN, 80a052c.
"""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_m3s.models.lnln.attention import Block
from keras_m3s.models.torch_import.weights import TorchWeight


class Transformer(keras.layers.Layer):
    """A transformer encoder with learned tokens in front of the sequence and learned positions.

    Args:
        depth: Layers.
        heads: Attention heads.
        head_size: Width of each.
        hidden_size: Width between the dense layers of each.
        tokens: Number of learned tokens, initially 0.

    Call arguments:
        inputs: `(batch, steps, dim)`, with at most the number of steps it was built for.
        visible: Bool `(batch, steps)`, steps that are attended to; `None` for all.

    Returns:
        List of `depth + 1` tensors `(batch, tokens + steps, dim)`: the first layer's input and the
        output of each layer.
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
    """Layers in which a target attends to a source; both begin with the same learned token.

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


def positions(layer: Any, name: str, steps: int, dim: int) -> Any:
    """A new weight of `layer`, `(1, steps, dim)`, normal with standard deviation 1."""
    normal = keras.initializers.RandomNormal(stddev=1.0)
    return layer.add_weight(name=name, shape=(1, steps, dim), initializer=normal)


def start(layer: Any, name: str, tokens: int, dim: int, initializer: str = "zeros") -> Any:
    """A new weight of `layer`, `(1, tokens, dim)`: vectors that all samples share."""
    return layer.add_weight(name=name, shape=(1, tokens, dim), initializer=initializer)


def for_each_row(vectors: Any, x: Any) -> Any:
    """`vectors` `(1, tokens, dim)` repeated for the rows of `x`, in its dtype."""
    vectors = ops.cast(ops.convert_to_tensor(vectors), x.dtype)
    return ops.broadcast_to(vectors, (ops.shape(x)[0], *vectors.shape[1:]))


def position_weight(name: str, variable: Any) -> TorchWeight:
    """Learned positions; those of a checkpoint beyond the model's are never read, so left out."""
    steps = variable.shape[1]
    return TorchWeight(name, variable, lambda array: array[:, :steps])
