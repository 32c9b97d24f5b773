"""Text as a sequence of vectors: precomputed features unchanged, or tokens encoded by a BERT."""

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import keras
from keras import ops

from keras_m3s.layers.torch_defaults import Tensor
from keras_m3s.modalities import TEXT_BERT, length_key

TEXT = "text"

BERT_PATHS = (
    r"(^|/)((token|position|segment)_embedding|embeddings_layer_norm|transformer_layer_\d+)/"
)
"""Matches paths of a keras-hub BERT's variables, which do not contain the backbone's name."""

BERT_NO_DECAY_PATHS = BERT_PATHS + r"(.*/)?(bias|gamma|beta)$"
"""Its biases and normalization weights, which the published trainings do not decay."""


@keras.saving.register_keras_serializable(package="keras_m3s")
class TextStates(keras.layers.Layer):
    """Returns a text's sequence of vectors and its mask, from features or from tokens.

    With a BERT, `text_bert` is encoded and the BERT is fine-tuned with the rest of the model.
    Without one, or if the batch holds no tokens, `text` passes unchanged.

    A keras-hub backbone is changed in two ways. Its activation becomes the exact gelu, x Phi(x), of
    the published PyTorch models; keras-hub uses the tanh approximation, an error of 5e-4 per layer.
    Its pooler is frozen, since no base model reads it.

    Args:
        bert: `None`; a BERT backbone (`keras_hub.models.BertBackbone`, or any built model that
            takes `token_ids`, `padding_mask`, `segment_ids` and returns `sequence_output`); or
            a keras-hub preset, by name or local folder. A preset is loaded once: the saved model
            contains the backbone and needs neither network nor folder.

    Raises:
        ImportError: `bert` is a name and keras-hub is not installed.
        ValueError: The inputs of a call hold neither `text` nor tokens that a BERT can read.
    """

    def __init__(self, bert: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bert = self._from_preset(bert) if isinstance(bert, str) else bert
        for block in getattr(self.bert, "transformer_layers", ()):
            block.activation = keras.activations.gelu
            block._feedforward_intermediate_dense.activation = keras.activations.gelu
        pooler = getattr(self.bert, "pooled_dense", None)
        if pooler is not None:
            pooler.trainable = False  # else weight decay moves it, and Keras warns of no gradient

    def _from_preset(self, preset: str) -> Any:
        return _keras_hub().models.BertBackbone.from_preset(preset, dtype=self.dtype_policy)

    def call(
        self, inputs: Mapping[str, Tensor], training: bool | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encodes the text of a batch.

        Args:
            inputs: Batch with `text_bert` `(batch, 3, steps)` int, rows ids, mask, segments; or
                with `text` `(batch, steps, dim)` float and, if texts differ in length,
                `text_length` `(batch,)` int.
            training: Whether the BERT's dropout is active.

        Returns:
            States `(batch, steps, dim)` and mask `(batch, steps)`, 1.0 at true steps and 0.0 at
            padding, both in the layer's compute dtype.
        """
        if self.bert is not None and TEXT_BERT in inputs:
            return self._encode(inputs[TEXT_BERT], training)
        if TEXT in inputs:
            states = inputs[TEXT]
            return states, self._mask(states, inputs.get(length_key(TEXT)))
        if TEXT_BERT in inputs:
            raise ValueError(
                f"`inputs` must hold '{TEXT}' for this model: only a BERT can read tokens "
                f"('{TEXT_BERT}'), and it was made without one. Pass `bert=` a backbone, a "
                f"keras-hub preset or a folder; or give features as '{TEXT}'. "
                f"Received keys: {tuple(inputs)}."
            )
        raise ValueError(
            f"`inputs` must hold '{TEXT}' (batch, steps, dim) or '{TEXT_BERT}' (batch, 3, steps). "
            f"Received keys: {tuple(inputs)}. For an absent text pass zeros as '{TEXT}'."
        )

    def _encode(self, tokens: Tensor, training: bool | None) -> tuple[Tensor, Tensor]:
        dtype = keras.backend.standardize_dtype(tokens.dtype)
        if "int" not in dtype or len(tokens.shape) != 3 or tokens.shape[1] != 3:
            raise ValueError(
                f"`inputs['{TEXT_BERT}']` must be int of shape (batch, 3, steps): rows ids, mask, "
                f"segments. Received: dtype={dtype}, shape={tuple(tokens.shape)}. Cast floats "
                "before the model: half precision cannot hold token ids."
            )
        tokens = ops.cast(tokens, "int32")
        ids, mask, segments = tokens[:, 0], tokens[:, 1], tokens[:, 2]
        features = {"token_ids": ids, "padding_mask": mask, "segment_ids": segments}
        output = self.bert(features, training=training)
        states = output["sequence_output"] if isinstance(output, Mapping) else output
        return ops.cast(states, self.compute_dtype), ops.cast(mask, self.compute_dtype)

    def _mask(self, states: Tensor, length: Tensor | None) -> Tensor:
        if length is None:
            return ops.ones_like(states[..., 0], dtype=self.compute_dtype)
        steps = ops.arange(ops.shape(states)[1], dtype="int32")
        return ops.cast(steps < ops.cast(length, "int32")[:, None], self.compute_dtype)

    def compute_output_spec(
        self, inputs: Mapping[str, Tensor], training: bool | None = None
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Shapes without tracing: a BERT cannot be traced with an unknown number of steps."""
        if self.bert is not None and TEXT_BERT in inputs:
            batch, _, steps = inputs[TEXT_BERT].shape
            row = keras.KerasTensor((batch, steps), "int32")
            features = dict.fromkeys(("token_ids", "padding_mask", "segment_ids"), row)
            output = self.bert.compute_output_spec(features)
            output = output["sequence_output"] if isinstance(output, Mapping) else output
            shape = (batch, steps, output.shape[-1])
        else:
            shape = self.call(inputs)[0].shape
        return (
            keras.KerasTensor(shape, self.compute_dtype),
            keras.KerasTensor(shape[:2], self.compute_dtype),
        )

    def get_config(self) -> dict[str, Any]:
        bert = None if self.bert is None else keras.saving.serialize_keras_object(self.bert)
        return {**super().get_config(), "bert": bert}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TextStates":
        bert = config.get("bert")
        if isinstance(bert, Mapping):
            if str(bert.get("registered_name", "")).startswith("keras_hub>"):
                _keras_hub()  # registers its classes
            bert = keras.saving.deserialize_keras_object(bert)
        return super().from_config({**config, "bert": bert})


def _keras_hub() -> ModuleType:
    try:
        return importlib.import_module("keras_hub")
    except ImportError as error:
        raise ImportError(
            "A BERT inside the model needs keras-hub. Install it with "
            "`pip install keras-m3s[text]`, or give precomputed features as 'text'."
        ) from error
