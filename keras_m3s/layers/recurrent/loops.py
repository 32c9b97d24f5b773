"""The recurrence over all steps on JAX and TensorFlow: a loop with a hand-written derivative.

Autodiff would accumulate the recurrent kernel's gradient step by step, where one matrix product
gives that of all steps. The second derivative (second order meta-learning) is left to autodiff, on
a plain loop.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
from keras import ops

from keras_m3s.layers.recurrent.cells import (
    Cell,
    Span,
    Step,
    Tensor,
    Tensors,
    backward_steps,
    forward_steps,
)

Recurrence: TypeAlias = Callable[[Tensor, Tensors, Span], Tensor]
"""`(x, weights, span) -> h`, the outputs of all steps; arguments as for `cells.forward_steps`."""


@functools.cache
def _jax_recurrence(cell: type[Cell]) -> Recurrence:
    """The recurrence on JAX, differentiable to any order in reverse mode."""
    import jax

    def loop(
        step: Step, states: Tensors, inputs: Tensors, buffers: Tensors, span: Span, reverse: bool
    ) -> Tensors:
        """Outputs of `step` at each step of `span`, zeros outside it.

        The first output overwrites the first input, which by then was read; the others are written
        to `buffers`, which hold zeros. The fewer the better: XLA allocates all zeros at the start
        of a program and keeps them until they are overwritten.
        """
        start, stop = span
        update = jax.lax.dynamic_update_index_in_dim
        time = jax.numpy.arange(len(inputs[0])).reshape(-1, *(1 for _ in inputs[0].shape[1:]))

        def body(count: Tensor, carry: tuple[Tensors, Tensors]) -> tuple[Tensors, Tensors]:
            states, filled = carry
            t = start + stop - 1 - count if reverse else count
            states, new = step(states, tuple(array[t] for array in (filled[0], *inputs[1:])))
            return states, tuple(update(a, n, t, 0) for a, n in zip(filled, new, strict=True))

        first = jax.numpy.where((time >= start) & (time < stop), inputs[0], 0)
        return jax.lax.fori_loop(start, stop, body, (states, (first, *buffers)))[1]

    def plain(x: Tensor, weights: Tensors) -> Tensor:
        def step(states: Tensors, inputs: Tensor) -> tuple[Tensors, Tensor]:
            states, saved = cell.step(states, inputs, weights)
            return states, saved[1]

        zeros = jax.numpy.zeros_like(x[0, ..., : weights[0].shape[-2]])
        return jax.lax.scan(step, cell.initial(zeros), x)[1]

    def plain_gradients(x: Tensor, weights: Tensors, dy: Tensor) -> tuple[Tensor, Tensors]:
        return jax.vjp(plain, x, weights)[1](dy)

    @jax.custom_vjp
    def backward(
        x: Tensor, weights: Tensors, span: Span, saved: Tensors, dy: Tensor
    ) -> tuple[Tensor, Tensors]:
        dx, *others = backward_steps(loop, cell, weights, span, saved, dy)
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

    # `recurrence` returns all of `saved`, and its forward rule calls it: so an outer derivative
    # never reaches the loop itself, whose number of steps is dynamic and which has no derivative.
    @jax.custom_vjp
    def recurrence(x: Tensor, weights: Tensors, span: Span) -> Tensors:
        return forward_steps(loop, cell, x, weights, span)

    def recurrence_forward(x: Tensor, weights: Tensors, span: Span) -> tuple[Tensors, Any]:
        saved = recurrence(x, weights, span)
        return saved, (x, weights, span, saved)

    def recurrence_backward(residuals: Any, tangents: Any) -> Any:
        return *backward(*residuals, tangents[1]), None

    recurrence.defvjp(recurrence_forward, recurrence_backward)
    return lambda x, weights, span: recurrence(x, weights, span)[1]


@functools.cache
def _tensorflow_recurrence(cell: type[Cell]) -> Recurrence:
    """The recurrence on TensorFlow, on tensor arrays: a graph writes these without copies."""
    import tensorflow as tf

    def loop(
        step: Step, states: Tensors, inputs: Tensors, buffers: Tensors, span: Span, reverse: bool
    ) -> Tensors:
        """As on JAX."""
        start, stop = span
        steps = tf.shape(inputs[0])[0]

        def array(like: Tensor) -> Any:
            return tf.TensorArray(
                like.dtype, steps, element_shape=like.shape[1:], clear_after_read=False
            )

        time = tf.reshape(tf.range(steps), (-1, *(1 for _ in inputs[0].shape[1:])))
        inside = (time >= start) & (time < stop)
        first = tf.where(inside, inputs[0], tf.zeros((), inputs[0].dtype))
        arrays = (array(first).unstack(first), *(array(buffer) for buffer in buffers))

        def body(count: Tensor, states: Tensors, arrays: Any) -> Any:
            t = start + stop - 1 - count if reverse else count
            states, new = step(states, (arrays[0].read(t), *(later[t] for later in inputs[1:])))
            return (
                count + 1,
                states,
                tuple(array.write(t, n) for array, n in zip(arrays, new, strict=True)),
            )

        arrays = tf.while_loop(
            lambda count, *_: count < stop, body, (start, states, arrays), maximum_iterations=steps
        )[2]
        return tuple(array.stack() for array in arrays)

    # Not by `loop`: what is read from an array and overwritten would be kept at every step for the
    # derivative.
    def plain(x: Tensor, weights: Tensors) -> Tensor:
        steps, zeros = tf.shape(x)[0], tf.zeros_like(x[0, ..., : weights[0].shape[-2]])
        outputs = tf.TensorArray(x.dtype, steps, element_shape=zeros.shape)

        def body(t: Tensor, states: Tensors, outputs: Any) -> Any:
            states, saved = cell.step(states, x[t], weights)
            return t + 1, states, outputs.write(t, saved[1])

        start = (tf.constant(0), cell.initial(zeros), outputs)
        end = tf.while_loop(lambda t, *_: t < steps, body, start, maximum_iterations=steps)
        return end[2].stack()

    def recurrence(x: Tensor, weights: Tensors, span: Span) -> Tensor:
        span = (tf.convert_to_tensor(span[0]), tf.convert_to_tensor(span[1]))

        @tf.custom_gradient
        def outputs(x: Tensor, *weights: Tensor) -> Any:
            saved = forward_steps(loop, cell, x, weights, span)

            @tf.custom_gradient
            def backward(x: Tensor, dy: Tensor, *weights: Tensor) -> Any:
                def backward_backward(*tangents: Tensor) -> Any:
                    with tf.GradientTape() as outer:
                        outer.watch((x, dy, weights))
                        with tf.GradientTape() as inner:
                            inner.watch((x, weights))
                            h = plain(x, weights)
                        first = inner.gradient(h, [x, *weights], output_gradients=dy)
                    return outer.gradient(first, [x, dy, *weights], output_gradients=tangents)

                return backward_steps(loop, cell, weights, span, saved, dy), backward_backward

            return saved[1], lambda dy: backward(x, dy, *weights)

        return outputs(x, *weights)

    return recurrence


def recurrence_of(cell: type[Cell]) -> Recurrence:
    """The recurrence of a cell on Keras' backend, JAX or TensorFlow."""
    if keras.backend.backend() == "jax":
        return _jax_recurrence(cell)
    return _tensorflow_recurrence(cell)


def on_cpu() -> bool:
    """Whether JAX or TensorFlow computes on the CPU."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "cpu"
    import tensorflow as tf

    return not tf.config.list_logical_devices("GPU")


def max_length(lengths: Tensor) -> Tensor:
    """The largest of a batch's lengths, at least 1."""
    if keras.backend.backend() != "jax":
        return ops.maximum(ops.max(lengths), 1)
    import jax

    # Under `vmap` the largest of all batches: a loop that ended at another step for each would
    # copy all steps' results at every step.
    largest = jax.custom_batching.custom_vmap(lambda x: jax.numpy.maximum(x.max(), 1))
    largest.def_vmap(lambda size, batched, x: (largest(x), False))
    return largest(lengths)
