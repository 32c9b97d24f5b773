"""TFR-Net: crossmodal attention between all pairs, and what is missing reconstructed in training.

Longer than 350 lines: a third of them are the model's many arguments and what they mean.

    h    = alignment(X)                               X with holes; text from a BERT
    r_m  = reconstruction_m(h_m)                      m: text, audio, vision
    y    = classifier(batch norm([e_t, e_a, e_v]))    e_m = gated encoder_m(h_m)
    loss = |y - label| + sum over m of w_m reconstruction_loss(r_m, X_m where it is missing)

Reference: Yuan, Li, Xu, Yu, "Transformer-based feature reconstruction network for robust multimodal
sentiment analysis", ACM Multimedia 2021; code thuiar/TFR-Net 00f06a6 and thuiar/MMSA a94e65d.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import ops

from keras_m3s.layers.padding_token import without_gradient
from keras_m3s.layers.text_states import BERT_NO_DECAY_PATHS, BERT_PATHS, TEXT, TextStates
from keras_m3s.layers.torch_defaults import BatchNorm, Dropout, Linear, leaky_relu
from keras_m3s.modalities import COMPLEMENT, TEXT_BERT, length_key
from keras_m3s.models.arguments import require_int, require_number, require_rate
from keras_m3s.models.base import PREDICTION, BaseModel
from keras_m3s.models.sequences import require_sequences
from keras_m3s.models.tfr_net.alignment import LETTERS, ORDER, Alignment
from keras_m3s.models.tfr_net.gated_encoder import GatedEncoder
from keras_m3s.models.tfr_net.presets import TRAINING
from keras_m3s.models.tfr_net.reconstruction import (
    AXES,
    KINDS,
    Missing,
    Reconstruction,
    complete_tokens,
    measured_only,
    missing_frames,
    reconstruction_loss,
)
from keras_m3s.models.tfr_net.training import EpochStart, Plateau, RunningSumAdam
from keras_m3s.models.torch_import.bert import BERT_UNUSED, bert_weights
from keras_m3s.models.torch_import.weights import TorchWeight, batch_norm, linear

LATE_PATHS = r"(^|/)(text|audio|vision)_reconstruction/"
"""Finds by path the variables that serve the reconstruction alone."""

LEAST_SELF_LAYERS = 3
NOT_OWN_ARGUMENTS = ("self", "bert", "kwargs", "__class__")


@keras.saving.register_keras_serializable(package="keras_m3s")
class TFRNet(BaseModel):
    """Transformer-based feature reconstruction network.

    A batch must hold `audio`, `vision`, and `text` or `text_bert`. What the holes in them removed,
    the target of the reconstruction, comes as `complement`: `WithMissing` and `M3S` add it, or the
    data has it: of each modality the features in its holes and zeros elsewhere, of `text_bert` the
    ids in the holes and 0 elsewhere. A modality without one has no such loss.

    Number of steps are fixed for the reconstruction alone, whose weights depend on them: by default
    to those of the batch that builds the model. Shorter batches count as padded with zeros.

    Examples:
        >>> model = keras_m3s.models.TFRNet(**keras_m3s.models.tfr_net.PRESETS["mosi"])
        >>> model.compile(model.published_optimizer())
        >>> holed = {"audio": a * m_a, "vision": v * m_v, "text": t * m_t}
        >>> removed = {"audio": a * (1 - m_a), "vision": v * (1 - m_v), "text": t * (1 - m_t)}
        >>> model.fit({**holed, "complement": removed}, y, callbacks=model.training_callbacks())

    Args:
        hidden_size: Width d of every attention, a multiple of `heads`. A modality of that width
            has no convolution.
        heads: Attention heads.
        attention_layers: Layers of the attention between modalities, >= 1.
        self_attention_layers: Those of a modality to itself and of the reconstruction; `None` for
            the published, at least 3 and no fewer than `attention_layers`.
        temporal_heads: Heads of the reconstruction's attention, whose width is a modality's number
            of steps. If they do not divide that, where the published code fails (CH-SIMS has 39 and
            55 steps), the next smaller number that does.
        text_kernel_size: Steps that the convolution spans; likewise `audio_kernel_size` and
            `vision_kernel_size`. Even ones, which the published code cannot have, reach one step
            further ahead than back.
        text_dropout: Rate on the states of the text.
        attention_dropout: Rate on weights of attention to text, to itself and of reconstruction;
            `audio_attention_dropout` and `vision_attention_dropout` for those to audio and vision.
        relu_dropout: Rate on hidden units of the transformers.
        residual_dropout: Rate on their branches.
        embedding_dropout: Rate on their inputs.
        text_size: Width of the encoded text; likewise `audio_size`, `vision_size`.
        gru_layers: Layers of the GRUs, >= 1.
        fusion_dropout: Rate on the encoded vectors.
        classifier_size: Width of the classifier's hidden layer.
        classifier_dropout: Rate behind it.
        causal: Whether attention sees no later step, see `crossmodal.visible_keys`.
        reconstruct: `False` for the model without reconstruction.
        reconstruction_axis: What the reconstruction's attention runs along: `"batch"` as published,
            so that a row is reconstructed with those before it in the batch (predictions are not
            affected); `"feature"` as in the paper's text, each row by itself.
        reconstruction_loss: One of `reconstruction.KINDS`.
        similarity_weight: See `reconstruction.reconstruction_loss`.
        text_weight: Factor of the text's reconstruction loss; likewise `audio_weight`,
            `vision_weight`.
        text_steps: Largest number of steps in training; likewise `audio_steps`, `vision_steps`.
        aligned: Whether audio and vision end where the text ends; otherwise at `audio_length` and
            `vision_length`, or at the last step.
        mask_padding: `False` as published: attention and maxima run over padding, so that padding
            changes the prediction. `True`: no padding is read.
        bert: What reads `text_bert`, see `keras_m3s.layers.text_states.TextStates`; `None` where
            batches hold `text`.
        finetune: Whether the BERT is trained.

    Raises:
        ValueError: An argument is out of range, a modality is not there, or a batch to train on has
            more steps than the reconstruction was built for.

    Reference: Yuan et al., ACM MM 2021, section 3; models/missingTask/TFR_NET of thuiar/TFR-Net
    00f06a6.
    """

    published_loss = "mean_absolute_error"
    uses_complement = True
    torch_renames = ((r"^Model\.", ""),)

    def __init__(
        self,
        hidden_size: int = 30,
        heads: int = 6,
        attention_layers: int = 3,
        self_attention_layers: int | None = None,
        temporal_heads: int = 25,
        text_kernel_size: int = 1,
        audio_kernel_size: int = 5,
        vision_kernel_size: int = 3,
        text_dropout: float = 0.2,
        attention_dropout: float = 0.2,
        audio_attention_dropout: float = 0.1,
        vision_attention_dropout: float = 0.0,
        relu_dropout: float = 0.2,
        residual_dropout: float = 0.2,
        embedding_dropout: float = 0.2,
        text_size: int = 36,
        audio_size: int = 20,
        vision_size: int = 48,
        gru_layers: int = 3,
        fusion_dropout: float = 0.2,
        classifier_size: int = 128,
        classifier_dropout: float = 0.0,
        causal: bool = True,
        reconstruct: bool = True,
        reconstruction_axis: str = "batch",
        reconstruction_loss: str = "combine",
        similarity_weight: float = 0.0,
        text_weight: float = 5.0,
        audio_weight: float = 2.0,
        vision_weight: float = 20.0,
        text_steps: int | None = None,
        audio_steps: int | None = None,
        vision_steps: int | None = None,
        aligned: bool = False,
        mask_padding: bool = False,
        bert: Any = None,
        finetune: bool = True,
        **kwargs: Any,
    ) -> None:
        arguments = {k: v for k, v in locals().items() if k not in NOT_OWN_ARGUMENTS}
        super().__init__(**kwargs)
        _check(arguments)
        self._arguments = arguments
        self.reconstruct, self.reconstruction_loss = reconstruct, reconstruction_loss
        self.similarity_weight = similarity_weight
        self.aligned, self.mask_padding = aligned, mask_padding
        self._make_layers(bert)
        self._reconstruction_counts = self.add_weight(
            name="reconstruction_counts", shape=(), initializer="ones", trainable=False
        )

    def _of_each(self, name: str) -> dict[str, Any]:
        """An argument that each modality has its own of."""
        return {m: self._arguments[f"{m}_{name}"] for m in ORDER}

    def _make_layers(self, bert: Any) -> None:
        policy, given = {"dtype": self.dtype_policy}, self._arguments
        names = ("relu_dropout", "residual_dropout", "embedding_dropout", "causal")
        transformer = {name: given[name] for name in names}
        self_layers = given["self_attention_layers"]
        if self_layers is None:
            self_layers = max(LEAST_SELF_LAYERS, given["attention_layers"])
        self.text_states = TextStates(bert, name="text_states", **policy)
        # Attention reads the states of padding.
        without_gradient(self.text_states.bert)
        if self.text_states.bert is not None and not given["finetune"]:
            self.text_states.bert.trainable = False
        self.align = Alignment(
            given["hidden_size"],
            given["heads"],
            given["attention_layers"],
            self_layers,
            self._of_each("kernel_size"),
            given["text_dropout"],
            given["attention_dropout"],
            {
                "text": given["attention_dropout"],
                "audio": given["audio_attention_dropout"],
                "vision": given["vision_attention_dropout"],
            },
            transformer,
            name="alignment",
            **policy,
        )
        self.reconstructions = {
            m: Reconstruction(
                steps,
                given["reconstruction_axis"],
                given["temporal_heads"],
                self_layers,
                given["attention_dropout"],
                transformer,
                name=f"{m}_reconstruction",
                **policy,
            )
            for m, steps in self._of_each("steps").items()
            if self.reconstruct
        }
        self.gated = {
            m: GatedEncoder(
                size,
                given["gru_layers"],
                given["fusion_dropout"],
                self.mask_padding,
                name=f"{m}_gated",
                **policy,
            )
            for m, size in self._of_each("size").items()
        }
        self.norm = BatchNorm(name="norm", **policy)
        self.hidden = Linear(given["classifier_size"], leaky_relu, name="hidden", **policy)
        self.drop = Dropout(given["classifier_dropout"], name="drop", **policy)
        self.head = Linear(1, name="head", **policy)

    def build(self, input_shape: Any) -> None:
        require_sequences(input_shape)
        batch = {
            key: keras.KerasTensor(input_shape[key], dtype)
            for key, dtype in ((TEXT, self.compute_dtype), (TEXT_BERT, "int32"))
            if key in input_shape
        }
        states, _ = self.text_states(batch)  # symbolic: only to learn steps and width
        shapes = {"text": states.shape, **{m: input_shape[m] for m in ("audio", "vision")}}
        self.align.build({m: shape[-1] for m, shape in shapes.items()})
        joined = 3 * self.align.hidden_size
        for m, (_, steps, width) in shapes.items():
            if self.reconstruct:
                self.reconstructions[m].build((None, steps, joined), width)
            self.gated[m].build((None, None, joined))
        vector = (None, sum(layer.units for layer in self.gated.values()))
        self.norm.build(vector)
        self.hidden.build(vector)
        self.head.build((None, self.hidden.units))

    def encode(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        """One vector per modality, from all three.

        Returns:
            `audio`, `vision`, `text` `(batch, their size)`; in training, where the batch has a
            `complement`, also `generated`, the reconstructed modalities `(batch, steps, width)`,
            and `missing`, the `Missing` of each.
        """
        require_sequences(inputs)
        states, mask = self.text_states(inputs, training=training)
        sequences = {"text": states, "audio": inputs["audio"], "vision": inputs["vision"]}
        sequences = {m: ops.cast(x, self.compute_dtype) for m, x in sequences.items()}
        lengths = self._lengths(inputs, sequences, mask)
        if self.mask_padding:
            sequences = {m: _within(x, lengths[m]) for m, x in sequences.items()}
        joined = self.align(sequences, lengths if self.mask_padding else None, training=training)
        encoded: dict[str, Any] = {
            m: self.gated[m](joined[m], lengths[m], training=training) for m in ORDER
        }
        if training and self.reconstruct and inputs.get(COMPLEMENT):
            if self.mask_padding:
                joined = {m: _within(x, lengths[m]) for m, x in joined.items()}
            encoded["missing"] = self._missing(inputs, lengths, training)
            encoded["generated"] = {
                m: self.reconstructions[m](joined[m], training=training) for m in encoded["missing"]
            }
        return encoded

    def _lengths(
        self, inputs: Mapping[str, Any], sequences: Mapping[str, Any], mask: Any
    ) -> dict[str, Any]:
        """True steps of each modality, int `(batch,)`; of the text those before its first 0."""
        mask = ops.cast(mask, "int32")  # bfloat16 cannot count beyond 256
        most = ops.shape(mask)[1]
        positions = ops.arange(most, dtype="int32")
        # Not a cumulative product, which ONNX does not have.
        words = ops.min(ops.where(mask == 0, positions, most), axis=1)
        lengths = {"text": words}
        for m in ("audio", "vision"):
            steps = ops.cast(ops.shape(sequences[m])[1], "int32")
            given = words if self.aligned else inputs.get(length_key(m))
            given = steps if given is None else ops.cast(given, "int32")
            lengths[m] = ops.zeros_like(words) + ops.clip(given, 0, steps)
        return lengths

    def _missing(
        self, inputs: Mapping[str, Any], lengths: Mapping[str, Any], training: bool | None
    ) -> dict[str, Missing]:
        """Of each modality that the batch has a `complement` of, what its holes removed."""
        complement, missing = inputs[COMPLEMENT], {}
        tokens = self.text_states.bert is not None and TEXT_BERT in inputs
        for m in ORDER:
            if m == TEXT and tokens:
                if TEXT_BERT in complement:
                    missing[m] = self._missing_words(inputs, complement, training)
            elif m in complement:
                x, removed = inputs[m], complement[m]
                true = ops.arange(ops.shape(x)[1]) < lengths[m][:, None]
                missing[m] = missing_frames(x, removed, true)
        return missing

    def _missing_words(
        self, inputs: Mapping[str, Any], complement: Mapping[str, Any], training: bool | None
    ) -> Missing:
        complete, gone = complete_tokens(inputs[TEXT_BERT], complement[TEXT_BERT])
        # As published, the gradient flows into the BERT from this side too.
        states, _ = self.text_states({TEXT_BERT: complete}, training=training)
        return Missing(states, ops.cast(gone, "float32")[..., None])

    def fuse(self, encoded: Mapping[str, Any], training: bool | None = None) -> Any:
        """Prediction `(batch, 1)`; in training a dict, with what `loss_terms` reads."""
        joined = ops.concatenate([encoded[m] for m in ORDER], axis=-1)
        hidden = self.hidden(self.norm(joined, training=training))
        prediction = self.head(self.drop(hidden, training=training))
        if not training:
            return prediction
        reconstruction = {k: encoded[k] for k in ("missing", "generated") if k in encoded}
        return {PREDICTION: prediction, **reconstruction}

    def loss_terms(self, x: Any, y: Any, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """`text`, `audio`, `vision`: the errors of their reconstruction, 0 where there is none."""
        counts = ops.convert_to_tensor(self._reconstruction_counts)
        terms = dict.fromkeys(self.term_weights, ops.zeros((), "float32"))
        for m, generated in outputs.get("generated", {}).items():
            missing = measured_only(outputs["missing"][m], x, m)
            error = reconstruction_loss(
                generated, missing, self.reconstruction_loss, self.similarity_weight
            )
            terms[m] = counts * error
        return terms

    @property
    def term_weights(self) -> dict[str, float]:
        return self._of_each("weight") if self.reconstruct else {}

    @property
    def reconstruction_counts(self) -> bool:
        """Whether the reconstruction is part of the loss; the published training begins without."""
        return bool(ops.convert_to_numpy(self._reconstruction_counts))

    @reconstruction_counts.setter
    def reconstruction_counts(self, value: bool) -> None:
        self._reconstruction_counts.assign(float(value))

    # Training

    def published_optimizer(
        self, learning_rate: float | None = None, preset: str = "mosi"
    ) -> keras.optimizers.Optimizer:
        """Adam on running sums over 4 batches, clipped to [-.8, .8]; the BERT's rate is its own.

        Args:
            learning_rate: Of all but the BERT; `None` for the published one.
            preset: One of `presets.PRESETS`.
        """
        rate, bert_rate, _ = _training(preset)
        groups: dict[str, dict[str, float]] = {}
        if self.text_states.trainable_variables:
            groups = {
                BERT_NO_DECAY_PATHS: {"learning_rate": bert_rate, "weight_decay": 0.0},
                BERT_PATHS: {"learning_rate": bert_rate, "weight_decay": 1e-4},
            }
        return RunningSumAdam(
            rate if learning_rate is None else learning_rate,
            weight_decay=1e-3,
            groups=groups,
            clipvalue=0.8,
            late=LATE_PATHS,
        )

    def training_callbacks(
        self, train_data: Any = None, preset: str = "mosi"
    ) -> list[keras.callbacks.Callback]:
        """The first epoch without reconstruction, and the rate that falls on a plateau.

        Args:
            train_data: Not needed.
            preset: One of `presets.PRESETS`.
        """
        return [EpochStart(self), Plateau(self.monitor, _training(preset)[2])]

    # Weights and arguments

    @property
    def torch_unused(self) -> tuple[str, ...]:
        """Names in a published checkpoint that have no counterpart here."""
        unused = [*BERT_UNUSED, r".*\.num_batches_tracked"]
        unused += [r".*\.version", r".*\.embed_positions\._float_tensor"]  # of transformers
        align = r"align_subnet\.Model"
        # Made there even where the widths are equal and nothing is projected.
        projected = self.align.convolutions
        unused += [rf"{align}\.proj_{LETTERS[m]}\..*" for m in ORDER if m not in projected]
        if not self.reconstruct:
            unused += [rf"{align}\.trans_._final\..*", r"generator_.\..*"]
        return tuple(unused)

    def torch_weights(self) -> Iterator[TorchWeight]:
        """Where each variable lies in a published checkpoint."""
        if self.text_states.bert is not None:
            yield from bert_weights("text_model.model", self.text_states.bert)
        align, fusion = "align_subnet.Model", "fusion_subnet.Model"
        yield from self.align.torch_weights(align)
        for m, layer in self.reconstructions.items():
            final, generator = f"trans_{LETTERS[m]}_final", f"generator_{m[0]}.Model.linear"
            yield from layer.torch_weights(f"{align}.{final}", generator)
        for m, encoder in self.gated.items():
            yield from encoder.torch_weights(f"{fusion}.{m}_encoder")
        yield from batch_norm(f"{fusion}.classifier.linear_trans_norm", self.norm)
        yield from linear(f"{fusion}.classifier.linear_trans_hidden", self.hidden)
        yield from linear(f"{fusion}.classifier.linear_trans_final", self.head)

    def get_config(self) -> dict[str, Any]:
        bert = self.text_states.get_config()["bert"]
        return {**super().get_config(), **self._arguments, "bert": bert}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "TFRNet":
        bert = TextStates.from_config({"bert": config.get("bert")}).bert
        return cls(**{**config, "bert": bert})


def _within(x: Any, lengths: Any) -> Any:
    """`x` `(batch, steps, dim)` with zeros behind its true steps."""
    true = ops.arange(ops.shape(x)[1]) < lengths[:, None]
    return ops.where(true[..., None], x, ops.zeros((), x.dtype))


def _training(preset: str) -> tuple[float, float, int]:
    if preset not in TRAINING:
        raise ValueError(f"`preset` must be one of {tuple(TRAINING)}. Received: {preset!r}.")
    return TRAINING[preset]


def _check(arguments: Mapping[str, Any]) -> None:
    """Raises what the class docstring says of arguments."""
    for name, value in arguments.items():
        if name.endswith("dropout"):
            require_rate(name, value)
        elif name.endswith("weight"):
            require_number(name, value)
        elif name.endswith(("size", "heads", "layers")):
            if value is not None or name != "self_attention_layers":
                require_int(name, value)
        elif name.endswith("steps") and value is not None:
            require_int(name, value)
    hidden_size, heads = arguments["hidden_size"], arguments["heads"]
    if hidden_size % heads:
        raise ValueError(
            f"`hidden_size` must be a multiple of `heads`. Received: hidden_size={hidden_size}, "
            f"heads={heads}."
        )
    for name, allowed in (("reconstruction_axis", AXES), ("reconstruction_loss", KINDS)):
        if arguments[name] not in allowed:
            raise ValueError(
                f"`{name}` must be one of {allowed}. Received: {name}={arguments[name]!r}."
            )
