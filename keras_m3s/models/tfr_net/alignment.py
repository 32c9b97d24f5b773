"""Each modality beside what it finds in itself and in the others.

    x_m = conv(X_m)
    h_m = [transformer(x_m), transformer(x_m, x_n), transformer(x_m, x_k)]       n, k: the others

Reference: models/missingTask/TFR_NET/alignment.py of thuiar/TFR-Net 00f06a6.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import ops

from keras_m3s.layers.torch_defaults import Dropout
from keras_m3s.models.tfr_net.crossmodal import CrossmodalTransformer
from keras_m3s.models.torch_import.weights import TorchWeight, conv

ORDER = ("text", "audio", "vision")
"""The published order of modalities, of what attends and of what is attended to."""

LETTERS = {"text": "l", "audio": "a", "vision": "v"}


class Alignment(keras.layers.Layer):
    """Convolutions to a common width and the nine transformers of three modalities.

    Args:
        hidden_size: Width d of every transformer. A modality of that width has no convolution.
        heads: Attention heads.
        layers: Layers from one modality to another.
        self_layers: Layers from a modality to itself.
        kernel_sizes: Dict modality -> steps of its convolution.
        text_dropout: Rate on the text.
        self_dropout: Rate on attention weights within a modality.
        source_dropouts: Dict modality -> rate on the weights of attention to it.
        transformer: Further arguments of every `CrossmodalTransformer`.

    Call arguments:
        sequences: Dict modality -> `(batch, steps, dim)`.
        lengths: Dict modality -> `(batch,)` int, so that no padding is seen; `None` to see it.

    Returns:
        Dict modality -> `(batch, steps, 3 d)`.
    """

    def __init__(
        self,
        hidden_size: int,
        heads: int,
        layers: int,
        self_layers: int,
        kernel_sizes: Mapping[str, int],
        text_dropout: float,
        self_dropout: float,
        source_dropouts: Mapping[str, float],
        transformer: Mapping[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.hidden_size, self.kernel_sizes = hidden_size, dict(kernel_sizes)
        self.text_drop = Dropout(text_dropout, name="text_drop", **policy)
        self.convolutions: dict[str, Any] = {}
        self.attention = {}
        for m in ORDER:
            self.attention[m] = CrossmodalTransformer(
                self_layers, heads, self_dropout, **transformer, name=m, **policy
            )
            for source in others(m):
                self.attention[f"{m}_{source}"] = CrossmodalTransformer(
                    layers,
                    heads,
                    source_dropouts[source],
                    **transformer,
                    name=f"{m}_{source}",
                    **policy,
                )

    def build(self, widths: Mapping[str, int]) -> None:
        """Makes the weights for sequences of these widths."""
        for m, width in widths.items():
            if width != self.hidden_size:
                self.convolutions[m] = self._convolution(m, width)
        for transformer in self.attention.values():
            transformer.build((None, None, self.hidden_size))
        self.built = True

    def _convolution(self, m: str, width: int) -> Any:
        bound = (self.kernel_sizes[m] * width) ** -0.5
        layer = keras.layers.Conv1D(
            self.hidden_size,
            self.kernel_sizes[m],
            padding="same",
            use_bias=False,
            data_format="channels_last",
            kernel_initializer=keras.initializers.RandomUniform(-bound, bound),
            name=f"{m}_convolution",
            dtype=self.dtype_policy,
        )
        layer.build((None, None, width))
        return layer

    def call(
        self,
        sequences: Mapping[str, Any],
        lengths: Mapping[str, Any] | None = None,
        training: bool | None = None,
    ) -> dict[str, Any]:
        x = dict(sequences)
        x["text"] = self.text_drop(x["text"], training=training)
        x = {m: self.convolutions[m](s) if m in self.convolutions else s for m, s in x.items()}
        joined = {}
        for m in ORDER:
            found = [
                self.attention[m](x[m], lengths=_pair(lengths, m, m), training=training),
                *(
                    self.attention[f"{m}_{n}"](
                        x[m], x[n], lengths=_pair(lengths, m, n), training=training
                    )
                    for n in others(m)
                ),
            ]
            joined[m] = ops.concatenate(found, axis=-1)
        return joined

    def torch_weights(self, prefix: str) -> Iterator[TorchWeight]:
        for m, letter in LETTERS.items():
            if m in self.convolutions:
                yield from conv(f"{prefix}.proj_{letter}", self.convolutions[m])
            yield from self.attention[m].torch_weights(f"{prefix}.trans_{letter}_mem")
            for n in others(m):
                name = f"{prefix}.trans_{letter}_with_{LETTERS[n]}"
                yield from self.attention[f"{m}_{n}"].torch_weights(name)


def others(m: str) -> list[str]:
    """The other modalities, in their order."""
    return [n for n in ORDER if n != m]


def _pair(lengths: Mapping[str, Any] | None, m: str, n: str) -> tuple[Any, Any] | None:
    return None if lengths is None else (lengths[m], lengths[n])
