"""What is missing of a sequence, its reconstruction, and how far that is off.

    r_m = W_m transformer(h_m)                              h_m of `alignment`, r_m like X_m
    l_m = sum of smooth_l1(r_m, X_m) over what is missing / number of its entries

Reference: classes RECLoss and CMD of models/missingTask/TFR_NET/model.py, thuiar/MMSA a94e65d, and
generator.py beside it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_m3s.layers.centred_norm import precise
from keras_m3s.layers.torch_defaults import Linear
from keras_m3s.models.tfr_net.crossmodal import CrossmodalTransformer
from keras_m3s.models.torch_import.weights import TorchWeight, linear

AXES = ("batch", "feature")

KINDS = ("smooth_l1", "mse", "cmd", "combine")
"""Smooth L1, squared error, central moment discrepancy, and the first plus a share of the last."""

MOMENTS = 3
ENTRIES_EPSILON, ROOT_EPSILON = 1e-4, 1e-12


class Reconstruction(keras.layers.Layer):
    """A transformer whose vectors are a feature's whole course over time, then a linear map.

    Args:
        steps: Width of the transformer, the largest number of steps; `None` for that of `build`.
        axis: What its attention runs along. `"batch"` as published: the code hands over (batch,
            features, steps) to a transformer that wants the sequence's axis first, so that a row
            is reconstructed with those before it in the batch. `"feature"` as in the paper's text,
            each row by itself.
        heads: Attention heads; if they do not divide the width, the next smaller number that does.
        layers: Layers of the transformer.
        attention_dropout: Rate on attention weights.
        transformer: Further arguments of `CrossmodalTransformer`.

    Call arguments:
        inputs: `(batch, steps, dim)`. Fewer steps count as padded with zeros.

    Returns:
        `(batch, steps, width of the modality)`.

    Raises:
        ValueError: Steps are not known when it is built, or are more than then.
    """

    def __init__(
        self,
        steps: int | None,
        axis: str,
        heads: int,
        layers: int,
        attention_dropout: float,
        transformer: Mapping[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.steps, self.axis, self.heads = steps, axis, heads
        self.options = {
            "layers": layers,
            "attention_dropout": attention_dropout,
            **transformer,
            "positions": False,
        }

    def build(self, inputs_shape: Any, width: int) -> None:
        steps = self.steps or inputs_shape[1]
        if steps is None:
            raise ValueError(
                f"The number of steps must be known for {self.name!r}, whose weights depend on it. "
                "Received: a batch of unknown steps. Pass `text_steps=`, `audio_steps=` or "
                "`vision_steps=` to the model."
            )
        policy = {"dtype": self.dtype_policy}
        self.width = steps
        heads = next(n for n in range(self.heads, 0, -1) if steps % n == 0)
        self.temporal = CrossmodalTransformer(
            heads=heads, name="temporal", **self.options, **policy
        )
        self.temporal.build((None, None, steps))
        self.generator = Linear(width, name="generator", **policy)
        self.generator.build(inputs_shape)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if inputs.shape[1] is not None and inputs.shape[1] > self.width:
            raise ValueError(
                f"A sequence must have at most {self.width} steps in training, for which "
                f"{self.name!r} was built. Received: {inputs.shape[1]}. Make the model with the "
                "largest number as its `text_steps`, `audio_steps` or `vision_steps`."
            )
        along_batch = self.axis == "batch"
        x = ops.transpose(_reaching(inputs, self.width), (2, 0, 1) if along_batch else (0, 2, 1))
        x = self.temporal(x, training=training)
        x = ops.transpose(x, (1, 2, 0) if along_batch else (0, 2, 1))
        return self.generator(x[:, : ops.shape(inputs)[1]])

    def torch_weights(self, temporal: str, generator: str) -> Iterator[TorchWeight]:
        yield from self.temporal.torch_weights(temporal)
        yield from linear(generator, self.generator)


class Missing(NamedTuple):
    """The part of a modality that holes removed.

    Attributes:
        values: `(batch, steps, dim)`, what was there; anything outside the holes.
        mask: The same shape or with a last axis of 1: 1.0 for what was measured and removed, else
            0.0.
    """

    values: Any
    mask: Any


def missing_frames(kept: Any, removed: Any, mask: Any) -> Missing:
    """The holes of a sequence of features.

    A frame is missing where `removed` holds something that `kept` does not. So a frame of zeros
    does not count, which has nothing to reconstruct: the published code is told of its holes. NaN
    in `removed` was never measured and is no target.

    Args:
        kept: `(batch, steps, dim)`, the features with holes.
        removed: Same shape, the features in the holes and zeros elsewhere (`complement`).
        mask: `(batch, steps)`, 1 at true steps.
    """
    kept, removed = precise(ops.convert_to_tensor(kept)), precise(ops.convert_to_tensor(removed))
    measured = ops.logical_not(ops.isnan(removed))
    removed = ops.where(measured, removed, 0.0)
    gone = ops.logical_and(ops.any(removed != 0, axis=-1), ops.any(removed != kept, axis=-1))
    gone = ops.cast(gone, removed.dtype) * ops.cast(mask, removed.dtype)
    return Missing(removed, gone[..., None] * ops.cast(measured, removed.dtype))


def measured_only(missing: Missing, inputs: Any, modality: str) -> Missing:
    """Without what was never measured, which is no target.

    Args:
        missing: The holes of a modality, in which such values are 0 like others may be.
        inputs: Batch as the loss gets it, before `WithMissing` cut its holes: NaN is still NaN.
        modality: Name of the modality.
    """
    given = inputs.get(modality) if isinstance(inputs, Mapping) else None
    if given is None or tuple(given.shape) != tuple(missing.values.shape):
        return missing  # tokens
    measured = ops.logical_not(ops.isnan(ops.convert_to_tensor(given)))
    return missing._replace(mask=missing.mask * ops.cast(measured, missing.mask.dtype))


def complete_tokens(kept: Any, removed: Any) -> tuple[Any, Any]:
    """Tokens as they were before the holes, and where these are.

    Args:
        kept: `(batch, 3, steps)` int: ids with [UNK] in the holes, mask, segments.
        removed: Same shape, with the ids in the holes and 0, which is [PAD], elsewhere.

    Returns:
        Complete tokens like `kept`, and bool `(batch, steps)`.
    """
    kept, removed = ops.cast(kept, "int32"), ops.cast(removed, "int32")
    ids, true = removed[:, 0], kept[:, 1] != 0
    gone = ops.logical_and(ops.logical_and(ids != 0, ids != kept[:, 0]), true)
    complete = ops.where(gone, ids, kept[:, 0])
    return ops.stack([complete, kept[:, 1], kept[:, 2]], axis=1), gone


def reconstruction_loss(
    generated: Any, missing: Missing, kind: str = "combine", similarity_weight: float = 0.0
) -> Any:
    """Error of the reconstruction of what is missing, a mean over its entries.

    Args:
        generated: `(batch, steps, dim)`.
        missing: What should have come out.
        kind: One of `KINDS`.
        similarity_weight: Factor of the central moment discrepancy within `"combine"`.

    Returns:
        Scalar >= 0. Where nothing is missing its gradient is 0, and so is the value without a
        discrepancy.
    """
    generated = precise(generated)
    mask = ops.cast(missing.mask, generated.dtype) + ops.zeros_like(generated)
    # What is outside may be anything, infinite too: it must not come near the sums.
    x = ops.where(mask > 0, generated, 0.0)
    y = ops.where(mask > 0, ops.cast(missing.values, generated.dtype), 0.0)
    if kind == "mse":
        error = ops.sum(ops.square(x - y))
    elif kind == "cmd":
        error = central_moments(x, y)
    else:
        off = ops.abs(x - y)
        error = ops.sum(ops.where(off < 1.0, 0.5 * ops.square(off), off - 0.5))
        if kind == "combine" and similarity_weight:
            error = error + similarity_weight * central_moments(x, y)
    return error / (ops.sum(mask) + ENTRIES_EPSILON)


def central_moments(x: Any, y: Any) -> Any:
    """Distance of the frames' means and central moments, feature by feature.

    Unlike `keras_m3s.losses.central_moment_discrepancy` this has an epsilon under each root, which
    after the division by 1e-4 is a constant .03 where nothing is missing.

    Args:
        x: `(batch, steps, dim)`; all frames count, those outside the holes as zeros.
        y: Same shape.
    """
    axes = (0, 1)
    mean_x, mean_y = (ops.mean(z, axis=axes, keepdims=True) for z in (x, y))
    distance = _length(mean_x - mean_y)
    centred_x, centred_y = x - mean_x, y - mean_y
    power_x, power_y = centred_x, centred_y
    for _ in range(2, MOMENTS + 1):
        power_x, power_y = power_x * centred_x, power_y * centred_y
        distance = distance + _length(ops.mean(power_x, axis=axes) - ops.mean(power_y, axis=axes))
    return distance


def _length(x: Any) -> Any:
    return ops.sqrt(ops.sum(ops.square(x)) + ROOT_EPSILON)


def _reaching(x: Any, steps: int) -> Any:
    """`x` `(batch, fewer steps, dim)` with zeros behind it up to `steps` steps."""
    batch, own, dim = ops.shape(x)
    if isinstance(own, int):
        return ops.pad(x, [[0, 0], [0, steps - own], [0, 0]])
    return ops.concatenate([x, ops.zeros((batch, steps - own, dim), x.dtype)], axis=1)
