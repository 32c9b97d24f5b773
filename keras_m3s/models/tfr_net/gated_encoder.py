"""A sequence as one vector: a bidirectional GRU whose states a gate lets through.

    g_t = GRU(h)_t                                           both directions, several layers
    v_t = tanh(W [h_t, tanh(g_t) sigmoid(conv(g))_t])        the gate is one number a step
    out = max over t of v_t

Reference: class C_GATE of models/missingTask/TFR_NET/fusion.py, thuiar/TFR-Net 00f06a6.
"""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_m3s.layers.recurrent import GRU
from keras_m3s.layers.torch_defaults import Dropout, Linear
from keras_m3s.models.torch_import.weights import TorchWeight, conv, gru, linear

GATE_STEPS = 3
"""Steps that the gate's filter spans."""


class GatedEncoder(keras.layers.Layer):
    """Width of the vector is that of one direction of the GRU.

    Args:
        units: Width of one direction.
        layers: GRU layers, one on top of the other.
        dropout: Rate on the vector.
        mask_padding: Whether the maximum is over true steps only; as published, over all.

    Call arguments:
        inputs: `(batch, steps, dim)`.
        lengths: `(batch,)` int, true steps; behind them the GRU's states are 0. `None` for all. A
            length of 0, with which the published code fails, leaves no state of the GRU.

    Returns:
        `(batch, units)`.
    """

    def __init__(
        self, units: int, layers: int, dropout: float, mask_padding: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.units, self.mask_padding = units, mask_padding
        self.recurrent = [
            GRU(units, bidirectional=True, name=f"gru_{number}", **policy)
            for number in range(layers)
        ]
        self.project = Linear(units, "tanh", name="project", **policy)
        self.drop = Dropout(dropout, name="drop", **policy)

    def build(self, inputs_shape: Any, lengths_shape: Any = None) -> None:
        width, both = inputs_shape[-1], 2 * self.units
        for number, rnn in enumerate(self.recurrent):
            rnn.build((None, None, both if number else width))
        bound = (GATE_STEPS * both) ** -0.5
        self.gate = keras.layers.Conv1D(
            1,
            GATE_STEPS,
            padding="same",
            activation="sigmoid",
            data_format="channels_last",
            kernel_initializer=keras.initializers.RandomUniform(-bound, bound),
            bias_initializer=keras.initializers.RandomUniform(-bound, bound),
            name="gate",
            dtype=self.dtype_policy,
        )
        self.gate.build((None, None, both))
        self.project.build((None, None, width + both))

    def call(self, inputs: Any, lengths: Any = None, training: bool | None = None) -> Any:
        states = inputs
        for rnn in self.recurrent:
            states, _ = rnn(states, lengths)
        gated = ops.tanh(states) * self.gate(states)
        vectors = self.project(ops.concatenate([inputs, gated], axis=-1))
        if self.mask_padding and lengths is not None:
            # No entry is below -1. Of an empty sequence step 0 counts, where nothing is.
            true = ops.arange(ops.shape(inputs)[1]) < ops.maximum(lengths, 1)[:, None]
            vectors = ops.where(true[..., None], vectors, ops.cast(-1, vectors.dtype))
        return self.drop(ops.max(vectors, axis=1), training=training)

    def compute_output_shape(self, inputs_shape: Any, lengths_shape: Any = None) -> Any:
        return (inputs_shape[0], self.units)

    def torch_weights(self, prefix: str) -> Iterator[TorchWeight]:
        for number, rnn in enumerate(self.recurrent):
            yield from gru(f"{prefix}.gru.gru", rnn, layer=number)
        yield from conv(f"{prefix}.cnn", self.gate)
        yield from linear(f"{prefix}.fc", self.project)
