"""The hyper-modality: audio and vision attended to by queries of the dominant features."""

from collections.abc import Iterator
from typing import Any

import keras

from keras_m3s.layers.centred_norm import CentredNorm
from keras_m3s.layers.torch_defaults import EPSILON, Linear
from keras_m3s.models.lnln.attention import attend, built, norm
from keras_m3s.models.torch_import.weights import TorchWeight, layer_norm, linear

SOURCES = ("audio", "vision")
LETTERS = {"audio": "a", "vision": "v"}
NORMS = {"dominant": 1, "audio": 2, "vision": 3, "hyper": 4}
"""Their numbers in the published code."""


class HyperModalityLayer(keras.layers.Layer):
    """Updates the hyper-modality with attention of the dominant features to audio and vision.

        new = LN(hyper) + W (attention(q, k_a, v_a) + attention(q, k_v, v_v))

    The residual is the normed input: the published code adds to that in place.

    Args:
        heads: Attention heads, at most the input's width `dim`; a head has `dim // heads` values.

    Call arguments:
        dominant: `(batch, steps, dim)`, for the queries.
        audio: `(batch, keys, dim)`, for keys and values; likewise `vision`.
        hyper: `(batch, steps, dim)`.

    Returns:
        Same shape as `hyper`.

    Reference: HhyperLearningLayer in models/basic_layers.py of Haoyu-ha/LNLN, 80a052c.
    """

    def __init__(self, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, dominant_shape: Any, *shapes: Any) -> None:
        dim, policy = dominant_shape[-1], {"dtype": self.dtype_policy}
        inner = dim // self.heads * self.heads

        def projection(name: str) -> Any:
            return built(Linear(inner, use_bias=False, name=name, **policy), dim)

        self.norms = {name: norm(f"{name}_norm", dim, policy) for name in NORMS if name != "hyper"}
        self.hyper_norm = built(CentredNorm(epsilon=EPSILON, name="hyper_norm", **policy), dim)
        self.query = projection("query")
        self.keys = {m: projection(f"{m}_key") for m in SOURCES}
        self.values = {m: projection(f"{m}_value") for m in SOURCES}
        # As published, a single head has no output projection.
        self.output_projection = (
            None
            if self.heads == 1
            else built(Linear(dim, name="output_projection", **policy), inner)
        )
        self.built = True

    def call(self, dominant: Any, audio: Any, vision: Any, hyper: Any) -> Any:
        query = self.query(self.norms["dominant"](dominant))
        found = []
        for m, x in (("audio", audio), ("vision", vision)):
            x = self.norms[m](x)
            found.append(attend(query, self.keys[m](x), self.values[m](x), self.heads))
        shift = found[0] + found[1]
        if self.output_projection is not None:
            shift = self.output_projection(shift)
        return self.hyper_norm(hyper) + shift

    def compute_output_shape(self, dominant_shape: Any, *shapes: Any) -> Any:
        return dominant_shape

    def torch_weights(self, prefix: str) -> Iterator[TorchWeight]:
        for name, number in NORMS.items():
            layer = self.hyper_norm if name == "hyper" else self.norms[name]
            yield from layer_norm(f"{prefix}.norm{number}", layer)
        yield from linear(f"{prefix}.fn.to_q", self.query)
        for m in SOURCES:
            yield from linear(f"{prefix}.fn.to_k_t{LETTERS[m]}", self.keys[m])
            yield from linear(f"{prefix}.fn.to_v_t{LETTERS[m]}", self.values[m])
        if self.output_projection is not None:
            yield from linear(f"{prefix}.fn.to_out.0", self.output_projection)
