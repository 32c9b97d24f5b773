"""Self-MM: a multimodal and three unimodal predictions, the latter on labels of its own making.

Longer than 350 lines: the model, its losses, its published training and the map of its published
weights are one thing.

    f_k, p_k = head_k(e_k) for k = text, audio, vision and m, the fusion of all three
    y_s      = what `unimodal_labels` holds for s = text, audio, vision
    loss     = mean |p_m - y_m| + sum over s of mean tanh|y_s - y_m| |p_s - y_s|
    y_s     <- from where f_s and f_m lie between the centres of negative and positive rows

Reference: Yu, Xu, Yuan, Wu, "Learning Modality-Specific Representations with Self-Supervised
Multi-Task Learning for Multimodal Sentiment Analysis", AAAI 2021; code thuiar/Self-MM 1786283 and
thuiar/MMSA a94e65d.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_m3s.layers.recurrent import LSTM
from keras_m3s.layers.text_states import BERT_NO_DECAY_PATHS, BERT_PATHS, TextStates
from keras_m3s.layers.torch_defaults import Dropout, Linear
from keras_m3s.modalities import INDEX, TEXT_BERT, length_key
from keras_m3s.models.base import PREDICTION, BaseModel
from keras_m3s.models.self_mm.unimodal_labels import FUSION, KINDS, UNIMODAL, UnimodalLabels
from keras_m3s.models.sequences import require_sequences
from keras_m3s.models.torch_import.bert import BERT_UNUSED, bert_weights
from keras_m3s.models.torch_import.weights import TorchWeight, linear, lstm
from keras_m3s.optimizers import DiscardPartialAccumulation, GroupedAdam

_MOSI = {"audio_hidden_size": 32, "post_fusion_dropout": 0.1, "post_text_dropout": 0.0}
_MMSA_MOSI = {"vision_hidden_size": 32, "post_text_size": 32}
PRESETS: dict[str, dict[str, Any]] = {
    "sims": {},
    "mosi": {**_MOSI, "post_vision_dropout": 0.1, "label_bound": 3.0, "exclude_zero": False},
    "mosi_mmsa": {**_MMSA_MOSI, "label_bound": 3.0},
}
"""Published arguments where they differ from the defaults: Self-MM's two data sets, MMSA's MOSI."""

RATES: dict[str, dict[str, tuple[float, float]]] = {
    "sims": {"bert": (5e-5, 1e-3), "audio": (5e-3, 1e-2), "vision": (5e-3, 1e-2)},
    "mosi": {"bert": (5e-5, 1e-3), "audio": (1e-3, 1e-2), "vision": (1e-4, 1e-3)},
    "mosi_mmsa": {"bert": (5e-5, 1e-3), "audio": (5e-3, 1e-3), "vision": (5e-3, 1e-3)},
}
"""Published learning rate and weight decay of the encoders; the heads have 1e-3 and 1e-3."""


class SequenceEncoder(keras.layers.Layer):
    """LSTM over a sequence's true steps, then a linear map of its last state.

    Args:
        hidden_size: Width of the LSTM.
        size: Width of the result.
        layers: LSTM layers, one on top of the other.
        dropout: Rate between LSTM layers and before the linear map.
    """

    def __init__(
        self, hidden_size: int, size: int, layers: int, dropout: float, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.recurrent = [LSTM(hidden_size, name=f"lstm_{n}", **policy) for n in range(layers)]
        self.drop = Dropout(dropout, name="drop", **policy)
        self.project = Linear(size, name="project", **policy)

    def build(self, inputs_shape: Any, lengths_shape: Any = None) -> None:
        width = inputs_shape[-1]
        for rnn in self.recurrent:
            rnn.build((None, None, width))
            width = rnn.units
        self.project.build((None, width))

    def call(self, inputs: Any, lengths: Any = None, training: bool | None = None) -> Any:
        sequence = inputs
        for rnn in self.recurrent[:-1]:
            sequence = self.drop(rnn(sequence, lengths)[0], training=training)
        # The published code removes the axis of layers by `squeeze`, and with it that of a batch
        # of 1; several layers fail there. Here the last layer's state counts.
        _, final = self.recurrent[-1](sequence, lengths)
        return self.project(self.drop(final, training=training))

    def torch_weights(self, prefix: str) -> Iterator[TorchWeight]:
        for number, rnn in enumerate(self.recurrent):
            yield from lstm(f"{prefix}.rnn", rnn, layer=number)
        yield from linear(f"{prefix}.linear_1", self.project)


class Head(keras.layers.Layer):
    """A prediction `(batch, 1)` and the feature `(batch, size)` from which labels are made.

    Args:
        size: Width of the feature and of the layer behind it.
        dropout: Rate on the input.
    """

    def __init__(self, size: int, dropout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.size = size
        self.drop = Dropout(dropout, name="drop", **policy)
        self.feature = Linear(size, "relu", name="feature", **policy)
        self.hidden = Linear(size, "relu", name="hidden", **policy)
        self.prediction = Linear(1, name="prediction", **policy)

    def build(self, input_shape: Any) -> None:
        self.feature.build(input_shape)
        self.hidden.build((None, self.size))
        self.prediction.build((None, self.size))

    def call(self, inputs: Any, training: bool | None = None) -> tuple[Any, Any]:
        feature = self.feature(self.drop(inputs, training=training))
        return self.prediction(self.hidden(feature)), feature

    def torch_weights(self, prefix: str) -> Iterator[TorchWeight]:
        yield from linear(f"{prefix}_1", self.feature)
        yield from linear(f"{prefix}_2", self.hidden)
        yield from linear(f"{prefix}_3", self.prediction)


@keras.saving.register_keras_serializable(package="keras_m3s")
class SelfMM(BaseModel):
    """Self-supervised multi-task learning of multimodal and unimodal sentiment.

    A batch must hold `audio`, `vision`, and `text` or `text_bert`; in training also `index`
    `(batch,)` int, each example's row in the training data.

    Until a row's third visit its unimodal labels equal the annotated one and their losses are 0;
    see `keras_m3s.models.self_mm.unimodal_labels`.

    Examples:
        >>> settings = keras_m3s.models.self_mm.PRESETS["mosi"]
        >>> model = keras_m3s.models.SelfMM(train_size=1284, **settings)
        >>> model.compile(model.published_optimizer(preset="mosi"))
        >>> x = {"audio": a, "vision": v, "text": t, "index": np.arange(1284)}
        >>> model.fit(x, y, batch_size=32, callbacks=model.training_callbacks())

    Args:
        train_size: Rows of the training data, >= 1.
        bert: What reads `text_bert`, see `keras_m3s.layers.text_states.TextStates`; `None`
            where batches hold `text`.
        audio_hidden_size: Width of the audio LSTM; likewise `vision_hidden_size`.
        audio_layers: LSTM layers, published 1; likewise `vision_layers`.
        audio_dropout: Rate in the audio encoder; likewise `vision_dropout`.
        audio_size: Width of the encoded audio; likewise `vision_size`. Text keeps its own width.
        post_fusion_size: Width of the fusion head; likewise `post_text_size`, `post_audio_size`,
            `post_vision_size`.
        post_fusion_dropout: Rate on what the fusion head reads; likewise `post_text_dropout`,
            `post_audio_dropout`, `post_vision_dropout`.
        label_bound: H, the largest absolute value of a label, > 0.
        exclude_zero: Whether a label of 0 is in neither class (MMSA) or positive (Self-MM).
        aligned: Whether audio and vision go word by word and end where the text ends, filled up
            with zeros where they have fewer steps; otherwise they end at `audio_length` and
            `vision_length`, or at the last step.

    Raises:
        ValueError: An argument is out of range, or a training batch has no `index` or one outside
            [0, `train_size`). Compiled code (`fit` on JAX and TensorFlow) cannot raise for a
            value: there the loss becomes NaN.

    Reference: Yu et al., AAAI 2021, section 3; models/multiTask/SELF_MM.py and
    trains/multiTask/SELF_MM.py of thuiar/Self-MM 1786283. M3S, section 4.
    """

    published_loss = "mean_absolute_error"

    torch_renames = ((r"^Model\.", ""),)
    torch_unused = BERT_UNUSED

    def __init__(
        self,
        train_size: int,
        bert: Any = None,
        audio_hidden_size: int = 16,
        vision_hidden_size: int = 64,
        audio_layers: int = 1,
        vision_layers: int = 1,
        audio_dropout: float = 0.0,
        vision_dropout: float = 0.0,
        audio_size: int = 16,
        vision_size: int = 32,
        post_fusion_size: int = 128,
        post_text_size: int = 64,
        post_audio_size: int = 16,
        post_vision_size: int = 32,
        post_fusion_dropout: float = 0.0,
        post_text_dropout: float = 0.1,
        post_audio_dropout: float = 0.1,
        post_vision_dropout: float = 0.0,
        label_bound: float = 1.0,
        exclude_zero: bool = True,
        aligned: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("train_size", train_size), ("label_bound", label_bound)):
            if not value > 0:
                raise ValueError(f"`{name}` must be > 0. Received: {name}={value!r}.")
        if min(audio_layers, vision_layers) < 1:
            raise ValueError(
                "`audio_layers` and `vision_layers` must be >= 1. "
                f"Received: audio_layers={audio_layers}, vision_layers={vision_layers}."
            )
        self.train_size, self.label_bound = train_size, label_bound
        self.exclude_zero, self.aligned = exclude_zero, aligned
        self.hidden_sizes = {"audio": audio_hidden_size, "vision": vision_hidden_size}
        self.lstm_layers = {"audio": audio_layers, "vision": vision_layers}
        self.dropouts = {"audio": audio_dropout, "vision": vision_dropout}
        self.sizes = {"audio": audio_size, "vision": vision_size}
        self.post_sizes = {
            FUSION: post_fusion_size,
            "text": post_text_size,
            "audio": post_audio_size,
            "vision": post_vision_size,
        }
        self.post_dropouts = {
            FUSION: post_fusion_dropout,
            "text": post_text_dropout,
            "audio": post_audio_dropout,
            "vision": post_vision_dropout,
        }
        policy = {"dtype": self.dtype_policy}
        self.text_encoder = TextStates(bert, name="text_encoder", **policy)
        self.sequence_encoders = {
            m: SequenceEncoder(
                self.hidden_sizes[m],
                self.sizes[m],
                self.lstm_layers[m],
                self.dropouts[m],
                name=f"{m}_encoder",
                **policy,
            )
            for m in self.sizes
        }
        self.heads = {
            kind: Head(
                self.post_sizes[kind], self.post_dropouts[kind], name=f"{kind}_head", **policy
            )
            for kind in KINDS
        }
        self.unimodal_labels = UnimodalLabels(
            train_size, self.post_sizes, label_bound, exclude_zero, name="unimodal_labels"
        )

    def build(self, input_shape: Any) -> None:
        require_sequences(input_shape)
        batch = {
            key: keras.KerasTensor(input_shape[key], dtype)
            for key, dtype in (("text", self.compute_dtype), (TEXT_BERT, "int32"))
            if key in input_shape
        }
        widths = {"text": self.text_encoder(batch)[0].shape[-1], **self.sizes}
        for m, encoder in self.sequence_encoders.items():
            encoder.build(input_shape[m])
        for kind, head in self.heads.items():
            head.build((None, sum(widths.values()) if kind == FUSION else widths[kind]))
        self.unimodal_labels.build()

    @property
    def memories(self) -> list[keras.Variable]:
        return self.unimodal_labels.memories

    def encode(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        """The vectors before the heads.

        Returns:
            `text` `(batch, its width)`, the state of the first step ([CLS]); `audio`, `vision`
            `(batch, their size)`.
        """
        require_sequences(inputs)
        states, mask = self.text_encoder(inputs, training=training)
        sequences = {m: inputs[m] for m in self.sequence_encoders}
        lengths = {m: inputs.get(length_key(m)) for m in sequences}
        if self.aligned:
            words = ops.cast(ops.sum(ops.cast(mask, "float32"), axis=1), "int32")
            lengths = dict.fromkeys(lengths, words)
            # The published code fails where these have fewer steps than the text.
            sequences = {m: _reaching(x, ops.shape(mask)[1]) for m, x in sequences.items()}
        encoded = {
            m: encoder(sequences[m], lengths[m], training=training)
            for m, encoder in self.sequence_encoders.items()
        }
        return {"text": states[:, 0], **encoded}

    def fuse(self, encoded: Mapping[str, Any], training: bool | None = None) -> Any:
        """The fusion head's prediction `(batch, 1)`.

        In training a dict: that as `prediction`, `{s}_prediction` for each of `UNIMODAL`, and
        `{k}_feature` `(batch, post size)` for each of `KINDS`.
        """
        vectors = {FUSION: ops.concatenate([encoded[s] for s in UNIMODAL], axis=-1), **encoded}
        if not training:
            return self.heads[FUSION](vectors[FUSION], training=training)[0]
        outputs = {}
        for kind, head in self.heads.items():
            name = PREDICTION if kind == FUSION else f"{kind}_prediction"
            outputs[name], outputs[f"{kind}_feature"] = head(vectors[kind], training=training)
        return outputs

    def loss_terms(self, x: Any, y: Any, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """`text`, `audio`, `vision`: each head's error on its own labels, which are then remade."""
        index, outside = self._index(x)
        truth = ops.reshape(ops.cast(y, "float32"), (-1,))
        labels, visits = self.unimodal_labels.read(index, truth)
        terms = {}
        for column, s in enumerate(UNIMODAL, start=1):
            prediction = ops.reshape(ops.cast(outputs[f"{s}_prediction"], "float32"), (-1,))
            weight = ops.tanh(ops.abs(labels[:, column] - labels[:, 0]))
            error = ops.mean(weight * ops.abs(prediction - labels[:, column]))
            terms[s] = ops.where(outside, float("nan"), error)
        features = {kind: outputs[f"{kind}_feature"] for kind in KINDS}
        self.unimodal_labels.visit(index, labels, visits, features)
        return terms

    def _index(self, x: Any) -> tuple[Any, Any]:
        """Rows of the batch in the memories, and whether one of them is outside."""
        if not isinstance(x, Mapping) or INDEX not in x:
            received = tuple(x) if isinstance(x, Mapping) else type(x).__name__
            raise ValueError(
                f"In training `inputs` must hold '{INDEX}' (batch,) int, each example's row in the "
                f"training data: SelfMM remembers labels by it. Received: {received}."
            )
        values, size = _known(x[INDEX]), self.train_size
        if values is not None and values.size and not 0 <= values.min() <= values.max() < size:
            raise ValueError(
                f"`inputs['{INDEX}']` must be in [0, train_size), here [0, {size}). Received: "
                f"{values.min()} to {values.max()}. Make the model with `train_size=` the number "
                "of rows of the training data."
            )
        index = ops.reshape(ops.cast(x[INDEX], "int32"), (-1,))
        inside = ops.logical_and(index >= 0, index < self.train_size)
        return ops.where(inside, index, 0), ops.logical_not(ops.all(inside))

    @property
    def term_weights(self) -> dict[str, float]:
        return dict.fromkeys(UNIMODAL, 1.0)

    @classmethod
    def data_arguments(cls, labels: Any, num_classes: int | None = None) -> dict[str, Any]:
        """`train_size`, and `label_bound`: the scale that labels fill, as published 1 or 3."""
        arguments = super().data_arguments(labels)
        labels = np.asarray(labels)
        bound = max(1.0, float(np.ceil(np.abs(labels).max())))
        return {**arguments, "train_size": len(labels), "label_bound": bound}

    def parameter_groups(self, preset: str = "sims") -> dict[str, dict[str, float]]:
        """Published `learning_rate` and `weight_decay` by pattern of variable paths.

        Args:
            preset: One of `PRESETS`. The paper's rates are those of `"sims"`.

        Returns:
            The first pattern that fits counts. The heads fit none: theirs are 1e-3 and 1e-3.
        """
        if preset not in RATES:
            raise ValueError(f"`preset` must be one of {tuple(RATES)}. Received: {preset!r}.")
        options = {
            name: {"learning_rate": rate, "weight_decay": decay}
            for name, (rate, decay) in RATES[preset].items()
        }
        groups = {f"{m}_encoder/": options[m] for m in self.sequence_encoders}
        if not self.text_encoder.trainable_variables:
            return groups
        undecayed = {**options["bert"], "weight_decay": 0.0}
        return {BERT_NO_DECAY_PATHS: undecayed, BERT_PATHS: options["bert"], **groups}

    def published_optimizer(
        self, learning_rate: float | None = None, preset: str = "sims"
    ) -> keras.optimizers.Optimizer:
        """Adam with a group for each encoder; one step takes the gradients of 4 batches, summed.

        Args:
            learning_rate: Of the heads; `None` for the published 1e-3.
            preset: One of `PRESETS`.
        """
        return GroupedAdam(
            1e-3 if learning_rate is None else learning_rate,
            weight_decay=1e-3,
            groups=self.parameter_groups(preset),
            gradient_accumulation_steps=4,
            accumulation="sum",
        )

    def training_callbacks(self, train_data: Any = None) -> list[keras.callbacks.Callback]:
        """What an epoch leaves over of 4 batches is discarded."""
        return [DiscardPartialAccumulation()]

    def torch_weights(self) -> Iterator[TorchWeight]:
        """Where each variable lies in a published checkpoint; the memories are in none."""
        if self.text_encoder.bert is not None:
            yield from bert_weights("text_model.model", self.text_encoder.bert)
        yield from self.sequence_encoders["audio"].torch_weights("audio_model")
        yield from self.sequence_encoders["vision"].torch_weights("video_model")
        for kind, head in self.heads.items():
            name = "video" if kind == "vision" else kind
            yield from head.torch_weights(f"post_{name}_layer")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "train_size": self.train_size,
            "bert": self.text_encoder.get_config()["bert"],
            **{f"{m}_hidden_size": value for m, value in self.hidden_sizes.items()},
            **{f"{m}_layers": value for m, value in self.lstm_layers.items()},
            **{f"{m}_dropout": value for m, value in self.dropouts.items()},
            **{f"{m}_size": value for m, value in self.sizes.items()},
            **{f"post_{kind}_size": value for kind, value in self.post_sizes.items()},
            **{f"post_{kind}_dropout": value for kind, value in self.post_dropouts.items()},
            "label_bound": self.label_bound,
            "exclude_zero": self.exclude_zero,
            "aligned": self.aligned,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "SelfMM":
        bert = TextStates.from_config({"bert": config.get("bert")}).bert
        return cls(**{**config, "bert": bert})


def _reaching(x: Any, steps: Any) -> Any:
    """`x` with zeros behind it, if it has fewer than `steps` steps; the text's are as many."""
    batch, own, dim = ops.shape(x)
    short = steps - own
    if isinstance(short, int):
        return ops.pad(x, [[0, 0], [0, short], [0, 0]]) if short > 0 else x
    zeros = ops.zeros((batch, ops.maximum(short, 0), dim), dtype=x.dtype)
    return ops.concatenate([x, zeros], axis=1)


def _known(values: Any) -> np.ndarray[Any, Any] | None:
    """The values of a tensor that has them and has them here; `None` for one being compiled."""
    try:
        return np.asarray(values)
    except (TypeError, RuntimeError, NotImplementedError):
        return None
