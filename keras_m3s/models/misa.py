"""MISA: each modality as a part it shares with the others and a part of its own.

Longer than 350 lines: the model, its losses, its published training and the map of its published
weights are one thing.

    audio, vision -> recurrence -> norm -> recurrence ->  u_m      text -> BERT -> mean -> u_t
    x_m = norm(act(W u_m));  p_m = sigmoid(P_m x_m);  s_m = sigmoid(S x_m)
    [p_t, p_v, p_a, s_t, s_v, s_a] -> one transformer layer -> two dense layers -> prediction
    loss = task + 0.3 diff(p, s) + similarity(s_t, s_v, s_a) + reconstruction(R_m (p_m + s_m), x_m)

Reference: Hazarika, Zimmermann, Poria, "MISA: modality-invariant and -specific representations for
multimodal sentiment analysis", ACM Multimedia 2020; https://github.com/declare-lab/MISA, ec42fad.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_m3s import losses
from keras_m3s.layers.gradient_reversal import GradientReversal
from keras_m3s.layers.recurrent import GRU, LSTM
from keras_m3s.layers.text_states import TEXT, TextStates
from keras_m3s.layers.torch_defaults import EPSILON, Dropout, Linear
from keras_m3s.layers.torch_defaults import activation as named_activation
from keras_m3s.layers.transformer import TransformerEncoderLayer
from keras_m3s.metrics import UnweightedAverageRecall
from keras_m3s.modalities import TEXT_BERT, length_key
from keras_m3s.models.base import PREDICTION, BaseModel, count_classes
from keras_m3s.models.sequences import require_sequences
from keras_m3s.models.torch_import import weights as published
from keras_m3s.models.torch_import.bert import BERT_UNUSED, bert_weights
from keras_m3s.optimizers import GroupedAdam

ORDER = ("text", "vision", "audio")
"""The published order: of the transformer's tokens, and of the discriminator's classes."""

RECURRENCES: dict[str, type[keras.layers.Layer]] = {"lstm": LSTM, "gru": GRU}
SIMILARITIES = ("cmd", "adversarial")
TEXT_ENCODERS = ("mean", "rnn")


@keras.saving.register_keras_serializable(package="keras_m3s")
class MISA(BaseModel):
    """MISA as published.

    Where a modality has no length in the batch, all its steps count. The published code packs
    audio and vision with one length per utterance, as its words are aligned; here each has its own.
    A batch of 1, where the published code gives NaN gradients, is an ordinary batch.

    Args:
        hidden_size: Width of every representation, a multiple of `transformer_heads`.
        outputs: 1 for a score; otherwise the number of classes, whose logits are returned, and the
            default loss is cross-entropy with labels `(batch,)` int.
        rnn: `"lstm"` or `"gru"`, for audio and vision.
        activation: Of the projections, the discriminator and the fusion, see
            `keras_m3s.layers.torch_defaults.activation`.
        dropout: Rate before the last layer (and within the discriminator).
        similarity: `"cmd"`, central moment discrepancy, or `"adversarial"`, a discriminator that
            must not tell modalities apart by their shared parts.
        diff_weight: Factor of the difference loss.
        sim_weight: Factor of the similarity loss.
        recon_weight: Factor of the reconstruction loss.
        reverse_grad_weight: Factor of the gradient the discriminator reverses.
        transformer_heads: Attention heads.
        transformer_size: Width of the transformer's inner dense layer.
        transformer_dropout: Rate within the transformer.
        text_encoder: `"mean"` of the text's states over its true steps, or `"rnn"`, the recurrence
            that audio and vision have, as published for word vectors without a BERT.
        bert: BERT backbone, preset name or folder where the batch holds tokens (`text_bert`), see
            `keras_m3s.layers.text_states.TextStates`.

    Reference: src/models.py and src/config.py of the published code.
    """

    # `sp_discriminator` and, with a BERT, `tlayer_norm` are made there but reach no loss.
    torch_unused = (r"sp_discriminator\..*", r"tlayer_norm\..*", *BERT_UNUSED)
    # MMSA keeps the model under `Model.` and wraps its BERT once more.
    torch_renames = ((r"^Model\.", ""), (r"^bertmodel\.model\.", "bertmodel."))

    def __init__(
        self,
        hidden_size: int = 128,
        outputs: int = 1,
        rnn: str = "lstm",
        activation: Any = "relu",
        dropout: float = 0.5,
        similarity: str = "cmd",
        diff_weight: float = 0.3,
        sim_weight: float = 1.0,
        recon_weight: float = 1.0,
        reverse_grad_weight: float = 1.0,
        transformer_heads: int = 2,
        transformer_size: int = 2048,
        transformer_dropout: float = 0.1,
        text_encoder: str = "mean",
        bert: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _require("rnn", rnn, tuple(RECURRENCES))
        _require("similarity", similarity, SIMILARITIES)
        _require("text_encoder", text_encoder, TEXT_ENCODERS)
        if hidden_size < 1 or hidden_size % transformer_heads:
            raise ValueError(
                "`hidden_size` must be a positive multiple of `transformer_heads`. Received: "
                f"hidden_size={hidden_size}, transformer_heads={transformer_heads}."
            )
        self.hidden_size, self.outputs_size, self.rnn = hidden_size, outputs, rnn
        self.activation = named_activation(activation)
        self.dropout, self.similarity = dropout, similarity
        self.diff_weight, self.sim_weight, self.recon_weight = diff_weight, sim_weight, recon_weight
        self.reverse_grad_weight = reverse_grad_weight
        self.transformer_heads, self.transformer_size = transformer_heads, transformer_size
        self.transformer_dropout, self.text_encoder = transformer_dropout, text_encoder
        if outputs > 1:
            self.published_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._make_encoders(bert)
        self._make_fusion()

    def _make_encoders(self, bert: Any) -> None:
        policy, hidden = {"dtype": self.dtype_policy}, self.hidden_size
        self.text_states = TextStates(bert, name="text_states", **policy)
        recurrent = ORDER if self.text_encoder == "rnn" else ("vision", "audio")
        self.sequence = {
            m: StackedRecurrence(self.rnn, name=f"{m}_sequence", **policy) for m in recurrent
        }

        def dense(name: str, activation: Any = None) -> dict[str, keras.layers.Layer]:
            return {m: Linear(hidden, activation, name=f"{m}_{name}", **policy) for m in ORDER}

        self.project = dense("project", self.activation)
        self.project_norm = {
            m: keras.layers.LayerNormalization(epsilon=EPSILON, name=f"{m}_project_norm", **policy)
            for m in ORDER
        }
        self.private = dense("private", "sigmoid")
        self.reconstruct = dense("reconstruct")
        self.shared = Linear(hidden, "sigmoid", name="shared", **policy)
        if self.similarity == "adversarial":
            self.reverse = GradientReversal(self.reverse_grad_weight, name="reverse", **policy)
            self.discriminator = keras.Sequential(
                [
                    Linear(hidden, self.activation, name="hidden", **policy),
                    Dropout(self.dropout, name="dropout", **policy),
                    Linear(len(ORDER), name="head", **policy),
                ],
                name="discriminator",
            )

    def _make_fusion(self) -> None:
        policy = {"dtype": self.dtype_policy}
        self.transformer = TransformerEncoderLayer(
            self.transformer_heads,
            self.transformer_size,
            self.transformer_dropout,
            name="transformer",
            **policy,
        )
        self.fusion = Linear(3 * self.hidden_size, name="fusion", **policy)
        self.fusion_dropout = Dropout(self.dropout, name="fusion_dropout", **policy)
        self.head = Linear(self.outputs_size, name="head", **policy)

    def build(self, inputs_shape: Mapping[str, Any]) -> None:
        require_sequences(inputs_shape)
        kinds = {TEXT: "float32", TEXT_BERT: "int32"}
        specs = {
            key: keras.KerasTensor(tuple(inputs_shape[key]), kind)
            for key, kind in kinds.items()
            if key in inputs_shape
        }
        states, _ = self.text_states(specs)  # symbolic: only to learn the width
        shapes = {"text": states.shape, **{m: inputs_shape[m] for m in ("audio", "vision")}}
        hidden = (None, self.hidden_size)
        for m in ORDER:
            width = shapes[m][-1]
            if m in self.sequence:
                self.sequence[m].build(tuple(shapes[m]))
                width = 4 * width
            self.project[m].build((None, width))
            for layer in (self.project_norm[m], self.private[m], self.reconstruct[m]):
                layer.build(hidden)
        self.shared.build(hidden)
        if self.similarity == "adversarial":
            self.discriminator.build(hidden)
        self.transformer.build((None, 6, self.hidden_size))
        self.fusion.build((None, 6 * self.hidden_size))
        self.head.build((None, 3 * self.hidden_size))
        self.built = True

    def encode(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        """One vector per modality, before the projection to a common width.

        Returns:
            `audio`, `vision` `(batch, 4 * their width)`, `text` `(batch, its width)` (4 times that
            with `text_encoder="rnn"`).
        """
        require_sequences(inputs)
        states, mask = self.text_states(inputs, training=training)
        counted = ops.cast(mask, "float32")  # bfloat16 cannot count beyond 256
        if self.text_encoder == "rnn":
            text = self.sequence["text"](states, ops.cast(ops.sum(counted, axis=1), "int32"))
        else:
            # A text of no steps has the mean 0; the published code divides by 0.
            weights = counted / ops.maximum(ops.sum(counted, axis=1, keepdims=True), 1.0)
            text = ops.einsum("bs,bsd->bd", ops.cast(weights, states.dtype), states)
        encoded = {
            m: self.sequence[m](inputs[m], inputs.get(length_key(m))) for m in ("audio", "vision")
        }
        return {**encoded, "text": text}

    def fuse(self, encoded: Mapping[str, Any], training: bool | None = None) -> Any:
        """Prediction `(batch, outputs)`; in training also what `loss_terms` reads."""
        original = {m: self.project_norm[m](self.project[m](encoded[m])) for m in ORDER}
        private = {m: self.private[m](original[m]) for m in ORDER}
        shared = {m: self.shared(original[m]) for m in ORDER}
        restored = {m: self.reconstruct[m](private[m] + shared[m]) for m in ORDER}
        tokens = ops.stack([part[m] for part in (private, shared) for m in ORDER], axis=1)
        tokens = self.transformer(tokens, training=training)
        flat = ops.reshape(tokens, (-1, 6 * self.hidden_size))
        hidden = self.fusion_dropout(self.fusion(flat), training=training)
        outputs = {
            PREDICTION: self.head(self.activation(hidden)),
            "original": original,
            "private": private,
            "shared": shared,
            "restored": restored,
        }
        if self.similarity == "adversarial":
            outputs["domain"] = {
                m: self.discriminator(self.reverse(shared[m]), training=training) for m in ORDER
            }
        return outputs if training else outputs[PREDICTION]

    def loss_terms(self, x: Any, y: Any, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """`diff`, `similarity`, `reconstruction`, each a scalar before its factor."""
        # Moments of fifth order need more than half precision.
        parts = {
            name: {m: ops.cast(outputs[name][m], self.variable_dtype) for m in ORDER}
            for name in outputs
            if name != PREDICTION
        }
        private, shared = parts["private"], parts["shared"]
        pairs = (("text", "vision"), ("text", "audio"), ("audio", "vision"))
        diff = sum(losses.difference_loss(private[m], shared[m]) for m in ORDER)
        diff += sum(losses.difference_loss(private[m], private[n]) for m, n in pairs)
        if self.similarity == "cmd":
            similarity = sum(
                losses.central_moment_discrepancy(shared[m], shared[n]) for m, n in pairs
            ) / len(pairs)
        else:
            similarity = losses.domain_confusion([parts["domain"][m] for m in ORDER])
        restored, original = parts["restored"], parts["original"]
        reconstruction = sum(
            losses.mean_squared_error(restored[m], original[m]) for m in ORDER
        ) / len(ORDER)
        return {"diff": diff, "similarity": similarity, "reconstruction": reconstruction}

    @property
    def term_weights(self) -> dict[str, float]:
        return {
            "diff": self.diff_weight,
            "similarity": self.sim_weight,
            "reconstruction": self.recon_weight,
        }

    @classmethod
    def data_arguments(cls, labels: Any, num_classes: int | None = None) -> dict[str, Any]:
        """The number of classes, for labels that are ints; see `BaseModel.data_arguments`."""
        labels = np.asarray(labels)
        if not np.issubdtype(labels.dtype, np.integer):
            return {}
        return {"outputs": num_classes or count_classes(labels)}

    def task_metrics(self) -> list[keras.metrics.Metric]:
        if self.outputs_size > 1:
            return [UnweightedAverageRecall(self.outputs_size)]
        return super().task_metrics()

    def published_optimizer(self, learning_rate: float | None = None) -> keras.optimizers.Optimizer:
        """Adam, 1e-4 unless given, each entry of the gradient clipped to [-1, 1]."""
        rate = 1e-4 if learning_rate is None else learning_rate
        return GroupedAdam(rate, clipvalue=1.0)

    def torch_weights(self) -> Iterator[published.TorchWeight]:
        """Where each variable lies in a published checkpoint."""
        recurrent = published.lstm if self.rnn == "lstm" else published.gru
        for m in ORDER:
            t = m[0]
            if m in self.sequence:
                yield from recurrent(f"{t}rnn1", self.sequence[m].first)
                yield from published.layer_norm(f"{t}layer_norm", self.sequence[m].norm)
                yield from recurrent(f"{t}rnn2", self.sequence[m].second)
            number = 3 if m == "audio" else 1
            yield from published.linear(f"project_{t}.project_{t}", self.project[m])
            yield from published.layer_norm(
                f"project_{t}.project_{t}_layer_norm", self.project_norm[m]
            )
            yield from published.linear(f"private_{t}.private_{t}_{number}", self.private[m])
            yield from published.linear(f"recon_{t}.recon_{t}_1", self.reconstruct[m])
        yield from published.linear("shared.shared_1", self.shared)
        if self.similarity == "adversarial":
            first, _, second = self.discriminator.layers
            yield from published.linear("discriminator.discriminator_layer_1", first)
            yield from published.linear("discriminator.discriminator_layer_2", second)
        yield from published.transformer_encoder_layer(
            "transformer_encoder.layers.0", self.transformer
        )
        yield from published.linear("fusion.fusion_layer_1", self.fusion)
        yield from published.linear("fusion.fusion_layer_3", self.head)
        if self.text_states.bert is not None:
            yield from bert_weights("bertmodel", self.text_states.bert)

    def get_config(self) -> dict[str, Any]:
        own = {
            name: getattr(self, name)
            for name in (
                "hidden_size",
                "rnn",
                "dropout",
                "similarity",
                "diff_weight",
                "sim_weight",
                "recon_weight",
                "reverse_grad_weight",
                "transformer_heads",
                "transformer_size",
                "transformer_dropout",
                "text_encoder",
            )
        }
        return {
            **super().get_config(),
            **own,
            "outputs": self.outputs_size,
            "activation": keras.activations.serialize(self.activation),
            "bert": self.text_states.get_config()["bert"],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "MISA":
        bert = TextStates.from_config({"bert": config.get("bert")}).bert
        return cls(**{**config, "bert": bert})


@keras.saving.register_keras_serializable(package="keras_m3s")
class StackedRecurrence(keras.layers.Layer):
    """Two bidirectional recurrences as wide as their input, with a norm between them.

    Args:
        rnn: `"lstm"` or `"gru"`.

    Call arguments:
        inputs: `(batch, steps, dim)`.
        lengths: `(batch,)` int, true steps; `None` for all.

    Returns:
        `(batch, 4 * dim)`: the last states, [first forward, second forward, first backward,
        second backward].
    """

    def __init__(self, rnn: str = "lstm", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rnn = rnn

    def build(self, inputs_shape: Any, lengths_shape: Any = None) -> None:
        batch, steps, dim = inputs_shape
        policy = {"dtype": self.dtype_policy}
        make = RECURRENCES[self.rnn]

        def recurrence(name: str) -> Any:
            return make(
                dim, bidirectional=True, recurrent_initializer="orthogonal", name=name, **policy
            )

        self.first, self.second = recurrence("first"), recurrence("second")
        self.norm = keras.layers.LayerNormalization(epsilon=EPSILON, name="norm", **policy)
        self.first.build(inputs_shape)
        self.norm.build((batch, steps, 2 * dim))
        self.second.build((batch, steps, 2 * dim))

    def call(self, inputs: Any, lengths: Any = None) -> Any:
        sequence, first = self.first(inputs, lengths)
        _, second = self.second(self.norm(sequence), lengths)
        dim = inputs.shape[-1]
        return ops.concatenate(
            [first[:, :dim], second[:, :dim], first[:, dim:], second[:, dim:]], axis=-1
        )

    def compute_output_shape(self, inputs_shape: Any, lengths_shape: Any = None) -> Any:
        return (inputs_shape[0], 4 * inputs_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rnn": self.rnn}


def _require(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {allowed}. Received: {name}={value!r}.")
