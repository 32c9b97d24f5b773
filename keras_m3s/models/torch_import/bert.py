"""PyTorch's BERT (the names of HuggingFace's `BertModel`) to a keras-hub `BertBackbone`."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keras_m3s.models.torch_import.weights import Array, TorchWeight

BERT_UNUSED: tuple[str, ...] = (r"(.*\.)?embeddings\.position_ids",)
"""For a model's `torch_unused`: a buffer 0, 1, 2, ... that older releases kept as a weight."""


def bert_weights(prefix: str, backbone: Any) -> Iterator[TorchWeight]:
    """Every weight of a BERT, pooler included.

    Args:
        prefix: Where the BERT lies in the state dict, such as `bertmodel`; `""` for on top.
        backbone: A `keras_hub.models.BertBackbone`.
    """
    for name, variable, to_keras in _weights(backbone):
        yield TorchWeight(f"{prefix}.{name}" if prefix else name, variable, to_keras)


Line = tuple[str, Any, Callable[[Array], Array]]


def _weights(backbone: Any) -> Iterator[Line]:
    embeddings = (
        ("token_embedding", "word_embeddings"),
        ("position_embedding", "position_embeddings"),
        ("segment_embedding", "token_type_embeddings"),
    )
    for layer, name in embeddings:
        yield f"embeddings.{name}.weight", _parts(backbone, layer)["embeddings"], np.asarray
    yield from _norm("embeddings.LayerNorm", _parts(backbone, "embeddings_layer_norm"), "")
    for i in range(backbone.num_layers):
        block = _parts(backbone, f"transformer_layer_{i}")
        at = f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            yield from _linear(
                f"{at}.attention.self.{part}", block, f"self_attention_layer/{part}/"
            )
        yield from _linear(
            f"{at}.attention.output.dense", block, "self_attention_layer/attention_output/"
        )
        yield from _norm(f"{at}.attention.output.LayerNorm", block, "self_attention_layer_norm/")
        yield from _linear(f"{at}.intermediate.dense", block, "feedforward_intermediate_dense/")
        yield from _linear(f"{at}.output.dense", block, "feedforward_output_dense/")
        yield from _norm(f"{at}.output.LayerNorm", block, "feedforward_layer_norm/")
    yield from _linear("pooler.dense", _parts(backbone, "pooled_dense"), "")


def _parts(backbone: Any, layer: str) -> dict[str, Any]:
    """The variables of one layer by the end of their path, the part below that layer."""
    variables = backbone.get_layer(layer).variables
    return {v.path.rpartition(f"{layer}/")[2]: v for v in variables}


def _linear(name: str, parts: dict[str, Any], at: str) -> Iterator[Line]:
    """`nn.Linear`; in Keras an attention's projection has the heads as an axis of its own."""
    kernel, bias = parts[f"{at}kernel"], parts[f"{at}bias"]
    kernel_shape, bias_shape = tuple(kernel.shape), tuple(bias.shape)
    yield f"{name}.weight", kernel, lambda array: np.reshape(np.transpose(array), kernel_shape)
    yield f"{name}.bias", bias, lambda array: np.reshape(array, bias_shape)


def _norm(name: str, parts: dict[str, Any], at: str) -> Iterator[Line]:
    yield f"{name}.weight", parts[f"{at}gamma"], np.asarray
    yield f"{name}.bias", parts[f"{at}beta"], np.asarray
