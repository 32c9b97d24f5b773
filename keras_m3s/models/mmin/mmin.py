"""MMIN, the missing modality imagination network, and `UttFusion`, the teacher it starts from.

    e_m   = encoder_m(X_m m)              what is there: audio, text, vision joined
    t_m   = teacher_m(X_m (1 - m))        what is not, by frozen encoders
    e', z = imagine(e)                    cascade of residual autoencoders: imagined vector, latent
    e''   = imagine_back(e')
    y     = classifier(z)
    loss  = CE(y) + 4 MSE(t, e') + 2 MSE(stop(e), e'')

Training has two stages, each a plain `fit`:

    teacher = UttFusion()
    teacher.compile(teacher.published_optimizer())
    teacher.fit(complete, callbacks=teacher.training_callbacks())
    model = MMIN()
    model.load_teacher(teacher)
    model.compile(model.published_optimizer())
    model.fit(with_missing_index, callbacks=model.training_callbacks())

Reference: Zhao, Li, Jin, "Missing Modality Imagination Network for Emotion Recognition with
Uncertain Missing Modalities", ACL 2021; code AIM3-RUC/MMIN, branch master, 69a45fe.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_m3s.data.batches import Batches
from keras_m3s.modalities import COMPLEMENT, MISSING_INDEX, MODALITIES, length_key
from keras_m3s.models.base import PREDICTION
from keras_m3s.models.mmin.pretraining import train_teacher
from keras_m3s.models.mmin.residual_autoencoder import ResidualAutoencoder
from keras_m3s.models.mmin.utt_fusion import UtteranceModel, UttFusion
from keras_m3s.models.torch_import.weights import TorchWeight
from keras_m3s.utils.backend import tensorflow_unused


@keras.saving.register_keras_serializable(package="keras_m3s")
class MMIN(UtteranceModel):
    """Missing modality imagination network.

    What is missing reaches it in one of three ways:

    - `missing_index` in the batch, the published protocol: the student reads X m, the teacher
      X (1 - m), whole modalities;
    - holes cut by T: `WithMissing` and `M3S` add `complement`, which the teacher reads;
    - neither: the input is complete, the teacher reads zeros.

    Without `load_teacher` the teacher is a random network, and the imagination loss aims at that.

    Examples:
        >>> model = keras_m3s.models.MMIN(num_classes=4)
        >>> model.load_teacher(teacher)                        # a trained `UttFusion`
        >>> model.compile(model.published_optimizer())
        >>> model.fit({"audio": a, "vision": v, "text": t, "missing_index": m}, label)

    Args:
        num_classes: Number of classes; the prediction is their logits. 1 for a score, which is
            trained on its squared error: the published code has classes alone.
        audio_size: Width of the vector of a modality, also of its LSTM; likewise `vision_size`
            and `text_size`.
        audio_pooling: `"max"` over time or `"last"` state; likewise `vision_pooling`.
        text_channels: Filters per height of the text CNN.
        text_heights: How many words its filters span.
        text_dropout_rate: Dropout rate within it.
        autoencoder_layers: Widths of one residual autoencoder's encoder.
        n_blocks: Autoencoders in a cascade.
        share_weight: Whether the cycle's cascade is the forward one again.
        classifier_layers: Widths of the classifier's hidden layers; may be empty.
        dropout_rate: Dropout rate after each of them.
        batch_norm: Whether batch norm follows each of them.
        task_weight: Factor of the task's loss, unless `compile` is given `loss_weights`.
        imagination_weight: Factor of the forward imagination loss.
        cycle_weight: Factor of the cycle's.
        mask_padding: `False` as published: LSTM, filters and maxima run over padding, so that
            padding changes the prediction. `True`: `{modality}_length` bounds every sequence.
        kernel_initializer: Of dense and convolution kernels. The default is that of June 2021,
            normal with standard deviation .02. Branch master's, `VarianceScaling(2, "fan_in",
            "untruncated_normal")`, makes the cascades grow what passes them (a cycle loss of 1e5
            at the published sizes): its clipped Adam bears that, M3S' plain inner steps do not.
            LSTMs start as PyTorch's, biases outside them at 0.

    Raises:
        ValueError: If an argument is out of range, or a batch lacks a modality or a length.

    Reference: Zhao et al., ACL 2021; AIM3-RUC/MMIN 69a45fe, models/mmin_model.py. M3S, section 4.
    """

    uses_complement = True

    def __init__(
        self,
        num_classes: int = 4,
        autoencoder_layers: Sequence[int] = (256, 128, 64),
        n_blocks: int = 5,
        share_weight: bool = False,
        task_weight: float = 1.0,
        imagination_weight: float = 4.0,
        cycle_weight: float = 2.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, **kwargs)
        self.autoencoder_layers = tuple(autoencoder_layers)
        self.n_blocks = n_blocks
        self.share_weight = share_weight
        self.task_weight = task_weight
        self.imagination_weight = imagination_weight
        self.cycle_weight = cycle_weight
        self.encoders = self.make_encoders(MODALITIES, "encoders")
        self.teacher = self.make_encoders(MODALITIES, "teacher")
        self.teacher.freeze()
        self.imagination = self._make_autoencoder("imagination")
        self.cycle_imagination = (
            None if share_weight else self._make_autoencoder("cycle_imagination")
        )

    def _default_initializer(self) -> Any:
        return keras.initializers.RandomNormal(stddev=0.02)

    @property
    def subnetworks(self) -> list[str]:
        cascades = ["imagination"] if self.share_weight else ["imagination", "cycle_imagination"]
        return super().subnetworks + [rf"(^|/){name}/" for name in cascades]

    def _make_autoencoder(self, name: str) -> ResidualAutoencoder:
        return ResidualAutoencoder(
            self.autoencoder_layers,
            self.n_blocks,
            self.kernel_initializer,
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, input_shape: Any) -> None:
        joined = (None, sum(self.sizes.values()))
        self.encoders.build(input_shape)
        self.teacher.build(input_shape)
        self.imagination.build(joined)
        if self.cycle_imagination is not None:
            self.cycle_imagination.build(joined)
        self.classifier.build((None, self.n_blocks * self.autoencoder_layers[-1]))

    def pretrain(
        self,
        train: Batches,
        valid: Batches,
        epochs: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        """Trains a teacher on complete input and loads it; see `BaseModel.pretrain`.

        Raises:
            NotFiniteError: If its loss is not finite.
        """
        teacher = train_teacher(self.first_stage(), train, valid, epochs, callbacks)
        if not self.built:
            # With the steps of the data, which `load_teacher` does not know.
            inputs = train[0][0]
            self.build({name: (None, *np.shape(array)[1:]) for name, array in inputs.items()})
        self.load_teacher(teacher)

    def first_stage(self) -> UttFusion:
        """An untrained stage 1 with encoders of the model's sizes."""
        shared = [
            *("num_classes", "classifier_layers", "batch_norm", "mask_padding"),
            *("text_channels", "text_heights", "text_dropout_rate"),
            *(f"{m}_size" for m in self.sizes),
            *(f"{m}_pooling" for m in self.poolings),
        ]
        with tensorflow_unused():  # which serializing an initializer would import
            config = self.get_config()
        return UttFusion(dtype=self.dtype_policy, **{name: config[name] for name in shared})

    def load_teacher(self, teacher: UttFusion) -> None:
        """Takes a trained stage 1: its encoders become the teacher, and the student's beginning.

        Args:
            teacher: A built `UttFusion` of all three modalities, with encoders of the same sizes.

        Raises:
            ValueError: If it is not that.
        """
        if not getattr(teacher, "built", False) or teacher.modalities != MODALITIES:
            raise ValueError(
                f"`teacher` must be a built UttFusion with modalities={MODALITIES}. Received: "
                f"{teacher!r}. Train it, or load its weights, first."
            )
        if not self.built:
            widths = {m: (None, None, teacher.encoders[m].input_dim) for m in MODALITIES}
            self.build({**widths, **{length_key(m): (None,) for m in MODALITIES}})
        source = teacher.encoders.weights
        shapes = [tuple(v.shape) for v in source]
        if shapes != (own := [tuple(v.shape) for v in self.encoders.weights]):
            raise ValueError(
                "`teacher` must have encoders like the model's: the same input widths, sizes and "
                f"text filters. Received: weights of shapes {shapes}, the model has {own}."
            )
        for own_encoders in (self.teacher, self.encoders):
            for variable, value in zip(own_encoders.weights, source, strict=True):
                # A copy each: a JAX train step gives its buffers away, so none may be shared.
                variable.assign(np.array(ops.convert_to_numpy(value)))

    def encode(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        """The student's vectors, and in training what the teacher says of the missing part.

        Returns:
            Dict with `audio`, `vision`, `text` `(batch, size)`; in training also `complement`, the
            same of the teacher's.
        """
        kept = self.encoders.select(inputs)
        removed = dict(kept)
        index = inputs.get(MISSING_INDEX)
        complement = inputs.get(COMPLEMENT) or {}
        for column, m in enumerate(MODALITIES):
            kept[m] = x = ops.convert_to_tensor(kept[m])
            removed[m] = ops.zeros_like(x)
            if index is not None:
                there = ops.cast(index, x.dtype)[:, column, None, None]
                kept[m], removed[m] = x * there, x * (1 - there)
            if m in complement:
                # Both at once: x is holed already, so what a hole took is in `complement` alone.
                holes = ops.cast(complement[m], x.dtype)
                removed[m] = ops.where(holes != 0, holes, removed[m])
        encoded: dict[str, Any] = self.encoders(kept, training=training)
        if training:
            imagined = self.teacher(removed, training=False)
            encoded[COMPLEMENT] = {m: ops.stop_gradient(v) for m, v in imagined.items()}
        return encoded

    def fuse(self, encoded: Mapping[str, Any], training: bool | None = None) -> Any:
        """Logits `(batch, num_classes)` from the latent of the forward cascade.

        In training a dict: `prediction`; `student`, `imagined`, `cycled` and `teacher`
        `(batch, sum of sizes)`, which `loss_terms` compares; `latent`.
        """
        student = self.join(encoded)
        imagined, latent = self.imagination(student)
        logits = self.classifier(latent, training=training)
        if not training:
            return logits
        if COMPLEMENT not in encoded:
            raise ValueError(
                f"In training `encoded` must hold {COMPLEMENT!r}, the teacher's vectors. Received: "
                f"{tuple(encoded)}. Encode with `training=True` as well."
            )
        cycled, _ = (self.cycle_imagination or self.imagination)(imagined)
        return {
            PREDICTION: logits,
            "student": student,
            "imagined": imagined,
            "cycled": cycled,
            "teacher": self.join(encoded[COMPLEMENT]),
            "latent": latent,
        }

    def loss_terms(self, x: Any, y: Any, outputs: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "imagination": _mean_square(outputs["teacher"], outputs["imagined"]),
            "cycle": _mean_square(ops.stop_gradient(outputs["student"]), outputs["cycled"]),
        }

    @property
    def term_weights(self) -> dict[str, float]:
        return {"imagination": self.imagination_weight, "cycle": self.cycle_weight}

    def compile(
        self, optimizer: Any = "adam", loss: Any = None, loss_weights: Any = None, **kwargs: Any
    ) -> None:
        """As `keras.Model.compile`; without `loss`, the task's times `task_weight`."""
        if loss_weights is None and self.task_weight != 1:
            loss_weights = self.task_weight
        super().compile(optimizer=optimizer, loss=loss, loss_weights=loss_weights, **kwargs)

    def torch_weights(self) -> Iterator[TorchWeight]:
        """Names of the published files `*_net_{A,V,L,C,AE,AE_cycle}.pth`, each behind its part.

        The teacher is a checkpoint of its own: load it into `UttFusion`, then `load_teacher`.
        """
        yield from self.encoders.torch_weights()
        yield from self.classifier.torch_weights("C")
        yield from self.imagination.torch_weights("AE")
        if self.cycle_imagination is not None:
            yield from self.cycle_imagination.torch_weights("AE_cycle")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "autoencoder_layers": list(self.autoencoder_layers),
            "n_blocks": self.n_blocks,
            "share_weight": self.share_weight,
            "task_weight": self.task_weight,
            "imagination_weight": self.imagination_weight,
            "cycle_weight": self.cycle_weight,
        }


def _mean_square(a: Any, b: Any) -> Any:
    """Mean squared difference, in float32 whatever the layers compute in."""
    return ops.mean(ops.square(ops.cast(a, "float32") - ops.cast(b, "float32")))
