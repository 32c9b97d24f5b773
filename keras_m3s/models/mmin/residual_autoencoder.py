"""The cascade of residual autoencoders that imagines what a missing modality would have said."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from keras_m3s.layers.torch_defaults import leaky_relu
from keras_m3s.models.torch_import.weights import TorchWeight, linear


def kaiming() -> Any:
    """Normal with variance 2 / fan_in, not truncated: the published code's default."""
    return keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")


def copied(initializer: Any) -> Any:
    """A copy that draws values of its own.

    An initializer without a seed draws one when it is made and repeats itself after that, so that
    layers which share it would start from the same values.
    """
    # Not by `serialize`, which imports TensorFlow on every backend.
    return initializer.clone() if isinstance(initializer, keras.Initializer) else initializer


def initialized_dense(units: int, initializer: Any, **kwargs: Any) -> keras.layers.Dense:
    """A `Dense` with zero bias and a copy of `initializer` for its kernel."""
    return keras.layers.Dense(units, kernel_initializer=copied(initializer), **kwargs)


class ResidualAutoencoder(keras.layers.Layer):
    """Blocks of encoder and decoder, each fed with the sum of all before it.

        x_0 = x,  z_i = encoder_i(x_i),  x_{i+1} = x_i + decoder_i(z_i)
        output = transition(x_n),  latent = [z_0, ..., z_{n-1}]

    Encoders have leaky ReLUs between their layers, decoders ReLUs, neither one after its last.

    Args:
        layers: Widths of an encoder's layers; the decoder has them reversed and ends in the
            input's own width.
        n_blocks: Number of blocks, >= 1.
        initializer: Keras initializer of every kernel; default `kaiming()`.

    Returns:
        `(output, latent)`: `(batch, dim)` as the input, and `(batch, n_blocks * layers[-1])`.

    Raises:
        ValueError: If `layers` is empty or `n_blocks` is below 1.

    Reference: MMIN (Zhao et al., ACL 2021), section 3.3; AIM3-RUC/MMIN 69a45fe,
    models/networks/autoencoder.py.
    """

    def __init__(
        self, layers: Sequence[int], n_blocks: int, initializer: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not layers or n_blocks < 1:
            raise ValueError(
                "`layers` must name at least one width and `n_blocks` must be at least 1. "
                f"Received: layers={tuple(layers)}, n_blocks={n_blocks}."
            )
        self.widths = tuple(layers)
        self.n_blocks = n_blocks
        self.initializer = initializer or kaiming()

    def _dense(self, units: int, name: str) -> Any:
        return initialized_dense(units, self.initializer, dtype=self.dtype_policy, name=name)

    def build(self, input_shape: Any) -> None:
        dim = input_shape[-1]
        downward, upward = self.widths, (*self.widths[-2::-1], dim)
        self.encoders: list[list[Any]] = []
        self.decoders: list[list[Any]] = []
        for block in range(self.n_blocks):
            for kind, chains, inward, widths in (
                ("encoder", self.encoders, dim, downward),
                ("decoder", self.decoders, self.widths[-1], upward),
            ):
                names = [f"{kind}_{block}_{i}" for i in range(len(widths))]
                chains.append(_build(map(self._dense, widths, names), inward))
        names = ["transition_0", "transition_1"]
        self.transition = _build(map(self._dense, (dim, dim), names), dim)

    def call(self, inputs: Any) -> tuple[Any, Any]:
        total, latents = inputs, []
        for encoder, decoder in zip(self.encoders, self.decoders, strict=True):
            latents.append(_chain(encoder, total, leaky_relu))
            total = total + _chain(decoder, latents[-1], ops.relu)
        return _chain(self.transition, total, ops.relu), ops.concatenate(latents, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, Any]:
        return input_shape, (*input_shape[:-1], self.n_blocks * self.widths[-1])

    def torch_weights(self, prefix: str) -> Iterator[TorchWeight]:
        """One entry per weight; an activation between two layers takes an index of its own."""
        chains = {"transition": self.transition}
        for block in range(self.n_blocks):
            chains[f"encoder_{block}"] = self.encoders[block]
            chains[f"decoder_{block}"] = self.decoders[block]
        for name, chain in chains.items():
            for i, layer in enumerate(chain):
                yield from linear(f"{prefix}.{name}.{2 * i}", layer)


def _build(layers: Any, dim: int) -> list[Any]:
    """The layers as a list, each built on the width of the one before."""
    chain = []
    for layer in layers:
        layer.build((None, dim))
        dim = layer.units
        chain.append(layer)
    return chain


def _chain(layers: Sequence[Any], x: Any, activation: Any) -> Any:
    for layer in layers[:-1]:
        x = activation(layer(x))
    return layers[-1](x)
