"""One step of an LSTM and of a GRU with its derivative, and all steps by a given loop.

Reference: Hochreiter & Schmidhuber, Long short-term memory (1997); Cho et al., Learning phrase
representations using RNN encoder-decoder (2014), in the "reset after" form of cuDNN.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeAlias

from keras import ops

Tensor: TypeAlias = Any
Tensors: TypeAlias = tuple[Tensor, ...]

Span: TypeAlias = tuple[Any, Any]
"""First step and end of the range outside which every sequence of a batch is padding."""

Step: TypeAlias = Callable[[Tensors, Tensors], tuple[Tensors, Tensors]]
"""`(states, inputs of one step) -> (states, outputs of one step)`."""

Loop: TypeAlias = Callable[[Step, Tensors, Tensors, Tensors, Span, bool], Tensors]
"""`(step, initial states, inputs, buffers, span, reverse) -> outputs`, see `loops`."""


class Cell(Protocol):
    """A recurrent cell; all of its functions are pure.

    Attributes:
        sigmoid: For each gate, whether its activation is a sigmoid rather than tanh.
    """

    sigmoid: ClassVar[tuple[bool, ...]]

    @staticmethod
    def initial(zeros: Tensor) -> Tensors:
        """Initial states, from zeros `(..., batch, units)`."""

    @staticmethod
    def step(states: Tensors, x: Tensor, weights: Tensors) -> tuple[Tensors, Tensors]:
        """New states, and what the derivative needs of the step (`saved`; the second is h)."""

    @staticmethod
    def factors(saved: Tensors) -> Tensors:
        """Factors of the derivative that do not depend on it, for all steps at once.

        The first is for all gates.
        """

    @staticmethod
    def backward_step(
        states: Tensors, inputs: Tensors, transposed: Tensor
    ) -> tuple[Tensors, Tensors]:
        """Gradients of the states before a step, and of its gates' inputs and its output."""

    @staticmethod
    def gradients(saved: Tensors, factors: Tensors, dx: Tensor, dh: Tensor) -> Tensors:
        """Gradients of `x` and of each of `weights`, from those of all steps."""


def _previous(sequence: Tensor) -> Tensor:
    """`(steps, ...)` shifted one step later; zeros, the initial state, come first."""
    return ops.concatenate([ops.zeros_like(sequence[:1]), sequence[:-1]], axis=0)


def _weight_gradient(states: Tensor, derivative: Tensor) -> Tensor:
    """Gradient of the recurrent kernel, from all steps in one matrix product."""
    return ops.einsum("t...bu,t...bv->...uv", _previous(states), derivative)


class LSTMCell:
    """One step of an LSTM and its derivative; gate order i, f, g, o.

    sigmoid(x) = (tanh(x / 2) + 1) / 2: with the inputs of i, f, o halved beforehand, one tanh over
    a contiguous array serves all gates, which takes half the time of separate ones.

    `saved` is `(gates, h, c)`: tanh of all gates' inputs, the output, the cell state.
    """

    sigmoid: ClassVar[tuple[bool, ...]] = (True, True, False, True)

    @staticmethod
    def initial(zeros: Tensor) -> Tensors:
        return zeros, zeros

    @staticmethod
    def step(states: Tensors, x: Tensor, weights: Tensors) -> tuple[Tensors, Tensors]:
        h, c = states
        gates = ops.tanh(x + ops.matmul(h, weights[0]))
        i, f, g, o = ops.split(gates, 4, axis=-1)
        c = 0.5 * ((f + 1) * c + (i + 1) * g)
        h = 0.5 * (o + 1) * ops.tanh(c)
        return (h, c), (gates, h, c)

    @staticmethod
    def factors(saved: Tensors) -> Tensors:
        gates, _, c = saved
        i, f, g, o = ops.split(gates, 4, axis=-1)
        tanh_c = ops.tanh(c)
        inner = ops.concatenate([g, _previous(c), i + 1, tanh_c], axis=-1)
        from_output = 0.5 * (o + 1) * (1 - tanh_c * tanh_c)
        return 0.5 * inner * (1 - gates * gates), from_output, 0.5 * (f + 1)

    @staticmethod
    def backward_step(
        states: Tensors, inputs: Tensors, transposed: Tensor
    ) -> tuple[Tensors, Tensors]:
        dh, dc = states
        factor, dy, from_output, keep = inputs
        dh = dh + dy
        dc = dc + dh * from_output
        dx = ops.concatenate([dc, dc, dc, dh], axis=-1) * factor
        return (ops.matmul(dx, transposed), dc * keep), (dx, dh)

    @staticmethod
    def gradients(saved: Tensors, factors: Tensors, dx: Tensor, dh: Tensor) -> Tensors:
        return dx, _weight_gradient(saved[1], dx)


class GRUCell:
    """One step of a GRU and its derivative; gate order z, r, h, activations as in `LSTMCell`.

    `saved` is `(gates, h, candidate)`: tanh of all gates' inputs, the output, and the recurrent
    part of the candidate's input before the reset gate.
    """

    sigmoid: ClassVar[tuple[bool, ...]] = (True, True, False)

    @staticmethod
    def initial(zeros: Tensor) -> Tensors:
        return (zeros,)

    @staticmethod
    def step(states: Tensors, x: Tensor, weights: Tensors) -> tuple[Tensors, Tensors]:
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
    def factors(saved: Tensors) -> Tensors:
        gates, h, candidate = saved
        z, r, g = ops.split(gates, 3, axis=-1)
        to_g = 0.5 * (1 - z) * (1 - g * g)
        to_z = 0.5 * (_previous(h) - g) * (1 - z * z)
        to_r = 0.5 * to_g * candidate * (1 - r * r)
        to_gates = ops.concatenate([to_z, to_r, 0.5 * (r + 1) * to_g], axis=-1)
        return to_gates, 0.5 * (z + 1), to_g

    @staticmethod
    def backward_step(
        states: Tensors, inputs: Tensors, transposed: Tensor
    ) -> tuple[Tensors, Tensors]:
        (dh,) = states
        factor, dy, keep, _ = inputs
        dh = dh + dy
        dx = ops.concatenate([dh, dh, dh], axis=-1) * factor
        return (ops.matmul(dx, transposed) + dh * keep,), (dx, dh)

    @staticmethod
    def gradients(saved: Tensors, factors: Tensors, dx: Tensor, dh: Tensor) -> Tensors:
        units = dh.shape[-1]
        from_x = ops.concatenate([dx[..., : 2 * units], dh * factors[1]], axis=-1)
        bias = ops.sum(dx[..., 2 * units :], axis=(0, -2))[..., None, :]
        return from_x, _weight_gradient(saved[1], dx), bias


def forward_steps(loop: Loop, cell: type[Cell], x: Tensor, weights: Tensors, span: Span) -> Tensors:
    """`saved` of all steps.

    Args:
        loop: Runs the steps.
        cell: What a step computes.
        x: Projected inputs `(steps, batch, gates * units)`. Two directions at once have one more
            axis before the batch's, and one before the axes of `weights`.
        weights: The recurrent weights.
        span: Steps to compute.
    """
    zeros = ops.zeros_like(x[..., : weights[0].shape[-2]])

    def step(states: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        return cell.step(states, inputs[0], weights)

    return loop(step, cell.initial(zeros[0]), (x,), (zeros, zeros), span, False)


def backward_steps(
    loop: Loop, cell: type[Cell], weights: Tensors, span: Span, saved: Tensors, dy: Tensor
) -> Tensors:
    """Gradients of `x` and of each of `weights`, given `dy`, those of the outputs."""
    factor, *others = cell.factors(saved)
    transposed = ops.swapaxes(weights[0], -1, -2)

    def step(states: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        return cell.backward_step(states, inputs, transposed)

    zeros = ops.zeros_like(dy)
    inputs = (factor, dy, *others)
    dx, dh = loop(step, cell.initial(zeros[0]), inputs, (zeros,), span, True)
    return cell.gradients(saved, tuple(others), dx, dh)
