"""LNLN: fusion led by the text, and by a proxy of it where the text is incomplete.

Longer than 350 lines: the model, its losses, its published training and the map of its published
weights are one thing.

    h_m    = tokens of transformer_m([tokens, W_m X_m])       m: text, audio, vision
    w      = sigmoid(MLP(transformer(h_t)))                   estimated completeness of the text
    h_p    = reverse(transformer([start, h_a, h_v]))          proxy; reverse: gradient times -1
    h_d    = w h_t + (1 - w) h_p                              dominant features
    s_i    = states of transformer(h_d);  h <- hyper_i(s_i, h_a, h_v, h)
    y      = W mean(cross_transformer(source h, target s_last))
    loss   = MSE(y) + .9 MSE(w, 1 - r_t) + .8 CE(D(h_d), D(h_t of complete text))
             + .1 MSE(reconstructor_m(h_m), h_m of the complete input)

Reference: Zhang, Wang, Yu, "Towards robust multimodal sentiment analysis with incomplete data",
NeurIPS 2024; code Haoyu-ha/LNLN, 80a052c.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import ops

from keras_m3s.layers.padding_token import without_gradient
from keras_m3s.layers.text_states import TEXT, TextStates
from keras_m3s.layers.torch_defaults import Linear
from keras_m3s.modalities import (
    COMPLEMENT,
    COMPLETE,
    TEXT_BERT,
    TEXT_MISSING_RATE,
    length_key,
)
from keras_m3s.models.arguments import require_int, require_number
from keras_m3s.models.base import PREDICTION, BaseModel
from keras_m3s.models.lnln import losses
from keras_m3s.models.lnln.attention import built
from keras_m3s.models.lnln.complete_input import complete_part, in_holes
from keras_m3s.models.lnln.dominant import Discriminator, DominantFeatures
from keras_m3s.models.lnln.multimodal import MultimodalLearning
from keras_m3s.models.lnln.sizes import ByPart, by_key, parts
from keras_m3s.models.lnln.training import DecoupledAdam, WarmupCosine
from keras_m3s.models.lnln.transformer import Transformer
from keras_m3s.models.sequences import require_sequences
from keras_m3s.models.torch_import.bert import BERT_UNUSED, bert_weights
from keras_m3s.models.torch_import.weights import TorchWeight, linear

ORDER = ("text", "audio", "vision")


@keras.saving.register_keras_serializable(package="keras_m3s")
class LNLN(BaseModel):
    """Language-dominated noise-resistant learning network.

    A batch must hold `audio`, `vision`, and `text` or `text_bert`. In training it should also hold
    `complement`, what the holes removed, which `WithMissing` and `M3S` add: per modality the
    features in the holes and zeros elsewhere, for `text_bert` the ids in the holes and 0 elsewhere.
    The complete features or tokens are accepted as well. A modality without complement has no
    reconstruction loss; without that of the text there is no discriminator loss. Where a modality
    of a sample is all zeros, or has no token, it was never measured, and the losses leave it out.

    The target of the completeness is the share of the text's steps (words) outside the holes. The
    published one is 1 minus the rate at which holes were drawn: it is taken if the batch holds
    that as `text_missing_rate`, float `(batch,)` or `(batch, 1)`. Without complement and rate there
    is no completeness loss.

    Examples:
        >>> model = keras_m3s.models.LNLN(depth={"fusion": 4}, adversarial_weight=0.6)    # SIMS
        >>> model.compile(model.published_optimizer())
        >>> holed = {"audio": a * m_a, "vision": v * m_v, "text": t * m_t}
        >>> removed = {"audio": a * (1 - m_a), "vision": v * (1 - m_v), "text": t * (1 - m_t)}
        >>> x = {**holed, "complement": removed}
        >>> model.fit(x, y, epochs=200, callbacks=model.training_callbacks())

    Args:
        hidden_size: Width d of every representation.
        tokens: Learned tokens of a modality, whose outputs represent it. (The published code has
            an argument for it, but works with 8 only.)
        depth: Layers of each transformer, a number or a dict by part, see `sizes.PARTS`. Of
            `"hyper"`, whose layers each read one state of `"language"`, the default is one more
            than of that, which is the most. Published for MOSEI and SIMS is `{"fusion": 4}`.
        heads: Attention heads, likewise; by default 8.
        head_size: Width of a head; in `"hyper"` it is `hidden_size // heads`, as published.
        feedforward_size: Width between the dense layers of a transformer, likewise, save for
            `"hyper"`, which has none; `None` for `hidden_size`.
        discriminator_size: Width of its hidden layer; `None` for `hidden_size // 2`.
        outputs: Scores that are predicted.
        steps: Modality -> number of learned positions, which is the most steps that it can have;
            by default the number of steps of the batch that builds the model. Published: text 50,
            vision 500, audio 375, for SIMS 39, 55, 400. (The published code fails on MOSI files
            that have more audio or vision than that.)
        completeness_weight: Factor of the completeness loss, alpha in the published code.
        adversarial_weight: Factor of the discriminator's loss, beta; published for SIMS is .6.
        reconstruction_weight: Factor of the reconstruction loss, gamma.
        task_weight: Factor of the sentiment loss, sigma, unless `compile` is given `loss_weights`.
        mask_padding: `False` as published: padding is attended to and changes the prediction.
            `True`: steps from `{modality}_length` on are masked.
        bert: BERT backbone, preset name or folder where the batch holds tokens (`text_bert`), see
            `keras_m3s.layers.text_states.TextStates`.

    Raises:
        ValueError: An argument is out of range, a modality is missing from the batch, or it has
            more steps than there are positions.

    Reference: Zhang et al., NeurIPS 2024, section 3; models/lnln.py and configs of the published
    code.
    """

    uses_complement = True
    torch_unused = BERT_UNUSED
    torch_renames = ((r"^Model\.", ""),)

    def __init__(
        self,
        hidden_size: int = 128,
        tokens: int = 8,
        depth: ByPart = 2,
        heads: ByPart = 8,
        head_size: int = 64,
        feedforward_size: ByPart | None = None,
        discriminator_size: int | None = None,
        outputs: int = 1,
        steps: Mapping[str, int] | None = None,
        completeness_weight: float = 0.9,
        adversarial_weight: float = 0.8,
        reconstruction_weight: float = 0.1,
        task_weight: float = 1.0,
        mask_padding: bool = False,
        bert: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value, least in (
            ("hidden_size", hidden_size, 2),
            ("tokens", tokens, 1),
            ("head_size", head_size, 1),
            ("discriminator_size", 1 if discriminator_size is None else discriminator_size, 1),
            ("outputs", outputs, 1),
        ):
            require_int(name, value, least)
        for name, weight in (
            ("completeness_weight", completeness_weight),
            ("adversarial_weight", adversarial_weight),
            ("reconstruction_weight", reconstruction_weight),
            ("task_weight", task_weight),
        ):
            require_number(name, weight)
        self.hidden_size, self.tokens, self.head_size = hidden_size, tokens, head_size
        self.depth, self.heads = _plain(depth), _plain(heads)
        self.feedforward_size = _plain(feedforward_size)
        self.discriminator_size, self.outputs_size = discriminator_size, outputs
        self.steps = by_key("steps", steps or {}, ORDER)
        self.completeness_weight, self.adversarial_weight = completeness_weight, adversarial_weight
        self.reconstruction_weight, self.task_weight = reconstruction_weight, task_weight
        self.mask_padding = mask_padding
        self._make_layers(bert)

    def _make_layers(self, bert: Any) -> None:
        policy = {"dtype": self.dtype_policy}
        sizes = parts(
            self.depth, self.heads, self.head_size, self.feedforward_size, self.hidden_size
        )

        def transformers(part: str, tokens: int = 0) -> dict[str, Transformer]:
            options = {**sizes[part], "tokens": tokens, **policy}
            return {m: Transformer(name=f"{m}_{part}", **options) for m in ORDER}

        self.text_states = TextStates(bert, name="text_states", **policy)
        without_gradient(self.text_states.bert)
        self.projections = {
            m: Linear(self.hidden_size, name=f"{m}_projection", **policy) for m in ORDER
        }
        self.encoders = transformers("encoder", self.tokens)
        self.reconstructors = transformers("reconstructor")
        self.dominant = DominantFeatures(
            self.tokens, sizes["proxy"], sizes["completeness"], name="dominant", **policy
        )
        size = self.discriminator_size or self.hidden_size // 2
        self.discriminator = Discriminator(size, name="discriminator", **policy)
        self.multimodal = MultimodalLearning(
            self.tokens,
            *(sizes[part] for part in ("language", "hyper", "fusion")),
            name="multimodal",
            **policy,
        )
        self.head = Linear(self.outputs_size, name="head", **policy)

    def build(self, input_shape: Mapping[str, Any]) -> None:
        require_sequences(input_shape)
        batch = {
            key: keras.KerasTensor(input_shape[key], dtype)
            for key, dtype in ((TEXT, self.compute_dtype), (TEXT_BERT, "int32"))
            if key in input_shape
        }
        states, _ = self.text_states(batch)  # symbolic: only to learn steps and width
        shapes = {"text": states.shape, **{m: input_shape[m] for m in ("audio", "vision")}}
        shape = (None, self.tokens, self.hidden_size)
        for m in ORDER:
            steps = self.steps.get(m) or shapes[m][1]
            if steps is None:
                raise ValueError(
                    f"The largest number of steps of {m!r} must be known. Received: a batch of "
                    f"unknown steps. Pass `steps={{{m!r}: ...}}`."
                )
            self.projections[m].build(tuple(shapes[m]))
            self.encoders[m].build((None, steps, self.hidden_size))
            self.reconstructors[m].build(shape)
        for layer in (self.dominant, self.discriminator, self.multimodal):
            layer.build(shape)
        built(self.head, self.hidden_size)
        self.built = True

    def encode(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        """The tokens of each modality, concatenated to one vector.

        Returns:
            `audio`, `vision`, `text` `(batch, tokens * hidden_size)`. In training, if the batch
            has what they are made of, also `complete`, the same vectors of the complete
            modalities; `measured`, per modality `(batch,)`, see `complete_input.Complete`; `kept`
            `(batch,)`, the target of the completeness; and `complement`, the text's vector again,
            of which T at the site "encoded" leaves what it removes.
        """
        require_sequences(inputs)
        encoded: dict[str, Any] = {m: self._encode(m, inputs, training) for m in ORDER}
        if not training:
            return encoded
        keys = {m: self._key(m, inputs) for m in ORDER}
        parts = {m: complete_part(inputs, key) for m, key in keys.items()}
        complete = {m: part for m, part in parts.items() if part is not None}
        if complete:
            # As published, gradients flow into the targets too.
            encoded[COMPLETE] = {
                m: self._encode(m, {**inputs, keys[m]: part.values}, training)
                for m, part in complete.items()
            }
            encoded["measured"] = {m: part.measured for m, part in complete.items()}
            encoded[COMPLEMENT] = {TEXT: encoded[TEXT]}
        if TEXT_MISSING_RATE in inputs:
            rate = ops.reshape(ops.cast(inputs[TEXT_MISSING_RATE], "float32"), (-1,))
            encoded["kept"] = 1.0 - rate
        elif TEXT in complete:
            encoded["kept"] = complete[TEXT].kept
        return encoded

    def _encode(self, m: str, inputs: Mapping[str, Any], training: bool | None) -> Any:
        """One modality's vector."""
        visible = None
        if m == TEXT:
            # As published, the states of padding are used too.
            x, mask = self.text_states(inputs, training=training)
            if self.mask_padding:
                visible = ops.not_equal(mask, 0)
        else:
            x = inputs[m]
            if self.mask_padding and length_key(m) in inputs:
                position = ops.arange(ops.shape(x)[1], dtype="int32")
                visible = position < ops.cast(inputs[length_key(m)], "int32")[:, None]
        encoder = self.encoders[m]
        most = encoder.positions.shape[1] - encoder.tokens
        if x.shape[1] is not None and x.shape[1] > most:
            raise ValueError(
                f"`inputs[{m!r}]` must have at most {most} steps, for which there are positions. "
                f"Received: {x.shape[1]}. Make the model with `steps={{{m!r}: {x.shape[1]}}}`, or "
                "cut the sequence."
            )
        states = encoder(self.projections[m](x), visible)[-1]
        return ops.reshape(states[:, : self.tokens], (-1, self.tokens * self.hidden_size))

    def _key(self, m: str, inputs: Mapping[str, Any]) -> str:
        """The batch's entry that a modality is read from."""
        tokens = m == TEXT and self.text_states.bert is not None and TEXT_BERT in inputs
        return TEXT_BERT if tokens else m

    def fuse(self, encoded: Mapping[str, Any], training: bool | None = None) -> Any:
        """Prediction `(batch, outputs)`; in training a dict, with what `loss_terms` reads.

        Returns:
            In training `prediction`; `completeness` `(batch, 1)`, the estimate, and its target
            `kept`, if known; with a complement also `restored` and `complete`, dicts of `(batch,
            tokens, hidden_size)`, `measured` as in `encode`, and `domain`, the discriminator's
            logits `(batch, tokens, 2)` of dominant features and features of complete text.
        """
        h = {m: self._as_tokens(encoded[m]) for m in ORDER}
        dominant, completeness = self.dominant(h["text"], h["audio"], h["vision"])
        prediction = self.head(self.multimodal(dominant, h["audio"], h["vision"]))
        if not training:
            return prediction
        outputs = {PREDICTION: prediction, "completeness": completeness}
        if "kept" in encoded:
            outputs["kept"] = encoded["kept"]
            if COMPLEMENT in encoded:
                gone = in_holes(encoded[TEXT], encoded[COMPLEMENT][TEXT])
                outputs["kept"] *= 1.0 - ops.mean(ops.cast(gone, "float32"), axis=1)
        if COMPLETE in encoded:
            complete = {m: self._as_tokens(vector) for m, vector in encoded[COMPLETE].items()}
            outputs["complete"], outputs["measured"] = complete, encoded["measured"]
            outputs["restored"] = {m: self.reconstructors[m](h[m])[-1] for m in complete}
            if TEXT in complete:
                outputs["domain"] = {
                    "dominant": self.discriminator(dominant),
                    "complete": self.discriminator(complete[TEXT]),
                }
        return outputs

    def _as_tokens(self, vector: Any) -> Any:
        return ops.reshape(vector, (-1, self.tokens, self.hidden_size))

    def loss_terms(self, x: Any, y: Any, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """`completeness`, `adversarial`, `reconstruction`, each 0 where there is no target."""
        terms = dict.fromkeys(self.term_weights, ops.zeros((), "float32"))
        measured = outputs.get("measured", {})
        if "kept" in outputs:
            kept = outputs["kept"]
            counts = measured.get(TEXT, ops.ones_like(kept))
            terms["completeness"] = losses.completeness_loss(outputs["completeness"], kept, counts)
        if "domain" in outputs:
            terms["adversarial"] = losses.adversarial_loss(
                **outputs["domain"], measured=measured[TEXT]
            )
        if "complete" in outputs:
            terms["reconstruction"] = losses.reconstruction_loss(
                outputs["restored"], outputs["complete"], measured
            )
        return terms

    @property
    def term_weights(self) -> dict[str, float]:
        return {
            "completeness": self.completeness_weight,
            "adversarial": self.adversarial_weight,
            "reconstruction": self.reconstruction_weight,
        }

    # Training

    def compile(
        self, optimizer: Any = "adam", loss: Any = None, loss_weights: Any = None, **kwargs: Any
    ) -> None:
        """As `keras.Model.compile`; without `loss`, the squared error times `task_weight`."""
        if loss_weights is None and self.task_weight != 1:
            loss_weights = self.task_weight
        super().compile(optimizer=optimizer, loss=loss, loss_weights=loss_weights, **kwargs)

    def published_optimizer(self, learning_rate: float | None = None) -> keras.optimizers.Optimizer:
        """AdamW with a decay of 1e-4 on all weights, the BERT's too, and no clipping.

        Args:
            learning_rate: The highest, see `training_callbacks`; `None` for 1e-4.
        """
        return DecoupledAdam(1e-4 if learning_rate is None else learning_rate, weight_decay=1e-4)

    def training_callbacks(
        self, train_data: Any = None, epochs: int | None = None
    ) -> list[keras.callbacks.Callback]:
        """The published schedule, see `WarmupCosine`; in the first epoch the rate is 0.

        Args:
            train_data: Not read; other models' callbacks need it.
            epochs: Length of the schedule, published 200; `None` for that of `fit`.
        """
        return [WarmupCosine(epochs)]

    # Weights and arguments

    def torch_weights(self) -> Iterator[TorchWeight]:
        """Where each variable lies in a published checkpoint."""
        if self.text_states.bert is not None:
            yield from bert_weights("bertmodel.model", self.text_states.bert)
        for m, layer in self.projections.items():
            prefix = f"proj_{'l' if m == TEXT else m[0]}"
            yield from linear(f"{prefix}.0", layer)
            yield from self.encoders[m].torch_weights(f"{prefix}.1")
        for i, m in enumerate(("audio", "vision", "text")):
            yield from self.reconstructors[m].torch_weights(f"reconstructor.{i}")
        for part in (self.dominant, self.discriminator, self.multimodal):
            yield from part.torch_weights()
        yield from linear("dmml.3", self.head)

    def get_config(self) -> dict[str, Any]:
        own = (
            "hidden_size",
            "tokens",
            "head_size",
            "discriminator_size",
            "completeness_weight",
            "adversarial_weight",
            "reconstruction_weight",
            "task_weight",
            "mask_padding",
        )
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in own},
            "depth": _plain(self.depth),
            "heads": _plain(self.heads),
            "feedforward_size": _plain(self.feedforward_size),
            "steps": dict(self.steps) or None,
            "outputs": self.outputs_size,
            "bert": self.text_states.get_config()["bert"],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "LNLN":
        bert = TextStates.from_config({"bert": config.get("bert")}).bert
        return cls(**{**config, "bert": bert})


def _plain(value: Any) -> Any:
    """A number as it is, a mapping as a dict of its own."""
    return dict(value) if isinstance(value, Mapping) else value
