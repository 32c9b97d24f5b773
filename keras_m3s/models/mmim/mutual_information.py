"""The two bounds of mutual information that MMIM maximises, as layers, and the entropy between.

MMILB, between two modalities x and y, q(y|x) a Gaussian whose mean and log variance are learned:

    I(x, y) >= lld + H(y)
    lld = mean over the batch of sum_d -(mean(x) - y)^2 / (2 exp(logvar(x)))
    H   = (log det S+ + log det S-) / 4,  S of the rows tanh(W y) with a positive, negative label

CPC, between the fusion and a modality x, predicted from it as p, both scaled to unit length:

    nce = mean_i [log sum_j exp(x_i . p_j) - x_i . p_i]

Reference: Han, Chen, Poria, "Improving multimodal fusion with hierarchical mutual information
maximization for multimodal sentiment analysis", EMNLP 2021, sections 3.4 and 3.5; src/modules/
encoders.py of declare-lab/Multimodal-Infomax, cd0774c.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_m3s.layers.torch_defaults import Linear
from keras_m3s.losses import safe_norm
from keras_m3s.models.torch_import.weights import TorchWeight, linear

DEPENDENT = 1e-6
"""A feature is a linear function of others, to float32, where this share of it is left or less."""

CONSTANT = 1e-12
"""Variances below are rounding: float32 holds numbers near 1 to 6e-8."""


@keras.saving.register_keras_serializable(package="keras_m3s")
class XavierNormal(keras.initializers.Initializer):
    """Normal, not truncated, of variance 2 / (rows + columns): PyTorch's `xavier_normal_`.

    `keras.initializers.GlorotNormal` has the same variance, but cuts the tails off.
    """

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return keras.initializers.RandomNormal(stddev=(2 / sum(shape)) ** 0.5)(shape, dtype)


def dense(units: int, activation: Any, layer: keras.layers.Layer, name: str) -> Linear:
    """A part of `layer` initialised as MMIM: `XavierNormal`, and the bias as PyTorch's."""
    return Linear(
        units,
        activation,
        kernel_initializer=XavierNormal(),
        dtype=layer.dtype_policy,
        name=name,
    )


class Moments(NamedTuple):
    """Rows of two classes, summed up: they can be pooled with others without the rows themselves.

    Attributes:
        count: `(..., 2)`, rows with a positive and with a negative label.
        mean: `(..., 2, dim)`, 0 for a class without rows.
        scatter: `(..., 2, dim, dim)`, sum of the outer products of rows less their mean.
    """

    count: Any
    mean: Any
    scatter: Any


def class_moments(rows: Any, labels: Any) -> Moments:
    """Moments of the rows with a label above and below 0; a label of 0 is in neither.

    Args:
        rows: `(batch, dim)`.
        labels: `(batch,)` or `(batch, 1)`.
    """
    labels = ops.reshape(labels, (-1,))
    member = ops.cast(ops.stack([labels > 0, labels < 0]), rows.dtype)
    count = ops.sum(member, axis=1)
    mean = ops.matmul(member, rows) / ops.maximum(count, 1.0)[:, None]
    centred = (rows[None] - mean[:, None]) * member[:, :, None]
    return Moments(count, mean, ops.einsum("cbi,cbj->cij", centred, centred))


def pool(parts: Moments) -> Moments:
    """Moments of all rows together, from those of parts stacked along the first axis."""
    count = ops.sum(parts.count, axis=0)
    weight = parts.count / ops.maximum(count, 1.0)
    mean = ops.sum(weight[..., None] * parts.mean, axis=0)
    offset = (parts.mean - mean) * ops.sqrt(parts.count)[..., None]
    between = ops.einsum("pci,pcj->cij", offset, offset)
    return Moments(count, mean, ops.sum(parts.scatter, axis=0) + between)


def entropy(moments: Moments) -> Any:
    """H: a quarter of the log determinants of both classes' biased covariances, summed.

    A class whose covariance has no log determinant in float32 counts 0 and has no gradient: one
    of too few rows (`dim` or fewer, or none) or of features that are constant or dependent. The
    published code has -inf or NaN there.

    Reference: MMIM, section 3.4, without the constant 2 pi e, as in the published code.
    """
    dim = moments.mean.shape[-1]
    covariance = moments.scatter / ops.maximum(moments.count, 1.0)[:, None, None]
    fixed = ops.stop_gradient(covariance)
    variance = ops.diagonal(fixed, axis1=-2, axis2=-1)
    regular = ops.all(_pivots(fixed) > DEPENDENT * variance + CONSTANT, axis=-1)
    regular = ops.logical_and(regular, moments.count > dim)
    identity = ops.eye(dim, dtype=covariance.dtype)
    covariance = ops.where(regular[:, None, None], covariance, identity)
    return 0.25 * ops.sum(ops.log(_pivots(covariance)))


def _pivots(matrix: Any) -> Any:
    """`(..., dim)`, the variance of each feature that those before leave unexplained.

    Their product is the determinant. Not `ops.slogdet` or `ops.cholesky`: on TensorFlow and
    PyTorch these, or their gradients, raise an error where a matrix is singular.
    """
    pivots = []
    for _ in range(matrix.shape[-1]):
        pivots.append(matrix[..., 0, 0])
        column = matrix[..., 1:, 0]
        share = column / ops.maximum(pivots[-1], 1e-20)[..., None]
        matrix = matrix[..., 1:, 1:] - column[..., :, None] * share[..., None, :]
    return ops.stack(pivots, axis=-1)


@keras.saving.register_keras_serializable(package="keras_m3s")
class MMILB(keras.layers.Layer):
    """Lower bound of the mutual information of x and y, with a memory of y's rows.

    Args:
        activation: Of the hidden layers.
        memory_batches: Batches that the memory holds, >= 1.
        gradients: Whether its variables count as trainable, see `MMIM.mi_gradients`.

    Call arguments:
        x: `(batch, x_dim)`.
        y: `(batch, y_dim)`, `y_dim` >= 4.

    Returns:
        Dict of float32 tensors: `lld`, a scalar, and `rows` `(batch, y_dim // 4)`, whose
        entropy `remembered_entropy` estimates.
    """

    def __init__(
        self,
        activation: Any = "relu",
        memory_batches: int = 1,
        gradients: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        self.memory_batches = memory_batches
        self.gradients = gradients

    def build(self, x_shape: Any, y_shape: Any) -> None:
        x_dim, y_dim = x_shape[-1], y_shape[-1]
        if y_dim < 4:
            raise ValueError(
                "The width of an encoded modality must be >= 4: a quarter of it are the features "
                f"whose entropy is estimated. Received: {y_dim}. Raise `audio_size`, `vision_size`."
            )

        def mlp(name: str) -> tuple[Linear, Linear]:
            first = dense(y_dim, self.activation, self, f"{name}_0")
            second = dense(y_dim, None, self, f"{name}_1")
            first.build((None, x_dim))
            second.build((None, y_dim))
            return first, second

        self.mean_0, self.mean_1 = mlp("mean")
        self.logvar_0, self.logvar_1 = mlp("logvar")
        self.projection = dense(y_dim // 4, "tanh", self, "projection")
        self.projection.build((None, y_dim))
        dim, past = y_dim // 4, (self.memory_batches, 2)
        self.memory = Moments(
            self._memory("memory_count", past),
            self._memory("memory_mean", (*past, dim)),
            self._memory("memory_scatter", (*past, dim, dim)),
        )

    def _memory(self, name: str, shape: tuple[int, ...]) -> keras.Variable:
        def zeros(shape: Any, dtype: Any) -> Any:
            # Variables get their values, when `fit` builds a model, only after `build`, and on
            # TensorFlow what is not trainable at that moment never has a gradient. They get them
            # in the order of `build`, so the others, made before, have theirs by now.
            self.count_gradients(self.gradients)
            return ops.zeros(shape, dtype)

        # Covariances are beyond half precision: no autocast.
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=zeros,
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )

    @property
    def likelihood_variables(self) -> list[keras.Variable]:
        """What `lld` depends on."""
        parts = (self.mean_0, self.mean_1, self.logvar_0, self.logvar_1)
        return [v for part in parts for v in part.variables]

    def count_gradients(self, value: bool) -> None:
        """Sets whether the variables count as trainable."""
        self.gradients = value
        if hasattr(self, "projection"):
            for variable in (*self.likelihood_variables, *self.projection.variables):
                variable.trainable = value

    def call(self, x: Any, y: Any) -> dict[str, Any]:
        mean = ops.cast(self.mean_1(self.mean_0(x)), "float32")
        logvar = ops.cast(self.logvar_1(self.logvar_0(x)), "float32")
        rows = ops.cast(self.projection(y), "float32")
        square = ops.square(mean - ops.cast(y, "float32"))
        lld = -0.5 * ops.mean(ops.sum(square * ops.exp(-logvar), axis=-1))
        return {"lld": lld, "rows": rows}

    def remembered_entropy(self, rows: Any, labels: Any, slot: Any) -> Any:
        """H of these and the remembered rows; these then take `slot` in the memory.

        Args:
            rows: `(batch, dim)`, as `call` returns them.
            labels: `(batch,)` or `(batch, 1)`.
            slot: Scalar int, in [0, `memory_batches`).
        """
        past = [ops.convert_to_tensor(memory) for memory in self.memory]
        new = class_moments(rows, labels)
        together = [ops.concatenate([p, n[None]]) for p, n in zip(past, new, strict=True)]
        here = ops.equal(ops.arange(self.memory_batches, dtype="int32"), slot)
        for memory, old, value in zip(self.memory, past, new, strict=True):
            chosen = ops.reshape(here, (-1,) + (1,) * len(value.shape))
            memory.assign(ops.where(chosen, ops.stop_gradient(value)[None], old))
        return entropy(pool(Moments(*together)))

    def torch_weights(self, prefix: str) -> Iterator[TorchWeight]:
        yield from linear(f"{prefix}.mlp_mu.0", self.mean_0)
        yield from linear(f"{prefix}.mlp_mu.2", self.mean_1)
        yield from linear(f"{prefix}.mlp_logvar.0", self.logvar_0)
        yield from linear(f"{prefix}.mlp_logvar.2", self.logvar_1)
        yield from linear(f"{prefix}.entropy_prj.0", self.projection)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "activation": keras.activations.serialize(self.activation),
            "memory_batches": self.memory_batches,
            "gradients": self.gradients,
        }


@keras.saving.register_keras_serializable(package="keras_m3s")
class CPC(keras.layers.Layer):
    """Contrastive predictive coding: how well the fusion tells which modality vector is its own.

    Args:
        layers: Linear layers of the prediction, >= 1; the first of several has an activation.
        activation: That activation.

    Call arguments:
        x: `(batch, x_dim)`, what is predicted.
        fusion: `(batch, dim)`.

    Returns:
        Scalar `nce`, in float32.
    """

    def __init__(self, layers: int = 1, activation: Any = "tanh", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(layers, int) or layers < 1:
            raise ValueError(f"`layers` must be an int >= 1. Received: layers={layers!r}.")
        self.layers, self.activation = layers, keras.activations.get(activation)

    def build(self, x_shape: Any, fusion_shape: Any) -> None:
        self.net = []
        width = fusion_shape[-1]
        for number in range(self.layers):
            inner = number == 0 and self.layers > 1
            part = dense(x_shape[-1], self.activation if inner else None, self, f"net_{number}")
            part.build((None, width))
            self.net.append(part)
            width = x_shape[-1]

    def call(self, x: Any, fusion: Any) -> Any:
        for part in self.net:
            fusion = part(fusion)
        x, prediction = _unit_rows(x), _unit_rows(fusion)
        scores = ops.matmul(x, ops.transpose(prediction))
        own = ops.sum(x * prediction, axis=-1)
        return ops.mean(ops.logsumexp(scores, axis=-1) - own)

    def torch_weights(self, prefix: str) -> Iterator[TorchWeight]:
        if self.layers == 1:
            yield from linear(f"{prefix}.net", self.net[0])
            return
        for number, part in enumerate(self.net):
            # In PyTorch's list the activation is number 1.
            yield from linear(f"{prefix}.net.{number + (number > 0)}", part)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "layers": self.layers,
            "activation": keras.activations.serialize(self.activation),
        }


def _unit_rows(x: Any) -> Any:
    """Rows scaled to unit length; a row of zeros stays, where the published code divides by 0."""
    x = ops.cast(x, "float32")
    length = safe_norm(x, axis=-1, keepdims=True)
    return x / ops.where(length > 0, length, ops.ones_like(length))
