"""Base class of the LSTM and GRU layers: arguments, true lengths, directions, choice of kernel."""

from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import keras
import numpy as np
from keras import ops

# Private, read in Keras 3.15: `keras.SymbolicScope` is public, whether one is open is not.
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

from keras_m3s.layers.recurrent.cells import Cell, Span, Tensor
from keras_m3s.layers.recurrent.loops import max_length, on_cpu, recurrence_of

Shape: TypeAlias = Sequence[int | None]

CLOSED_GATE = -1e4
"""Input of a gate past a sequence's end: float16 can hold it, and its tanh is -1."""

# has_biases, layers, dropout, train (without it cuDNN has no gradient), bidirectional, batch_first
TORCH_ARGUMENTS = (True, 1, 0.0, True, False, True)


class DirectionWeights(keras.layers.Layer):
    """The weights of one direction."""

    recurrent_bias: keras.Variable | None = None

    def __init__(
        self,
        units: int,
        gates: int,
        bias_shape: tuple[int, ...],
        two_biases: bool,
        initializers: tuple[
            keras.initializers.Initializer,
            keras.initializers.Initializer,
            keras.initializers.Initializer,
        ],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units, self.gates = units, gates
        self.bias_shape, self.two_biases = bias_shape, two_biases
        self.initializers = initializers

    def build(self, inputs_shape: Shape) -> None:
        def weight(
            name: str, shape: Shape, initializer: keras.initializers.Initializer
        ) -> keras.Variable:
            # An unseeded initializer returns the same numbers at each call; its clone others.
            is_object = isinstance(initializer, keras.initializers.Initializer)
            if is_object and initializer.get_config().get("seed", 0) is None:
                initializer = initializer.clone()
            return self.add_weight(name=name, shape=shape, initializer=initializer)

        kernel, recurrent, bias = self.initializers
        width = self.gates * self.units
        self.kernel = weight("kernel", (inputs_shape[-1], width), kernel)
        self.recurrent_kernel = weight("recurrent_kernel", (self.units, width), recurrent)
        self.bias = weight("bias", self.bias_shape, bias)
        if self.two_biases:
            self.recurrent_bias = weight("recurrent_bias", self.bias_shape, bias)


class Recurrent(keras.layers.Layer):
    """The layer without its cell: a subclass defines `_cell`, its biases and PyTorch's kernel."""

    _cell: ClassVar[type[Cell]]

    def __init__(
        self,
        units: int,
        bidirectional: bool = False,
        initializer: Any = None,
        kernel_initializer: Any = None,
        recurrent_initializer: Any = None,
        bias_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(units, int) or units < 1:
            raise ValueError(f"`units` must be a positive integer. Received: units={units!r}.")
        self.units = units
        self.bidirectional = bidirectional
        self.initializer = keras.initializers.get(initializer)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.forward_cell = self._weights("forward_cell")
        self.backward_cell = self._weights("backward_cell") if bidirectional else None

    def _bias_shape(self) -> tuple[tuple[int, ...], bool]:
        """Shape of a bias, and whether there is a second one."""
        raise NotImplementedError

    def _split_bias(self, weights: DirectionWeights) -> tuple[Tensor, list[Tensor]]:
        """Bias of the projected inputs, and biases that the recurrence adds."""
        raise NotImplementedError

    def _torch_kernel(self, x: Tensor, weights: DirectionWeights) -> Tensor:
        """Outputs of all steps `(batch, steps, units)` by PyTorch's kernel."""
        raise NotImplementedError

    def _weights(self, name: str) -> DirectionWeights:
        bound = self.units**-0.5
        default = self.initializer or keras.initializers.RandomUniform(-bound, bound)
        initializers = (
            self.kernel_initializer or default,
            self.recurrent_initializer or default,
            self.bias_initializer or default,
        )
        gates, (shape, two) = len(self._cell.sigmoid), self._bias_shape()
        return DirectionWeights(
            self.units, gates, shape, two, initializers, dtype=self.dtype_policy, name=name
        )

    @property
    def _directions(self) -> list[DirectionWeights]:
        return [cell for cell in (self.forward_cell, self.backward_cell) if cell is not None]

    def build(self, inputs_shape: Shape, lengths_shape: Shape | None = None) -> None:
        _check_shapes(inputs_shape, lengths_shape)
        for weights in self._directions:
            weights.build(inputs_shape)

    def compute_output_shape(
        self, inputs_shape: Shape, lengths_shape: Shape | None = None
    ) -> tuple[Shape, Shape]:
        _check_shapes(inputs_shape, lengths_shape)
        width = self.units * len(self._directions)
        return (*inputs_shape[:2], width), (inputs_shape[0], width)

    def call(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if lengths is not None:
            lengths = ops.convert_to_tensor(lengths, dtype="int32")
            _check_shapes(inputs.shape, lengths.shape)
            lengths = ops.clip(lengths, 0, ops.shape(inputs)[1])
        if in_symbolic_scope():
            # Keras builds a model before its first step and needs only shapes. PyTorch would infer
            # them step by step in Python; TensorFlow would trace loops that never run.
            shape = (*ops.shape(inputs)[:2], self.units)
            sequences = [ops.zeros(shape, self.compute_dtype) for _ in self._directions]
        elif keras.backend.backend() == "torch":
            sequences = self._by_torch(inputs, lengths)
        else:
            sequences = self._by_loop(inputs, lengths)
        finals = [_last_step(sequences[0], lengths), *(seq[:, 0] for seq in sequences[1:])]
        return _concatenate(sequences), _concatenate(finals)

    def _by_loop(self, inputs: Tensor, lengths: Tensor | None) -> list[Tensor]:
        """Outputs of each direction, on JAX and TensorFlow."""
        steps = ops.shape(inputs)[1]
        if not on_cpu():
            # Accelerators are faster with both directions in one step, of a static number.
            return self._loop(inputs, lengths, self._directions, (0, steps))
        longest = steps if lengths is None else max_length(lengths)
        spans = [(0, longest), (steps - longest, steps)]
        return [
            self._loop(inputs, lengths, [weights], span)[0]
            for weights, span in zip(self._directions, spans, strict=False)
        ]

    def _loop(
        self,
        inputs: Tensor,
        lengths: Tensor | None,
        directions: list[DirectionWeights],
        span: Span,
    ) -> list[Tensor]:
        """Outputs `(batch, steps, units)` of each of `directions`, computed in one loop."""
        sigmoid, dtype = np.repeat(self._cell.sigmoid, self.units), self.compute_dtype
        scale = ops.convert_to_tensor(np.where(sigmoid, 0.5, 1.0), dtype=dtype)
        padding = ops.convert_to_tensor(np.where(sigmoid, CLOSED_GATE, 0.0), dtype=dtype)

        def in_order(x: Tensor, weights: DirectionWeights) -> Tensor:
            return x if weights is self.forward_cell else ops.flip(x, axis=0)

        arguments = []
        for weights in directions:
            bias, recurrent_biases = self._split_bias(weights)
            x = (ops.matmul(inputs, weights.kernel) + bias) * scale
            if lengths is not None:
                inside = ops.arange(ops.shape(inputs)[1], dtype="int32") < lengths[:, None]
                x = ops.where(inside[..., None], x, padding)
            x = in_order(ops.swapaxes(x, 0, 1), weights)
            arguments.append((x, weights.recurrent_kernel * scale, *recurrent_biases))
        recurrence = recurrence_of(self._cell)
        if len(directions) == 1:
            x, *others = arguments[0]
            outputs = [recurrence(x, tuple(others), span)]
        else:
            xs, *pairs = zip(*arguments, strict=True)
            x, others = ops.stack(xs, axis=1), [ops.stack(pair) for pair in pairs]
            outputs = ops.unstack(recurrence(x, tuple(others), span), axis=1)
        return [
            ops.swapaxes(in_order(h, weights), 0, 1)
            for h, weights in zip(outputs, directions, strict=True)
        ]

    def _by_torch(self, inputs: Tensor, lengths: Tensor | None) -> list[Tensor]:
        """Outputs of each direction, on PyTorch."""
        import torch

        batch, steps = inputs.shape[:2]
        if lengths is None:
            outputs = [self._torch_kernel(inputs, self.forward_cell)]
            if self.backward_cell is not None:
                outputs.append(self._torch_kernel(inputs.flip(1), self.backward_cell).flip(1))
            return outputs
        # On a GPU, reading the largest length would wait for all queued work. An exported program
        # must not keep that of the batch it was traced with.
        traced = torch.jit.is_tracing() or torch.compiler.is_compiling()
        if traced or inputs.device.type != "cpu":
            longest = steps
        else:
            longest = max(1, int(lengths.max()))
        x = inputs[:, :longest]
        time = torch.arange(longest, device=x.device)
        outputs = [self._torch_kernel(x, self.forward_cell)]
        if self.backward_cell is not None:
            # Reverses the true steps and, separately, the padding; it is its own inverse.
            order = (lengths[:, None] - 1 - time) % longest
            order = (order + longest * torch.arange(batch, device=x.device)[:, None]).reshape(-1)

            def reverse(x: Tensor) -> Tensor:
                return x.reshape(batch * longest, -1)[order].reshape(batch, longest, -1)

            outputs.append(reverse(self._torch_kernel(reverse(x), self.backward_cell)))
        inside = (time < lengths[:, None])[..., None]
        pad = (0, 0, 0, steps - longest)
        return [torch.nn.functional.pad(torch.where(inside, h, 0), pad) for h in outputs]

    def get_config(self) -> dict[str, Any]:
        names = ("initializer", "kernel_initializer", "recurrent_initializer", "bias_initializer")
        initializers = {
            name: keras.initializers.serialize(getattr(self, name))
            for name in names
            if getattr(self, name) is not None
        }
        config = {"units": self.units, "bidirectional": self.bidirectional, **initializers}
        return {**super().get_config(), **config}


def _concatenate(parts: list[Tensor]) -> Tensor:
    """Concatenates directions on the last axis, without a copy if there is one."""
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)


def _last_step(sequence: Tensor, lengths: Tensor | None) -> Tensor:
    """Output `(batch, units)` at the last true step, zeros if there is none."""
    if lengths is None:
        return sequence[:, -1]
    index = ops.maximum(lengths - 1, 0)[:, None, None]
    return ops.squeeze(ops.take_along_axis(sequence, index, axis=1), axis=1)


def _check_shapes(inputs: Shape, lengths: Shape | None) -> None:
    if len(inputs) != 3 or inputs[-1] is None:
        raise ValueError(
            "`inputs` must be `(batch, steps, features)` with a known number of features. "
            f"Received: shape={tuple(inputs)}."
        )
    if lengths is not None and (
        len(lengths) != 1 or (None not in (inputs[0], lengths[0]) and inputs[0] != lengths[0])
    ):
        raise ValueError(
            "`lengths` must be `(batch,)`, the number of true steps of each of `inputs`. "
            f"Received: lengths of shape {tuple(lengths)} for inputs of shape {tuple(inputs)}."
        )
