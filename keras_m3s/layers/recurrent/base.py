"""What an LSTM and a GRU layer share: arguments, true lengths, directions, the choice of kernel."""

from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops
from keras.src.backend.common.symbolic_scope import in_symbolic_scope  # has no public name

from keras_m3s.layers.recurrent.loops import longest_of, on_cpu, recurrence_of

# What a gate's input is set to where there is no step: float16 holds it, and tanh of it is -1.
SHUT = -1e4

# has_biases, layers, dropout, train (without it cuDNN has no gradient), bidirectional, batch_first
TORCH_ARGUMENTS = (True, 1, 0.0, True, False, True)


class Weights(keras.layers.Layer):
    """The weights of one direction."""

    recurrent_bias: Any = None

    def __init__(
        self,
        units: int,
        gates: int,
        bias_shape: tuple[int, ...],
        two_biases: bool,
        initializers: tuple[Any, Any, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units, self.gates = units, gates
        self.bias_shape, self.two_biases = bias_shape, two_biases
        self.initializers = initializers

    def build(self, inputs_shape: Any) -> None:
        def weight(name: str, shape: tuple[int, ...], initializer: Any) -> Any:
            # Without a seed an initializer draws the same numbers at each call, its clone others.
            made = isinstance(initializer, keras.initializers.Initializer)
            if made and initializer.get_config().get("seed", 0) is None:
                initializer = initializer.clone()
            return self.add_weight(name=name, shape=shape, initializer=initializer)

        kernel, recurrent, bias = self.initializers
        wide = self.gates * self.units
        self.kernel = weight("kernel", (inputs_shape[-1], wide), kernel)
        self.recurrent_kernel = weight("recurrent_kernel", (self.units, wide), recurrent)
        self.bias = weight("bias", self.bias_shape, bias)
        if self.two_biases:
            self.recurrent_bias = weight("recurrent_bias", self.bias_shape, bias)


class Recurrent(keras.layers.Layer):
    """The layer without its cell; a subclass gives `_cell`, its biases and PyTorch's kernel."""

    _cell: ClassVar[Any]

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
        """Shape of a bias, and whether there are two of them."""
        raise NotImplementedError

    def _split_bias(self, weights: Weights) -> tuple[Any, list[Any]]:
        """What to add to the projected inputs, and what the recurrence itself has to add."""
        raise NotImplementedError

    def _torch_kernel(self, x: Any, weights: Weights) -> Any:
        """All steps' outputs `(batch, steps, units)` by PyTorch's own kernel."""
        raise NotImplementedError

    def _weights(self, name: str) -> Weights:
        bound = self.units**-0.5
        default = self.initializer or keras.initializers.RandomUniform(-bound, bound)
        initializers = (
            self.kernel_initializer or default,
            self.recurrent_initializer or default,
            self.bias_initializer or default,
        )
        gates, (shape, two) = len(self._cell.sigmoid), self._bias_shape()
        return Weights(
            self.units, gates, shape, two, initializers, dtype=self.dtype_policy, name=name
        )

    @property
    def _directions(self) -> list[Weights]:
        return [cell for cell in (self.forward_cell, self.backward_cell) if cell is not None]

    def build(self, inputs_shape: Any, lengths_shape: Any = None) -> None:
        _check_shapes(inputs_shape, lengths_shape)
        for weights in self._directions:
            weights.build(inputs_shape)

    def compute_output_shape(self, inputs_shape: Any, lengths_shape: Any = None) -> Any:
        _check_shapes(inputs_shape, lengths_shape)
        wide = self.units * len(self._directions)
        return (*inputs_shape[:2], wide), (inputs_shape[0], wide)

    def call(self, inputs: Any, lengths: Any = None) -> tuple[Any, Any]:
        if lengths is not None:
            lengths = ops.convert_to_tensor(lengths, dtype="int32")
            _check_shapes(inputs.shape, lengths.shape)
            lengths = ops.clip(lengths, 0, ops.shape(inputs)[1])
        if in_symbolic_scope():
            # Keras builds a model before its first step and wants shapes alone. PyTorch finds them
            # step by step, in Python; TensorFlow would trace loops that nobody runs.
            shape = (*ops.shape(inputs)[:2], self.units)
            sequences = [ops.zeros(shape, self.compute_dtype) for _ in self._directions]
        elif keras.backend.backend() == "torch":
            sequences = self._by_torch(inputs, lengths)
        else:
            sequences = self._by_loop(inputs, lengths)
        finals = [_last(sequences[0], lengths), *(sequence[:, 0] for sequence in sequences[1:])]
        return _joined(sequences), _joined(finals)

    def _by_loop(self, inputs: Any, lengths: Any) -> list[Any]:
        """Each direction's outputs, on JAX and TensorFlow."""
        steps = ops.shape(inputs)[1]
        if not on_cpu():
            # An accelerator wants few large steps, and to know how many without asking.
            return self._loop(inputs, lengths, self._directions, (0, steps))
        longest = steps if lengths is None else longest_of(lengths)
        spans = [(0, longest), (steps - longest, steps)]
        return [
            self._loop(inputs, lengths, [weights], span)[0]
            for weights, span in zip(self._directions, spans, strict=False)
        ]

    def _loop(self, inputs: Any, lengths: Any, directions: list[Weights], span: Any) -> list[Any]:
        """Outputs `(batch, steps, units)` of each of `directions`, all in one loop."""
        sigmoid, dtype = np.repeat(self._cell.sigmoid, self.units), self.compute_dtype
        scale = ops.convert_to_tensor(np.where(sigmoid, 0.5, 1.0), dtype=dtype)
        padding = ops.convert_to_tensor(np.where(sigmoid, SHUT, 0.0), dtype=dtype)

        def turn(x: Any, weights: Weights) -> Any:
            return x if weights is self.forward_cell else ops.flip(x, axis=0)

        arguments = []
        for weights in directions:
            bias, inner = self._split_bias(weights)
            x = (ops.matmul(inputs, weights.kernel) + bias) * scale
            if lengths is not None:
                inside = ops.arange(ops.shape(inputs)[1], dtype="int32") < lengths[:, None]
                x = ops.where(inside[..., None], x, padding)
            x = turn(ops.swapaxes(x, 0, 1), weights)
            arguments.append((x, weights.recurrent_kernel * scale, *inner))
        recurrence = recurrence_of(self._cell)
        if len(directions) == 1:
            x, *others = arguments[0]
            outputs = [recurrence(x, tuple(others), span)]
        else:
            xs, *pairs = zip(*arguments, strict=True)
            x, others = ops.stack(xs, axis=1), [ops.stack(pair) for pair in pairs]
            outputs = ops.unstack(recurrence(x, tuple(others), span), axis=1)
        return [
            ops.swapaxes(turn(h, weights), 0, 1)
            for h, weights in zip(outputs, directions, strict=True)
        ]

    def _by_torch(self, inputs: Any, lengths: Any) -> list[Any]:
        """Each direction's outputs, on PyTorch."""
        import torch

        batch, steps = inputs.shape[:2]
        if lengths is None:
            outputs = [self._torch_kernel(inputs, self.forward_cell)]
            if self.backward_cell is not None:
                outputs.append(self._torch_kernel(inputs.flip(1), self.backward_cell).flip(1))
            return outputs
        # On a GPU to ask for the longest length would wait for all that is queued there.
        # An exported program must not keep the longest length of the batch it was traced with.
        traced = torch.jit.is_tracing() or torch.compiler.is_compiling()
        if traced or inputs.device.type != "cpu":
            longest = steps
        else:
            longest = max(1, int(lengths.max()))
        x = inputs[:, :longest]
        time = torch.arange(longest, device=x.device)
        outputs = [self._torch_kernel(x, self.forward_cell)]
        if self.backward_cell is not None:
            # Reverses the true steps, and the padding behind them: twice is the identity.
            order = (lengths[:, None] - 1 - time) % longest
            order = (order + longest * torch.arange(batch, device=x.device)[:, None]).reshape(-1)

            def turn(x: Any) -> Any:
                return x.reshape(batch * longest, -1)[order].reshape(batch, longest, -1)

            outputs.append(turn(self._torch_kernel(turn(x), self.backward_cell)))
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


def _joined(parts: list[Any]) -> Any:
    """Both directions side by side; of one, what it is and no copy."""
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)


def _last(sequence: Any, lengths: Any) -> Any:
    """The output `(batch, units)` at the last true step; zeros where there is none."""
    if lengths is None:
        return sequence[:, -1]
    index = ops.maximum(lengths - 1, 0)[:, None, None]
    return ops.squeeze(ops.take_along_axis(sequence, index, axis=1), axis=1)


def _check_shapes(inputs: Any, lengths: Any) -> None:
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
