"""One step of an LSTM and of a GRU, with its derivative, and all steps by a given loop.

Reference: Hochreiter & Schmidhuber, Long short-term memory (1997); Cho et al., Learning phrase
representations using RNN encoder-decoder (2014), in the "reset after" form of cuDNN.
"""

from collections.abc import Callable
from typing import Any

from keras import ops


def _previous(sequence: Any) -> Any:
    """`(steps, ...)`, moved one step later; zeros, the initial state, come first."""
    return ops.concatenate([ops.zeros_like(sequence[:1]), sequence[:-1]], axis=0)


def _weight_gradient(states: Any, derivative: Any) -> Any:
    """Gradient of the recurrent kernel, from all steps by one product."""
    return ops.einsum("t...bu,t...bv->...uv", _previous(states), derivative)


class LSTMCell:
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


class GRUCell:
    """One step of a GRU and its derivative; gate order z, r, h, as `LSTMCell`.

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


def forward_steps(loop: Callable[..., Any], cell: Any, x: Any, weights: Any, span: Any) -> Any:
    """All steps' `saved` from the projected inputs `x` `(steps, batch, gates * units)`.

    `span` is the range of steps outside which every sequence of the batch is padding. Two
    directions at once have a second axis before the batch's, and one before `weights`' own.
    """
    zeros = ops.zeros_like(x[..., : weights[0].shape[-2]])

    def step(states: Any, rows: Any) -> Any:
        return cell.step(states, rows[0], weights)

    return loop(step, cell.initial(zeros[0]), (x,), (zeros, zeros), span, False)


def backward_steps(
    loop: Callable[..., Any], cell: Any, weights: Any, span: Any, saved: Any, dy: Any
) -> Any:
    """Gradients of `x` and of each of `weights`, from the outputs' gradient `dy`."""
    factor, *others = cell.factors(saved)
    transposed = ops.swapaxes(weights[0], -1, -2)

    def step(states: Any, rows: Any) -> Any:
        return cell.back_step(states, rows, transposed)

    zeros = ops.zeros_like(dy)
    rows = (factor, dy, *others)
    dx, dh = loop(step, cell.initial(zeros[0]), rows, (zeros,), span, True)
    return cell.gradients(saved, others, dx, dh)
