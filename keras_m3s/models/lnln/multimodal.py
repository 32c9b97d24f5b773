"""Multimodal fusion around the dominant features.

    s_0, s_1, ... = states of transformer(h_d)
    h <- hyper_i(s_i, h_a, h_v, h)                  h first a learned constant
    f  = mean over the tokens of cross_transformer(source h, target s_last)

Reference: `dmml` in models/lnln.py of Haoyu-ha/LNLN, 80a052c.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import ops

from keras_m3s.models.lnln.hyper_modality import HyperModalityLayer
from keras_m3s.models.lnln.transformer import CrossTransformer, Transformer, for_each_row, start
from keras_m3s.models.torch_import.weights import TorchWeight


class MultimodalLearning(keras.layers.Layer):
    """One vector from the dominant features, audio and vision.

    Args:
        tokens: Tokens of a modality.
        language: Arguments of the `Transformer` over the dominant features.
        hyper: `depth` and `heads` of the hyper-modality layers. Layer i reads state i of the
            language transformer, so that there is at most one more than that has layers.
        fusion: Arguments of the `CrossTransformer`.

    Call with the dominant features, `audio`, `vision`, each `(batch, tokens, dim)`.

    Returns:
        `(batch, dim)`.
    """

    def __init__(
        self,
        tokens: int,
        language: Mapping[str, Any],
        hyper: Mapping[str, Any],
        fusion: Mapping[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.tokens = tokens
        self.language = Transformer(name="language", **language, **policy)
        self.hyper = [
            HyperModalityLayer(hyper["heads"], name=f"hyper_{i}", **policy)
            for i in range(hyper["depth"])
        ]
        self.fusion = CrossTransformer(name="fusion", **fusion, **policy)

    def build(self, dominant_shape: Any, *shapes: Any) -> None:
        shape = (None, self.tokens, dominant_shape[-1])
        self.language.build(shape)
        self.start = start(self, "start", self.tokens, dominant_shape[-1], "ones")
        for layer in self.hyper:
            layer.build(shape)
        self.fusion.build(shape, shape)
        self.built = True

    def call(self, dominant: Any, audio: Any, vision: Any) -> Any:
        states = self.language(dominant)
        hyper = for_each_row(self.start, dominant)
        for layer, state in zip(self.hyper, states, strict=False):
            hyper = layer(state, audio, vision, hyper)
        return ops.mean(self.fusion(hyper, states[-1])[:, 1:], axis=1)

    def compute_output_shape(self, dominant_shape: Any, *shapes: Any) -> Any:
        return (dominant_shape[0], dominant_shape[-1])

    def torch_weights(self) -> Iterator[TorchWeight]:
        yield TorchWeight("h_hyper", self.start)
        yield from self.language.torch_weights("dmml.0")
        for i, layer in enumerate(self.hyper):
            yield from layer.torch_weights(f"dmml.1.layers.{i}.0")
        yield from self.fusion.torch_weights("dmml.2")
