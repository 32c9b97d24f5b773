"""Dominant features: the text's, mixed with a proxy of them as far as the text is incomplete.

    w   = sigmoid(W_2 leaky(W_1 token(transformer(h_t))))
    h_p = reverse(transformer([start, h_a, h_v]))
    h_d = w h_t + (1 - w) h_p

`Discriminator` is the adversary of the proxy.

Reference: models/lnln.py of Haoyu-ha/LNLN, 80a052c.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import ops

from keras_m3s.layers.gradient_reversal import GradientReversal
from keras_m3s.layers.torch_defaults import Linear
from keras_m3s.models.lnln.attention import built
from keras_m3s.models.lnln.transformer import Transformer, for_each_row, start
from keras_m3s.models.torch_import.weights import TorchWeight, linear

LEAK = 0.1


class DominantFeatures(keras.layers.Layer):
    """Mixes the text's features with a proxy made of audio and vision.

    Args:
        tokens: Tokens of a modality.
        proxy: Arguments of the `Transformer` that makes the proxy.
        completeness: Arguments of the `Transformer` that estimates how complete the text is.

    Call with `text`, `audio`, `vision`, each `(batch, tokens, dim)`.

    Returns:
        The dominant features, same shape, and the estimated completeness `(batch, 1)` in [0, 1].
        All gradients that reach the proxy are reversed; as published, the task's as well.
    """

    def __init__(
        self,
        tokens: int,
        proxy: Mapping[str, Any],
        completeness: Mapping[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.tokens = tokens
        self.completeness = Transformer(tokens=1, name="completeness", **completeness, **policy)
        self.completeness_head = Linear(1, "sigmoid", name="completeness_head", **policy)
        self.proxy = Transformer(tokens=tokens, name="proxy", **proxy, **policy)
        self.reverse = GradientReversal(name="reverse", **policy)

    def build(self, text_shape: Any, *shapes: Any) -> None:
        dim, policy = text_shape[-1], {"dtype": self.dtype_policy}
        self.completeness.build((None, self.tokens, dim))
        self.completeness_inner = Linear(dim // 2, name="completeness_inner", **policy)
        built(self.completeness_inner, dim)
        built(self.completeness_head, dim // 2)
        self.start = start(self, "start", self.tokens, dim, "ones")
        self.proxy.build((None, 3 * self.tokens, dim))
        self.built = True

    def call(self, text: Any, audio: Any, vision: Any) -> tuple[Any, Any]:
        token = self.completeness(text)[-1][:, 0]
        inner = ops.leaky_relu(self.completeness_inner(token), LEAK)
        completeness = self.completeness_head(inner)
        sequence = ops.concatenate([for_each_row(self.start, text), audio, vision], axis=1)
        proxy = self.reverse(self.proxy(sequence)[-1][:, : self.tokens])
        weight = completeness[:, None]
        return (1 - weight) * proxy + weight * text, completeness

    def compute_output_shape(self, text_shape: Any, *shapes: Any) -> Any:
        return text_shape, (text_shape[0], 1)

    def torch_weights(self) -> Iterator[TorchWeight]:
        yield TorchWeight("h_p", self.start)
        yield from self.proxy.torch_weights("proxy_dominate_modality_generator")
        yield from self.completeness.torch_weights("completeness_check.0")
        yield from linear("completeness_check.1.0", self.completeness_inner)
        yield from linear("completeness_check.1.2", self.completeness_head)


class Discriminator(keras.layers.Layer):
    """Classifies each token: dominant features or features of complete text.

    Args:
        hidden_size: Width of its hidden layer.

    Call with `(batch, tokens, dim)`.

    Returns:
        Logits `(batch, tokens, 2)`, see `keras_m3s.models.lnln.losses`.
    """

    def __init__(self, hidden_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.inner = Linear(hidden_size, name="inner", **policy)
        self.head = Linear(2, name="head", **policy)

    def build(self, inputs_shape: Any) -> None:
        built(self.inner, inputs_shape[-1])
        built(self.head, self.inner.units)
        self.built = True

    def call(self, inputs: Any) -> Any:
        return self.head(ops.leaky_relu(self.inner(inputs), LEAK))

    def compute_output_shape(self, inputs_shape: Any) -> Any:
        return (*inputs_shape[:-1], 2)

    def torch_weights(self) -> Iterator[TorchWeight]:
        yield from linear("effective_discriminator.0", self.inner)
        yield from linear("effective_discriminator.2", self.head)
