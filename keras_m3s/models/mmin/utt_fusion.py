"""Stage 1 of MMIN: encoders, a classifier, and what both stages have in common.

    e_m = encoder_m(X_m)                  audio, text, vision, joined
    y   = classifier(e)
    loss = CE(y)

Reference: Zhao, Li, Jin, "Missing Modality Imagination Network for Emotion Recognition with
Uncertain Missing Modalities", ACL 2021; code AIM3-RUC/MMIN, branch master, 69a45fe.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_m3s.layers.torch_defaults import BatchNorm, Dropout
from keras_m3s.metrics import UnweightedAverageRecall
from keras_m3s.modalities import MODALITIES
from keras_m3s.models.base import PREDICTION, BaseModel, count_classes
from keras_m3s.models.mmin.residual_autoencoder import initialized_dense, kaiming
from keras_m3s.models.mmin.utterance_encoders import UtteranceEncoders
from keras_m3s.models.schedule import ScheduleCallback
from keras_m3s.models.torch_import.weights import TorchWeight, batch_norm, linear
from keras_m3s.optimizers import GroupedAdam

JOINED = ("audio", "text", "vision")
"""The order in which the published code joins the vectors."""


class LinearDecay(ScheduleCallback):
    """Keeps the learning rate for some epochs, then lowers it in equal steps towards 0.

    In epoch e, counted from 0, the optimizer's rate is multiplied by
    1 - max(0, e + 1 - constant_epochs) / (decay_epochs + 1).

    Args:
        constant_epochs: Epochs up to the first lower one, counted one short as published: the
            published count starts at 1.
        decay_epochs: Further epochs; the one after them would have rate 0.
    """

    def __init__(self, constant_epochs: int, decay_epochs: int) -> None:
        super().__init__()
        self.constant_epochs = constant_epochs
        self.decay_epochs = decay_epochs

    def factor(self, epoch: int) -> float:
        """What the rate is multiplied by in an epoch, counted from 0."""
        past = max(0, epoch + 1 - self.constant_epochs)
        return max(0.0, 1 - past / (self.decay_epochs + 1))


class Classifier(keras.layers.Layer):
    """Dense, ReLU, batch norm if asked for, dropout; as often as `layers` says; then the logits."""

    def __init__(
        self,
        layers: Sequence[int],
        num_classes: int,
        dropout_rate: float,
        batch_norm: bool,
        initializer: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        common = {"dtype": self.dtype_policy}
        widths = [*layers, num_classes]
        names = [*(f"hidden_{i}" for i in range(len(layers))), "logits"]
        self.dense = [
            initialized_dense(width, initializer, name=name, **common)
            for width, name in zip(widths, names, strict=True)
        ]
        self.norms = [BatchNorm(**common) for _ in (layers if batch_norm else ())]
        self.dropout = Dropout(dropout_rate, **common)

    def build(self, input_shape: Any) -> None:
        dim = input_shape[-1]
        for i, layer in enumerate(self.dense):
            layer.build((None, dim))
            dim = layer.units
            if i < len(self.norms):
                self.norms[i].build((None, dim))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = inputs
        for i, layer in enumerate(self.dense[:-1]):
            x = ops.relu(layer(x))
            if self.norms:
                x = self.norms[i](x, training=training)
            x = self.dropout(x, training=training)
        return self.dense[-1](x)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.dense[-1].units)

    def torch_weights(self, prefix: str) -> Iterator[TorchWeight]:
        """Names as in the published checkpoints, all trained with dropout, whatever the rate is."""
        for i, layer in enumerate(self.dense[:-1]):
            at = self._torch_stride(dropout=True) * i
            yield from linear(f"{prefix}.module.{at}", layer)
            if self.norms:
                yield from batch_norm(f"{prefix}.module.{at + 2}", self.norms[i])
        yield from linear(f"{prefix}.fc_out", self.dense[-1])

    def torch_renames(self, prefix: str) -> list[tuple[str, str]]:
        """From the names of a checkpoint without dropout, where these differ.

        With four hidden layers or more (three, with batch norm) the two use names such as
        `module.6` for different layers; such a checkpoint is refused with an error.
        """
        strides = self._torch_stride(dropout=False), self._torch_stride(dropout=True)
        pairs = [(strides[0] * i, strides[1] * i) for i in range(len(self.dense) - 1)]
        if self.norms:
            pairs += [(old + 2, new + 2) for old, new in pairs]
        known = {new for _, new in pairs}
        return [
            (rf"^{prefix}\.module\.{old}\.", f"{prefix}.module.{new}.")
            for old, new in pairs
            if old not in known
        ]

    def _torch_stride(self, dropout: bool) -> int:
        """Places from one dense layer to the next: ReLU, batch norm and dropout take one each."""
        return 2 + bool(self.norms) + dropout


class UtteranceModel(BaseModel):
    """What stage 1 and stage 2 share: arguments, encoders, classifier, optimizer, schedule."""

    published_loss: Any = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    monitor = "val_uar"
    monitor_mode = "max"
    torch_unused = (r".*\.num_batches_tracked",)

    encoders: UtteranceEncoders

    _clip_norm = 1.0
    _beta_1 = 0.5
    _epochs = (20, 40)

    def __init__(
        self,
        num_classes: int = 4,
        audio_size: int = 128,
        vision_size: int = 128,
        text_size: int = 128,
        audio_pooling: str = "max",
        vision_pooling: str = "max",
        text_channels: int = 128,
        text_heights: Sequence[int] = (3, 4, 5),
        text_dropout_rate: float = 0.5,
        classifier_layers: Sequence[int] = (128, 128),
        dropout_rate: float = 0.5,
        batch_norm: bool = False,
        mask_padding: bool = False,
        kernel_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        if num_classes == 1:
            self.published_loss = "mean_squared_error"
            self.monitor, self.monitor_mode = BaseModel.monitor, BaseModel.monitor_mode
        self.sizes = {"audio": audio_size, "vision": vision_size, "text": text_size}
        self.poolings = {"audio": audio_pooling, "vision": vision_pooling}
        self.text_channels = text_channels
        self.text_heights = tuple(text_heights)
        self.text_dropout_rate = text_dropout_rate
        self.classifier_layers = tuple(classifier_layers)
        self.dropout_rate = dropout_rate
        self.batch_norm = batch_norm
        self.mask_padding = mask_padding
        self.kernel_initializer = (
            keras.initializers.get(kernel_initializer) or self._default_initializer()
        )
        self.classifier = Classifier(
            self.classifier_layers,
            num_classes,
            dropout_rate,
            batch_norm,
            self.kernel_initializer,
            dtype=self.dtype_policy,
            name="classifier",
        )

    def make_encoders(self, modalities: Sequence[str], name: str) -> UtteranceEncoders:
        text = {
            "channels": self.text_channels,
            "heights": self.text_heights,
            "dropout": self.text_dropout_rate,
            "initializer": self.kernel_initializer,
        }
        sizes = {m: self.sizes[m] for m in modalities}
        return UtteranceEncoders(
            sizes, self.poolings, text, self.mask_padding, dtype=self.dtype_policy, name=name
        )

    def _default_initializer(self) -> Any:
        return kaiming()

    @staticmethod
    def join(vectors: Mapping[str, Any]) -> Any:
        """The vectors of all modalities there are, side by side, in the published order."""
        return ops.concatenate([vectors[m] for m in JOINED if m in vectors], axis=-1)

    @property
    def subnetworks(self) -> list[str]:
        """Patterns of variable paths: the parts whose gradients are clipped each by itself."""
        return [rf"(^|/){m}_encoder/" for m in self.encoders.modalities] + [r"(^|/)classifier/"]

    def published_optimizer(self, learning_rate: float | None = None, **kwargs: Any) -> GroupedAdam:
        """Adam as published: each sub-network's gradients clipped by their norm, 1 (stage 1: .5).

        Args:
            learning_rate: Rate at the start; `None` for 2e-4. (Stage 1 had 5e-4 in June 2021.)
            **kwargs: Of `GroupedAdam`, in place of the published ones.
        """
        published = {
            "beta_1": self._beta_1,
            "groups": {pattern: {} for pattern in self.subnetworks},
            "group_clipnorm": self._clip_norm,
        }
        return GroupedAdam(learning_rate or 2e-4, **{**published, **kwargs})

    def training_callbacks(
        self,
        train_data: Any = None,
        constant_epochs: int | None = None,
        decay_epochs: int | None = None,
    ) -> list[keras.callbacks.Callback]:
        """The published schedule, see `LinearDecay`; fit for the sum of both numbers.

        Args:
            train_data: Not read; other models' callbacks need it.
            constant_epochs: Epochs at the full rate: 20, in stage 1 10.
            decay_epochs: Epochs after them: 40, in stage 1 10. (These are of June 2021, from
                where M3S has its numbers; branch master has 30 and 30, in stage 1 the same.)
        """
        constant, decay = self._epochs
        constant = constant if constant_epochs is None else constant_epochs
        return [LinearDecay(constant, decay if decay_epochs is None else decay_epochs)]

    @property
    def torch_renames(self) -> list[tuple[str, str]]:
        """Names of checkpoints that were trained without dropout."""
        return self.classifier.torch_renames("C")

    @classmethod
    def data_arguments(cls, labels: Any, num_classes: int | None = None) -> dict[str, Any]:
        """The number of classes, 1 for scores; see `BaseModel.data_arguments`."""
        labels = np.asarray(labels)
        if not np.issubdtype(labels.dtype, np.integer):
            return {"num_classes": 1}
        return {"num_classes": num_classes or count_classes(labels)}

    def task_metrics(self) -> list[keras.metrics.Metric]:
        """Unweighted average recall, which chooses the published code's epoch; MAE of scores."""
        if self.num_classes == 1:
            return super().task_metrics()
        return [UnweightedAverageRecall(self.num_classes)]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            **{f"{m}_size": size for m, size in self.sizes.items()},
            **{f"{m}_pooling": pooling for m, pooling in self.poolings.items()},
            "text_channels": self.text_channels,
            "text_heights": list(self.text_heights),
            "text_dropout_rate": self.text_dropout_rate,
            "classifier_layers": list(self.classifier_layers),
            "dropout_rate": self.dropout_rate,
            "batch_norm": self.batch_norm,
            "mask_padding": self.mask_padding,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_m3s")
class UttFusion(UtteranceModel):
    """Stage 1: encoders and a classifier on their joined vectors, trained on complete input.

    Args:
        modalities: Those that the model reads.
        **kwargs: As `MMIN`'s of the same name; here `dropout_rate` is .3 and the default of
            `kernel_initializer` normal with variance 2 / fan_in.

    Reference: AIM3-RUC/MMIN 69a45fe, models/utt_fusion_model.py.
    """

    _clip_norm = 0.5
    _beta_1 = 0.9
    _epochs = (10, 10)

    def __init__(
        self,
        modalities: Sequence[str] = MODALITIES,
        dropout_rate: float = 0.3,
        **kwargs: Any,
    ) -> None:
        super().__init__(dropout_rate=dropout_rate, **kwargs)
        if not modalities or set(modalities) - set(MODALITIES):
            raise ValueError(
                f"`modalities` must be one or more of {MODALITIES}. Received: {modalities!r}."
            )
        self.modalities = tuple(m for m in MODALITIES if m in modalities)
        self.encoders = self.make_encoders(self.modalities, "encoders")

    def build(self, input_shape: Any) -> None:
        self.encoders.build(input_shape)
        self.classifier.build((None, sum(self.sizes[m] for m in self.modalities)))

    def encode(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        """One vector per modality: dict of `(batch, size)`."""
        encoded: dict[str, Any] = self.encoders(self.encoders.select(inputs), training=training)
        return encoded

    def fuse(self, encoded: Mapping[str, Any], training: bool | None = None) -> Any:
        """Logits `(batch, num_classes)`; in training a dict with `prediction`."""
        logits = self.classifier(self.join(encoded), training=training)
        return {PREDICTION: logits} if training else logits

    def torch_weights(self) -> Iterator[TorchWeight]:
        """Names of the published files `*_net_{A,V,L,C}.pth`, each behind its letter."""
        yield from self.encoders.torch_weights()
        yield from self.classifier.torch_weights("C")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "modalities": list(self.modalities)}
