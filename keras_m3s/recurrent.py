"""LSTM and GRU over sequences of true lengths, one way or both ways, fast on every backend.

The inputs of all steps are projected by one matrix product, so that the recurrence holds only
what must be sequential. A sequence's state is zero past its length: the backward direction starts
at the last true step, and more padding changes no number.

JAX and TensorFlow run the recurrence as a loop whose derivative is written out here, because
autodiff would add up the recurrent kernel's gradient step by step, while all steps' together are
one matrix product. On a CPU the loop ends at the batch's longest length. The derivative of that
derivative (second order meta-learning) differentiates the plain loop twice. PyTorch has kernels
(oneDNN, cuDNN) that are faster than any loop made of its own operations.

Reference: Hochreiter & Schmidhuber, Long short-term memory (1997); Cho et al., Learning phrase
representations using RNN encoder-decoder (2014), in the "reset after" form of cuDNN.
"""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

# What a gate's input is set to where there is no step: float16 holds it, and tanh of it is -1.
_SHUT = -1e4

# has_biases, layers, dropout, train (without it cuDNN has no gradient), bidirectional, batch_first
_TORCH_ARGUMENTS = (True, 1, 0.0, True, False, True)


def _previous(sequence: Any) -> Any:
    """`(steps, ...)`, moved one step later; zeros, the initial state, come first."""
    return ops.concatenate([ops.zeros_like(sequence[:1]), sequence[:-1]], axis=0)


def _weight_gradient(states: Any, derivative: Any) -> Any:
    """Gradient of the recurrent kernel, from all steps by one product."""
    return ops.einsum("t...bu,t...bv->...uv", _previous(states), derivative)


class _LSTMCell:
    """One step of an LSTM and its derivative; gate order i, f, g, o.

    sigmoid(x) = (tanh(x / 2) + 1) / 2, so with the inputs of i, f, o halved beforehand one tanh
    over a contiguous array serves all gates, which takes half the time of separate ones.

    `saved` is `(gates, h, c)`: tanh of all gates' inputs, the output, the cell state.
    """

    sigmoid = (True, True, False, True)

    @staticmethod
    def initial(zeros: Any) -> tuple[Any, ...]:
        return zeros, zeros

    @staticmethod
    def step(states: Any, x: Any, weights: Any) -> tuple[Any, Any]:
        h, c = states
        gates = ops.tanh(x + ops.matmul(h, weights[0]))
        i, f, g, o = ops.split(gates, 4, axis=-1)
        c = 0.5 * ((f + 1) * c + (i + 1) * g)
        h = 0.5 * (o + 1) * ops.tanh(c)
        return (h, c), (gates, h, c)

    @staticmethod
    def factors(saved: Any) -> tuple[Any, ...]:
        """What the derivative multiplies by, of all steps at once; the first for all gates."""
        gates, _, c = saved
        i, f, g, o = ops.split(gates, 4, axis=-1)
        squashed = ops.tanh(c)
        inner = ops.concatenate([g, _previous(c), i + 1, squashed], axis=-1)
        from_output = 0.5 * (o + 1) * (1 - squashed * squashed)
        return 0.5 * inner * (1 - gates * gates), from_output, 0.5 * (f + 1)

    @staticmethod
    def back_step(states: Any, rows: Any, transposed: Any) -> tuple[Any, Any]:
        dh, dc = states
        factor, dy, from_output, keep = rows
        dh = dh + dy
        dc = dc + dh * from_output
        dx = ops.concatenate([dc, dc, dc, dh], axis=-1) * factor
        return (ops.matmul(dx, transposed), dc * keep), (dx, dh)

    @staticmethod
    def gradients(saved: Any, factors: Any, dx: Any, dh: Any) -> tuple[Any, ...]:
        return dx, _weight_gradient(saved[1], dx)


class _GRUCell:
    """One step of a GRU and its derivative; gate order z, r, h, as `_LSTMCell`.

    `saved` is `(gates, h, candidate)`: tanh of all gates' inputs, the output, and the recurrent
    part of the candidate's input before the reset gate.
    """

    sigmoid = (True, True, False)

    @staticmethod
    def initial(zeros: Any) -> tuple[Any, ...]:
        return (zeros,)

    @staticmethod
    def step(states: Any, x: Any, weights: Any) -> tuple[Any, Any]:
        (h,) = states
        kernel, bias = weights
        units = h.shape[-1]
        recurrent = ops.matmul(h, kernel)
        gates = ops.tanh(x[..., : 2 * units] + recurrent[..., : 2 * units])
        z, r = ops.split(gates, 2, axis=-1)
        candidate = recurrent[..., 2 * units :] + bias
        g = ops.tanh(x[..., 2 * units :] + 0.5 * (r + 1) * candidate)
        h = 0.5 * ((z + 1) * h + (1 - z) * g)
        return (h,), (ops.concatenate([gates, g], axis=-1), h, candidate)

    @staticmethod
    def factors(saved: Any) -> tuple[Any, ...]:
        gates, h, candidate = saved
        z, r, g = ops.split(gates, 3, axis=-1)
        to_g = 0.5 * (1 - z) * (1 - g * g)
        to_z = 0.5 * (_previous(h) - g) * (1 - z * z)
        to_r = 0.5 * to_g * candidate * (1 - r * r)
        wide = ops.concatenate([to_z, to_r, 0.5 * (r + 1) * to_g], axis=-1)
        return wide, 0.5 * (z + 1), to_g

    @staticmethod
    def back_step(states: Any, rows: Any, transposed: Any) -> tuple[Any, Any]:
        (dh,) = states
        factor, dy, keep, _ = rows
        dh = dh + dy
        dx = ops.concatenate([dh, dh, dh], axis=-1) * factor
        return (ops.matmul(dx, transposed) + dh * keep,), (dx, dh)

    @staticmethod
    def gradients(saved: Any, factors: Any, dx: Any, dh: Any) -> tuple[Any, ...]:
        units = dh.shape[-1]
        from_x = ops.concatenate([dx[..., : 2 * units], dh * factors[1]], axis=-1)
        bias = ops.sum(dx[..., 2 * units :], axis=(0, -2))[..., None, :]
        return from_x, _weight_gradient(saved[1], dx), bias


def _forward(loop: Callable[..., Any], cell: Any, x: Any, weights: Any, span: Any) -> Any:
    """All steps' `saved` from the projected inputs `x` `(steps, batch, gates * units)`.

    `span` is the range of steps outside which every sequence of the batch is padding. Two
    directions at once have a second axis before the batch's, and one before `weights`' own.
    """
    units = weights[0].shape[-2]
    zeros = ops.zeros_like(x[..., :units])

    def step(states: Any, rows: Any) -> Any:
        return cell.step(states, rows[0], weights)

    return loop(step, cell.initial(zeros[0]), (x, zeros, zeros), (), span, False)


def _backward(
    loop: Callable[..., Any], cell: Any, weights: Any, span: Any, saved: Any, dy: Any
) -> Any:
    """Gradients of `x` and of each of `weights`, from the outputs' gradient `dy`."""
    time = ops.reshape(ops.arange(ops.shape(dy)[0]), (-1,) + (1,) * (len(dy.shape) - 1))
    inside = (time >= span[0]) & (time < span[1])
    dy, factor, *others = (
        ops.where(inside, value, ops.zeros_like(value)) for value in (dy, *cell.factors(saved))
    )
    transposed = ops.swapaxes(weights[0], -1, -2)

    def step(states: Any, rows: Any) -> Any:
        return cell.back_step(states, rows, transposed)

    start = cell.initial(ops.zeros_like(dy[0]))
    dx, dh = loop(step, start, (factor, dy), tuple(others), span, True)
    return cell.gradients(saved, others, dx, dh)


@functools.cache
def _jax_recurrence(cell: Any) -> Callable[..., Any]:
    """`(x, weights, span) -> h`, all outputs, differentiable to any order in reverse mode."""
    import jax

    def loop(step: Any, states: Any, rows: Any, constants: Any, span: Any, reverse: bool) -> Any:
        """Replaces `rows[...][t]` by the outputs of `step`, in place, for each t of `span`."""
        start, stop = span

        def body(count: Any, carry: Any) -> Any:
            states, rows = carry
            t = start + stop - 1 - count if reverse else count
            states, new = step(states, tuple(row[t] for row in rows + constants))
            put = jax.lax.dynamic_update_index_in_dim
            return states, tuple(put(row, n, t, 0) for row, n in zip(rows, new, strict=True))

        return jax.lax.fori_loop(start, stop, body, (states, rows))[1]

    def plain(x: Any, weights: Any) -> Any:
        def step(states: Any, row: Any) -> Any:
            states, saved = cell.step(states, row, weights)
            return states, saved[1]

        zeros = jax.numpy.zeros_like(x[0, ..., : weights[0].shape[-2]])
        return jax.lax.scan(step, cell.initial(zeros), x)[1]

    def plain_gradients(x: Any, weights: Any, dy: Any) -> Any:
        return jax.vjp(plain, x, weights)[1](dy)

    @jax.custom_vjp
    def backward(x: Any, weights: Any, span: Any, saved: Any, dy: Any) -> Any:
        dx, *others = _backward(loop, cell, weights, span, saved, dy)
        return dx, tuple(others)

    def backward_backward(residuals: Any, tangents: Any) -> Any:
        x, weights, dy = residuals
        dx, dweights, ddy = jax.vjp(plain_gradients, x, weights, dy)[1](tangents)
        return dx, dweights, None, None, ddy

    backward.defvjp(
        lambda x, weights, span, saved, dy: (
            backward(x, weights, span, saved, dy),
            (x, weights, dy),
        ),
        backward_backward,
    )

    # `recurrence` gives `saved` too, and its own forward rule calls it again: so an outer
    # derivative never meets the loop itself, which has a dynamic end and hence no derivative.
    @jax.custom_vjp
    def recurrence(x: Any, weights: Any, span: Any) -> Any:
        return _forward(loop, cell, x, weights, span)

    def recurrence_forward(x: Any, weights: Any, span: Any) -> Any:
        saved = recurrence(x, weights, span)
        return saved, (x, weights, span, saved)

    def recurrence_backward(residuals: Any, tangents: Any) -> Any:
        return *backward(*residuals, tangents[1]), None

    recurrence.defvjp(recurrence_forward, recurrence_backward)
    return lambda x, weights, span: recurrence(x, weights, span)[1]


@functools.cache
def _tensorflow_recurrence(cell: Any) -> Callable[..., Any]:
    """As `_jax_recurrence`."""
    import tensorflow as tf

    def loop(step: Any, states: Any, rows: Any, constants: Any, span: Any, reverse: bool) -> Any:
        start, stop = span
        steps = tf.shape(rows[0])[0]
        arrays = tuple(
            tf.TensorArray(row.dtype, steps, element_shape=row.shape[1:]) for row in rows
        )

        def body(count: Any, states: Any, arrays: Any) -> Any:
            t = start + stop - 1 - count if reverse else count
            states, new = step(states, tuple(row[t] for row in rows + constants))
            return (
                count + 1,
                states,
                tuple(array.write(t, n) for array, n in zip(arrays, new, strict=True)),
            )

        arrays = tf.while_loop(
            lambda count, *_: count < stop, body, (start, states, arrays), maximum_iterations=steps
        )[2]
        return tuple(array.stack() for array in arrays)

    def plain(x: Any, weights: Any) -> Any:
        return _forward(loop, cell, x, weights, (tf.constant(0), tf.shape(x)[0]))[1]

    def recurrence(x: Any, weights: Any, span: Any) -> Any:
        span = tuple(tf.convert_to_tensor(end) for end in span)

        @tf.custom_gradient
        def outputs(x: Any, *weights: Any) -> Any:
            saved = _forward(loop, cell, x, weights, span)

            @tf.custom_gradient
            def backward(x: Any, dy: Any, *weights: Any) -> Any:
                def backward_backward(*tangents: Any) -> Any:
                    with tf.GradientTape() as outer:
                        outer.watch((x, dy, weights))
                        with tf.GradientTape() as inner:
                            inner.watch((x, weights))
                            h = plain(x, weights)
                        again = inner.gradient(h, [x, *weights], output_gradients=dy)
                    return outer.gradient(again, [x, dy, *weights], output_gradients=tangents)

                return _backward(loop, cell, weights, span, saved, dy), backward_backward

            return saved[1], lambda dy: backward(x, dy, *weights)

        return outputs(x, *weights)

    return recurrence


def _recurrence(cell: Any) -> Callable[..., Any]:
    if keras.backend.backend() == "jax":
        return _jax_recurrence(cell)
    return _tensorflow_recurrence(cell)


def _on_cpu() -> bool:
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "cpu"
    import tensorflow as tf

    return not tf.config.list_logical_devices("GPU")


def _longest(lengths: Any) -> Any:
    """The batch's longest length, at least 1."""
    if keras.backend.backend() != "jax":
        return ops.maximum(ops.max(lengths), 1)
    import jax

    # Under `vmap` one end for all: a loop that ends at a different step for each batch would
    # copy all steps' results at every step.
    longest = jax.custom_batching.custom_vmap(lambda x: jax.numpy.maximum(x.max(), 1))
    longest.def_vmap(lambda size, batched, x: (longest(x), False))
    return longest(lengths)


def _last(sequence: Any, lengths: Any) -> Any:
    """The output `(batch, units)` at the last true step; zeros where there is none."""
    if lengths is None:
        return sequence[:, -1]
    index = ops.maximum(lengths - 1, 0)[:, None, None]
    return ops.squeeze(ops.take_along_axis(sequence, index, axis=1), axis=1)


class _Weights(keras.layers.Layer):
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


class _Recurrent(keras.layers.Layer):
    """What `LSTM` and `GRU` share: arguments, lengths, directions, the choice of kernel."""

    _cell: ClassVar[Any]

    def __init__(
        self,
        units: int,
        bidirectional: bool,
        initializer: Any,
        kernel_initializer: Any,
        recurrent_initializer: Any,
        bias_initializer: Any,
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

    def _split_bias(self, weights: _Weights) -> tuple[Any, list[Any]]:
        """What to add to the projected inputs, and what the recurrence itself has to add."""
        raise NotImplementedError

    def _torch_kernel(self, x: Any, weights: _Weights) -> Any:
        """All steps' outputs `(batch, steps, units)` by PyTorch's own kernel."""
        raise NotImplementedError

    def _weights(self, name: str) -> _Weights:
        bound = self.units**-0.5
        default = self.initializer or keras.initializers.RandomUniform(-bound, bound)
        initializers = (
            self.kernel_initializer or default,
            self.recurrent_initializer or default,
            self.bias_initializer or default,
        )
        gates, (shape, two) = len(self._cell.sigmoid), self._bias_shape()
        return _Weights(
            self.units, gates, shape, two, initializers, dtype=self.dtype_policy, name=name
        )

    @property
    def _directions(self) -> list[_Weights]:
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
        if keras.backend.backend() == "torch":
            sequences = self._by_torch(inputs, lengths)
        else:
            sequences = self._by_loop(inputs, lengths)
        finals = [_last(sequences[0], lengths), *(sequence[:, 0] for sequence in sequences[1:])]
        return ops.concatenate(sequences, axis=-1), ops.concatenate(finals, axis=-1)

    def _by_loop(self, inputs: Any, lengths: Any) -> list[Any]:
        """Each direction's outputs, on JAX and TensorFlow."""
        steps = ops.shape(inputs)[1]
        if not _on_cpu():
            # An accelerator wants few large steps, and to know how many without asking.
            return self._loop(inputs, lengths, self._directions, (0, steps))
        longest = steps if lengths is None else _longest(lengths)
        spans = [(0, longest), (steps - longest, steps)]
        return [
            self._loop(inputs, lengths, [weights], span)[0]
            for weights, span in zip(self._directions, spans, strict=False)
        ]

    def _loop(self, inputs: Any, lengths: Any, directions: list[_Weights], span: Any) -> list[Any]:
        """Outputs `(batch, steps, units)` of each of `directions`, all in one loop."""
        sigmoid, dtype = np.repeat(self._cell.sigmoid, self.units), self.compute_dtype
        scale = ops.convert_to_tensor(np.where(sigmoid, 0.5, 1.0), dtype=dtype)
        padding = ops.convert_to_tensor(np.where(sigmoid, _SHUT, 0.0), dtype=dtype)

        def turn(x: Any, weights: _Weights) -> Any:
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
        recurrence = _recurrence(self._cell)
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
        longest = steps if inputs.device.type != "cpu" else max(1, int(lengths.max()))
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


@keras.saving.register_keras_serializable(package="keras_m3s")
class LSTM(_Recurrent):
    """Long short-term memory over sequences of true lengths.

    Weights lie in `forward_cell` and `backward_cell`, each with `kernel` `(features, 4 * units)`,
    `recurrent_kernel` `(units, 4 * units)`, `bias` and `recurrent_bias` `(4 * units,)`; gate order
    i, f, g, o, that of PyTorch and Keras. With `recurrent_bias=False` they are those of
    `keras.layers.LSTM`.

    Args:
        units: Width of one direction's output.
        bidirectional: Adds a second LSTM that reads from each sequence's last true step to its
            first.
        recurrent_bias: Keeps PyTorch's second bias. It adds nothing to what the layer can
            compute, but an optimizer moves two biases where it would move one.
        initializer: Of all weights; by default uniform in +-1/sqrt(units), as PyTorch's.
        kernel_initializer: Of `kernel`, in place of `initializer`.
        recurrent_initializer: Of `recurrent_kernel`, as a whole, in place of `initializer`.
        bias_initializer: Of the biases, in place of `initializer`.

    Call arguments:
        inputs: Float tensor `(batch, steps, features)`.
        lengths: Int tensor `(batch,)`, true steps of each sequence, or None where all are true.

    Returns:
        The outputs of all steps `(batch, steps, units * directions)`, zero past each length, and
        `(batch, units * directions)`: the forward output at the last true step, beside it the
        backward output at the first. Both are zeros for a sequence of length 0.

    Raises:
        ValueError: On `inputs` of another rank, or `lengths` that do not match them.

    Reference: Hochreiter & Schmidhuber, Long short-term memory (1997).
    """

    _cell = _LSTMCell

    def __init__(
        self,
        units: int,
        bidirectional: bool = False,
        recurrent_bias: bool = True,
        initializer: Any = None,
        kernel_initializer: Any = None,
        recurrent_initializer: Any = None,
        bias_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        self.recurrent_bias = recurrent_bias
        super().__init__(
            units,
            bidirectional,
            initializer,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            **kwargs,
        )

    def _bias_shape(self) -> tuple[tuple[int, ...], bool]:
        return (4 * self.units,), self.recurrent_bias

    def _split_bias(self, weights: _Weights) -> tuple[Any, list[Any]]:
        if weights.recurrent_bias is None:
            return weights.bias, []
        return ops.add(weights.bias, weights.recurrent_bias), []

    def _torch_kernel(self, x: Any, weights: _Weights) -> Any:
        import torch

        zeros = x.new_zeros((1, x.shape[0], self.units))
        bias = ops.convert_to_tensor(weights.bias)
        second = weights.recurrent_bias
        arrays = [
            ops.convert_to_tensor(weights.kernel).T,
            ops.convert_to_tensor(weights.recurrent_kernel).T,
            bias,
            torch.zeros_like(bias) if second is None else ops.convert_to_tensor(second),
        ]
        return torch._VF.lstm(x, (zeros, zeros), arrays, *_TORCH_ARGUMENTS)[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "recurrent_bias": self.recurrent_bias}


@keras.saving.register_keras_serializable(package="keras_m3s")
class GRU(_Recurrent):
    """Gated recurrent unit over sequences of true lengths; as `LSTM`.

    Its weights are those of `keras.layers.GRU` with `reset_after=True`, the form of PyTorch and
    cuDNN: `kernel` `(features, 3 * units)`, `recurrent_kernel` `(units, 3 * units)`, `bias`
    `(2, 3 * units)`, row 0 for the inputs and row 1 for the recurrence; gate order z, r, h.

    Args:
        units: Width of one direction's output.
        bidirectional: Adds a second GRU that reads from each sequence's last true step to its
            first.
        initializer: Of all weights; by default uniform in +-1/sqrt(units), as PyTorch's.
        kernel_initializer: Of `kernel`, in place of `initializer`.
        recurrent_initializer: Of `recurrent_kernel`, as a whole, in place of `initializer`.
        bias_initializer: Of `bias`, in place of `initializer`.

    Reference: Cho et al., Learning phrase representations using RNN encoder-decoder (2014).
    """

    _cell = _GRUCell

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
        super().__init__(
            units,
            bidirectional,
            initializer,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            **kwargs,
        )

    def _bias_shape(self) -> tuple[tuple[int, ...], bool]:
        return (2, 3 * self.units), False

    def _split_bias(self, weights: _Weights) -> tuple[Any, list[Any]]:
        bias = ops.convert_to_tensor(weights.bias)
        # The reset gate multiplies the candidate's recurrent bias, so that one stays inside.
        outer = ops.concatenate([bias[1, : 2 * self.units], ops.zeros_like(bias[1, -self.units :])])
        return bias[0] + outer, [bias[1:, -self.units :]]

    def _torch_kernel(self, x: Any, weights: _Weights) -> Any:
        import torch

        def reset_first(array: Any) -> Any:  # PyTorch's gate order is r, z, n
            z, r, h = torch.split(array, self.units)
            return torch.cat([r, z, h])

        bias = ops.convert_to_tensor(weights.bias)
        arrays = [
            ops.convert_to_tensor(weights.kernel).T,
            ops.convert_to_tensor(weights.recurrent_kernel).T,
            *bias,
        ]
        zeros = x.new_zeros((1, x.shape[0], self.units))
        arrays = [reset_first(array) for array in arrays]
        return torch._VF.gru(x, zeros, arrays, *_TORCH_ARGUMENTS)[0]
