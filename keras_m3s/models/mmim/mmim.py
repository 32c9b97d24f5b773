"""MMIM: sentiment from a fusion that keeps mutual information with, and among, its inputs.

Longer than 350 lines: the model, its losses, its published training and the map of its published
weights are one thing.

    text -> BERT -> first state         audio, vision -> LSTM -> last state -> linear
    [text, audio, vision] -> tanh linear -> tanh linear = fusion -> linear -> prediction
    lld, H   of (text, vision), (text, audio), maybe (vision, audio)     `MMILB`
    nce      of the fusion with each of text, vision, audio              `CPC`

    each epoch: forget the remembered rows of H
        for each batch (stage 0): step `mi_*` on -lld
        for each batch (stage 1): step all else on |prediction - y| + 0.1 (nce - lld - H),
            with H from the third batch on

Reference: Han, Chen, Poria, "Improving multimodal fusion with hierarchical mutual information
maximization for multimodal sentiment analysis", EMNLP 2021;
https://github.com/declare-lab/Multimodal-Infomax, cd0774c.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import ops

from keras_m3s.layers.recurrent import LSTM
from keras_m3s.layers.text_states import BERT_PATHS, TEXT, TextStates
from keras_m3s.layers.torch_defaults import Dropout, activation
from keras_m3s.modalities import TEXT_BERT, length_key
from keras_m3s.models.base import PREDICTION, BaseModel
from keras_m3s.models.mmim import contrast_stage
from keras_m3s.models.mmim.mutual_information import CPC, MMILB, XavierNormal, dense
from keras_m3s.models.sequences import require_sequences
from keras_m3s.models.torch_import.bert import BERT_UNUSED, bert_weights
from keras_m3s.models.torch_import.weights import TorchWeight, linear, lstm

PAIRS: dict[str, tuple[str, str]] = {
    "tv": ("text", "vision"),
    "ta": ("text", "audio"),
    "va": ("vision", "audio"),
}
"""Pairs (x, y) whose mutual information is bounded; `va` only with `add_va`."""

ORDER = ("text", "audio", "vision")
"""The published order of the fusion's inputs."""


@keras.saving.register_keras_serializable(package="keras_m3s")
class MMIM(BaseModel):
    """Multimodal InfoMax as published.

    A batch must hold `audio`, `vision`, and `text` or `text_bert`; sequences end at
    `audio_length` and `vision_length`, or at the last step.

    Examples:
        >>> model = keras_m3s.models.MMIM()
        >>> model.compile(model.published_optimizer())
        >>> model.fit(train, epochs=40, validation_data=valid,
        ...           callbacks=model.training_callbacks(train))

    Args:
        hidden_size: Width of the fusion.
        outputs: 1 for sentiment, the number of classes otherwise (then compile with a loss on
            logits: published is cross-entropy).
        audio_hidden_size: Width of the audio LSTM; likewise `vision_hidden_size`.
        audio_size: Width of the encoded audio, >= 4; likewise `vision_size`. Text keeps its own.
        bidirectional: Whether audio and vision are read both ways (MMSA's setting).
        dropout: Rate on the fusion's input.
        encoder_dropout: Rate on the LSTMs' last states.
        add_va: Whether the pair (vision, audio) counts too.
        cpc_layers: Linear layers of a prediction from the fusion, >= 1, published 1.
        cpc_activation: Activation after the first of several, see
            `keras_m3s.layers.torch_defaults.activation`.
        mi_activation: Activation of the hidden layers of `MMILB`. (That of its last layers, which
            the published code has an argument for, it makes no use of.)
        contrast: Whether stage 0 runs and `nce` and `lld` count; H does in any case.
        contrast_learning_rate: Of stage 0.
        nce_weight: alpha of MMIM's paper, the factor of `nce`.
        mi_weight: beta of MMIM's paper, the factor of `lld` and H.
        memory_batches: Batches before the present one whose rows H counts, >= 1, published 1.
        mi_gradients: Whether the variables of `mi_*` count as trainable. They must stay as they
            are in stage 1, so by default they do not, and any optimizer leaves them. In the
            published code their gradients count in the norm that is clipped; with True they do so
            here, and the optimizer must hold them: that of `published_optimizer` does.
        bert: BERT backbone, preset name or folder where the batch holds tokens (`text_bert`), see
            `keras_m3s.layers.text_states.TextStates`.

    Raises:
        ValueError: An argument is out of range, or a modality is missing from the batch.

    Reference: src/model.py, src/modules/encoders.py and src/solver.py of the published code.
    """

    published_loss = "mean_absolute_error"

    # MMSA keeps the model under `Model.` and wraps its BERT once more.
    torch_renames = (
        (r"^Model\.", ""),
        (r"^(text_enc\.)?bertmodel\.(model\.)?", "text_enc.bertmodel."),
    )
    # With two LSTM layers the published code fails where these read one way, and reads only the
    # first where they read both.
    torch_unused = (
        *BERT_UNUSED,
        r"(visual|acoustic)_enc\.rnn\..*_l[1-9]\d*(_reverse)?",
    )

    def __init__(
        self,
        hidden_size: int = 128,
        outputs: int = 1,
        audio_hidden_size: int = 16,
        vision_hidden_size: int = 16,
        audio_size: int = 16,
        vision_size: int = 16,
        bidirectional: bool = False,
        dropout: float = 0.1,
        encoder_dropout: float = 0.0,
        add_va: bool = False,
        cpc_layers: int = 1,
        cpc_activation: Any = "tanh",
        mi_activation: Any = "relu",
        contrast: bool = True,
        contrast_learning_rate: float = 1e-3,
        nce_weight: float = 0.1,
        mi_weight: float = 0.1,
        memory_batches: int = 1,
        mi_gradients: bool = False,
        bert: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(memory_batches, int) or memory_batches < 1:
            raise ValueError(
                "`memory_batches` must be an int >= 1. "
                f"Received: memory_batches={memory_batches!r}."
            )
        self.hidden_size, self.outputs_size = hidden_size, outputs
        self.hidden_sizes = {"audio": audio_hidden_size, "vision": vision_hidden_size}
        self.sizes = {"audio": audio_size, "vision": vision_size}
        self.bidirectional, self.add_va, self.contrast = bidirectional, add_va, contrast
        self.dropout, self.encoder_dropout = dropout, encoder_dropout
        self.cpc_layers, self.cpc_activation = cpc_layers, activation(cpc_activation)
        self.mi_activation = activation(mi_activation)
        self.nce_weight, self.mi_weight = nce_weight, mi_weight
        self.memory_batches, self._mi_gradients = memory_batches, mi_gradients
        self.contrast_learning_rate = contrast_learning_rate
        # Saved with the model, as every optimizer that an attribute holds.
        self.contrast_optimizer = contrast_stage.contrast_optimizer(contrast_learning_rate)
        self._make_layers(bert)

    def _make_layers(self, text_encoder: Any) -> None:
        policy = {"dtype": self.dtype_policy}
        self.text_states = TextStates(text_encoder, name="text_states", **policy)
        self.encoders = {
            m: LSTM(
                self.hidden_sizes[m],
                bidirectional=self.bidirectional,
                kernel_initializer=XavierNormal(),
                recurrent_initializer=XavierNormal(),
                name=f"{m}_encoder",
                **policy,
            )
            for m in self.sizes
        }
        self.projections = {m: dense(n, None, self, f"{m}_size") for m, n in self.sizes.items()}
        self.encoder_drop = Dropout(self.encoder_dropout, name="encoder_drop", **policy)
        self.mi = {
            pair: MMILB(
                self.mi_activation,
                self.memory_batches,
                self._mi_gradients,
                name=f"mi_{pair}",
                **policy,
            )
            for pair in PAIRS
            if pair != "va" or self.add_va
        }
        self.cpc = {
            m: CPC(self.cpc_layers, self.cpc_activation, name=f"cpc_{m}", **policy) for m in ORDER
        }
        self.drop = Dropout(self.dropout, name="drop", **policy)
        self.fusion_0 = dense(self.hidden_size, "tanh", self, "fusion_0")
        self.fusion_1 = dense(self.hidden_size, "tanh", self, "fusion_1")
        self.head = dense(self.outputs_size, None, self, "head")

    def build(self, input_shape: Any) -> None:
        require_sequences(input_shape)
        batch = {
            key: keras.KerasTensor(input_shape[key], dtype)
            for key, dtype in ((TEXT, self.compute_dtype), (TEXT_BERT, "int32"))
            if key in input_shape
        }
        widths = {"text": self.text_states(batch)[0].shape[-1], **self.sizes}
        for m in self.sizes:
            self.encoders[m].build(input_shape[m])
            self.projections[m].build((None, self.hidden_sizes[m] * (1 + self.bidirectional)))
        for pair, layer in self.mi.items():
            x, y = PAIRS[pair]
            layer.build((None, widths[x]), (None, widths[y]))
        for m in ORDER:
            self.cpc[m].build((None, widths[m]), (None, self.hidden_size))
        self.fusion_0.build((None, sum(widths.values())))
        self.fusion_1.build((None, self.hidden_size))
        self.head.build((None, self.hidden_size))
        self.batches_seen = self.add_weight(
            name="batches_seen",
            shape=(),
            initializer="zeros",
            dtype="int32",
            trainable=False,
            aggregation="only_first_replica",
        )

    def encode(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        """The vectors before the fusion.

        Returns:
            `text` `(batch, its width)`, the state of the first step ([CLS]); `audio`, `vision`
            `(batch, their size)`.
        """
        require_sequences(inputs)
        states, _ = self.text_states(inputs, training=training)
        encoded = {"text": states[:, 0]}
        for m in self.sizes:
            # The published code removes the axis of layers by `squeeze`, and with it that of a
            # batch of 1, which fails there.
            _, last = self.encoders[m](inputs[m], inputs.get(length_key(m)))
            encoded[m] = self.projections[m](self.encoder_drop(last, training=training))
        return encoded

    def fuse(self, encoded: Mapping[str, Any], training: bool | None = None) -> Any:
        """Prediction `(batch, outputs)`.

        In training a dict: that as `prediction`, and dicts of `nce` by modality, and `lld` and
        `rows` by pair.
        """
        vectors = self.drop(
            ops.concatenate([encoded[m] for m in ORDER], axis=-1), training=training
        )
        fusion = self.fusion_1(self.fusion_0(vectors))
        prediction = self.head(fusion)
        if not training:
            return prediction
        bounds = {pair: mi(*(encoded[m] for m in PAIRS[pair])) for pair, mi in self.mi.items()}
        return {
            PREDICTION: prediction,
            "nce": {m: self.cpc[m](encoded[m], fusion) for m in ORDER},
            "lld": {pair: bound["lld"] for pair, bound in bounds.items()},
            "rows": {pair: bound["rows"] for pair, bound in bounds.items()},
        }

    def loss_terms(self, x: Any, y: Any, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """`nce`, `lld`, `entropy`, each summed over modalities or pairs; remembers the batch."""
        seen = ops.convert_to_tensor(self.batches_seen)
        slot = seen % self.memory_batches
        entropy = sum(
            mi.remembered_entropy(outputs["rows"][pair], y, slot) for pair, mi in self.mi.items()
        )
        # One batch later than the memory is full, as published. Before the count moves on: on
        # PyTorch `seen` is the variable's own storage.
        counts = ops.cast(seen > self.memory_batches, entropy.dtype)
        self.batches_seen.assign(seen + 1)
        return {
            "nce": sum(outputs["nce"].values()),
            "lld": sum(outputs["lld"].values()),
            "entropy": counts * entropy,
        }

    @property
    def term_weights(self) -> dict[str, float]:
        weights = {"entropy": -self.mi_weight}
        if self.contrast:
            weights |= {"nce": self.nce_weight, "lld": -self.mi_weight}
        return weights

    @property
    def memories(self) -> list[keras.Variable]:
        """What H remembers of the batches before; only batches of this epoch, see `forget`."""
        if not self.built:
            return []
        return [self.batches_seen, *(v for mi in self.mi.values() for v in mi.memory)]

    def forget(self) -> None:
        """Empties `memories`, as at the start of an epoch."""
        for variable in self.memories:
            variable.assign(ops.zeros(variable.shape, variable.dtype))

    @property
    def mi_gradients(self) -> bool:
        """Whether the variables of `mi_*` count as trainable, see the class docstring."""
        return self._mi_gradients

    @mi_gradients.setter
    def mi_gradients(self, value: bool) -> None:
        self._mi_gradients = value
        for mi in self.mi.values():
            mi.count_gradients(value)

    # Training

    def published_optimizer(self, learning_rate: float | None = None) -> keras.optimizers.Optimizer:
        """Adam with coupled L2 of 1e-4, the norm of all gradients together clipped to 1.

        The BERT has 5e-5 and all else 1e-3, or `learning_rate`. `mi_*` has no step, but counts in
        the norm, as published: so this sets `mi_gradients`. Give M3S an inner learning rate of 0
        for `mi_`, and its inner steps leave `mi_*` too.
        """
        self.mi_gradients = True
        return contrast_stage.main_optimizer(
            1e-3 if learning_rate is None else learning_rate,
            bert_paths=None if self.text_states.bert is None else BERT_PATHS,
        )

    def training_callbacks(self, train_data: Any = None) -> list[keras.callbacks.Callback]:
        """Stage 0 and forgetting at the start of each epoch; the main rate halves on a plateau.

        Args:
            train_data: What stage 0 trains on: a dataset as for `fit`, or arrays `(x, y)`. It
                sees these as the model in training does, through T where that is in front.
                Without data, or with `contrast=False`, there is no stage 0.
        """
        return [
            contrast_stage.EpochStart(self, train_data if self.contrast else None),
            contrast_stage.Plateau(self.monitor, self.monitor_mode),
        ]

    @contextlib.contextmanager
    def contrast_variables(self) -> Iterator[None]:
        """In this scope those variables are trainable, of these and the encoders', that lld has."""
        aside: list[Any] = [*self.cpc.values(), self.fusion_0, self.fusion_1, self.head]
        aside += [mi.projection for mi in self.mi.values()]
        wanted = {id(v): False for part in aside for v in part.variables}
        wanted |= {id(v): True for mi in self.mi.values() for v in mi.likelihood_variables}
        changed = [v for v in self.variables if wanted.get(id(v), v.trainable) != v.trainable]
        for variable in changed:
            variable.trainable = not variable.trainable
        try:
            yield
        finally:
            for variable in changed:
                variable.trainable = not variable.trainable

    def _build_contrast_optimizer(self) -> None:
        with self.contrast_variables():
            self.contrast_optimizer.build(self.trainable_variables)

    def save_own_variables(self, store: Any) -> None:
        self._build_contrast_optimizer()
        super().save_own_variables(store)

    def load_own_variables(self, store: Any) -> None:
        self._build_contrast_optimizer()  # so that it has the variables that are loaded next
        super().load_own_variables(store)

    # Weights and arguments

    def torch_weights(self) -> Iterator[TorchWeight]:
        """Where each variable lies in a published checkpoint; the memories are in none."""
        if self.text_states.bert is not None:
            yield from bert_weights("text_enc.bertmodel", self.text_states.bert)
        for m, name in (("vision", "visual_enc"), ("audio", "acoustic_enc")):
            yield from lstm(f"{name}.rnn", self.encoders[m])
            yield from linear(f"{name}.linear_1", self.projections[m])
        for pair, mi in self.mi.items():
            yield from mi.torch_weights(f"mi_{pair}")
        for m, cpc in self.cpc.items():
            yield from cpc.torch_weights(f"cpc_z{m[0]}")
        yield from linear("fusion_prj.linear_1", self.fusion_0)
        yield from linear("fusion_prj.linear_2", self.fusion_1)
        yield from linear("fusion_prj.linear_3", self.head)

    def get_config(self) -> dict[str, Any]:
        own = (
            "hidden_size",
            "bidirectional",
            "dropout",
            "encoder_dropout",
            "add_va",
            "cpc_layers",
            "contrast",
            "contrast_learning_rate",
            "nce_weight",
            "mi_weight",
            "memory_batches",
            "mi_gradients",
        )
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in own},
            "outputs": self.outputs_size,
            **{f"{m}_hidden_size": size for m, size in self.hidden_sizes.items()},
            **{f"{m}_size": size for m, size in self.sizes.items()},
            "cpc_activation": keras.activations.serialize(self.cpc_activation),
            "mi_activation": keras.activations.serialize(self.mi_activation),
            "bert": self.text_states.get_config()["bert"],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "MMIM":
        text_encoder = TextStates.from_config({"bert": config.get("bert")}).bert
        return cls(**{**config, "bert": text_encoder})
