"""The recurrence over all steps, on JAX and TensorFlow: a loop whose derivative is written out.

Autodiff would add up the recurrent kernel's gradient step by step, while all steps' together are
one matrix product. The derivative of that derivative (second order meta-learning) differentiates
the plain loop twice.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_m3s.layers.recurrent.cells import backward_steps, forward_steps


@functools.cache
def _jax_recurrence(cell: Any) -> Callable[..., Any]:
    """`(x, weights, span) -> h`, all outputs, differentiable to any order in reverse mode."""
    import jax

    def loop(step: Any, states: Any, rows: Any, made: Any, span: Any, reverse: bool) -> Any:
        """The outputs of `step` on `rows[...][t]` for each t of `span`, zeros before and after it.

        The first output takes the place of the first rows, which by then have been read; the others
        fill `made`, zeros. Fewer arrays: XLA makes all of a program's zeros at its start and keeps
        them until they are filled.
        """
        start, stop = span
        put = jax.lax.dynamic_update_index_in_dim
        time = jax.numpy.arange(len(rows[0])).reshape(-1, *(1 for _ in rows[0].shape[1:]))

        def body(count: Any, carry: Any) -> Any:
            states, filled = carry
            t = start + stop - 1 - count if reverse else count
            states, new = step(states, tuple(row[t] for row in (filled[0], *rows[1:])))
            return states, tuple(put(m, n, t, 0) for m, n in zip(filled, new, strict=True))

        first = jax.numpy.where((time >= start) & (time < stop), rows[0], 0)
        return jax.lax.fori_loop(start, stop, body, (states, (first, *made)))[1]

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

    # `recurrence` gives `saved` too, and its own forward rule calls it again: so an outer
    # derivative never meets the loop itself, which has a dynamic end and hence no derivative.
    @jax.custom_vjp
    def recurrence(x: Any, weights: Any, span: Any) -> Any:
        return forward_steps(loop, cell, x, weights, span)

    def recurrence_forward(x: Any, weights: Any, span: Any) -> Any:
        saved = recurrence(x, weights, span)
        return saved, (x, weights, span, saved)

    def recurrence_backward(residuals: Any, tangents: Any) -> Any:
        return *backward(*residuals, tangents[1]), None

    recurrence.defvjp(recurrence_forward, recurrence_backward)
    return lambda x, weights, span: recurrence(x, weights, span)[1]


@functools.cache
def _tensorflow_recurrence(cell: Any) -> Callable[..., Any]:
    """As `_jax_recurrence`; arrays of rows are what a graph writes without copying the others."""
    import tensorflow as tf

    def loop(step: Any, states: Any, rows: Any, made: Any, span: Any, reverse: bool) -> Any:
        start, stop = span
        steps = tf.shape(rows[0])[0]

        def array(like: Any) -> Any:
            return tf.TensorArray(
                like.dtype, steps, element_shape=like.shape[1:], clear_after_read=False
            )

        time = tf.reshape(tf.range(steps), (-1, *(1 for _ in rows[0].shape[1:])))
        inside = (time >= start) & (time < stop)
        first = tf.where(inside, rows[0], tf.zeros((), rows[0].dtype))
        arrays = (array(first).unstack(first), *(array(m) for m in made))

        def body(count: Any, states: Any, arrays: Any) -> Any:
            t = start + stop - 1 - count if reverse else count
            states, new = step(states, (arrays[0].read(t), *(row[t] for row in rows[1:])))
            return (
                count + 1,
                states,
                tuple(array.write(t, n) for array, n in zip(arrays, new, strict=True)),
            )

        arrays = tf.while_loop(
            lambda count, *_: count < stop, body, (start, states, arrays), maximum_iterations=steps
        )[2]
        return tuple(array.stack() for array in arrays)

    # Apart from `loop`: what is read from an array and then written over would be kept once a step
    # for the derivative.
    def plain(x: Any, weights: Any) -> Any:
        steps, zeros = tf.shape(x)[0], tf.zeros_like(x[0, ..., : weights[0].shape[-2]])
        outputs = tf.TensorArray(x.dtype, steps, element_shape=zeros.shape)

        def body(t: Any, states: Any, outputs: Any) -> Any:
            states, saved = cell.step(states, x[t], weights)
            return t + 1, states, outputs.write(t, saved[1])

        start = (tf.constant(0), cell.initial(zeros), outputs)
        end = tf.while_loop(lambda t, *_: t < steps, body, start, maximum_iterations=steps)
        return end[2].stack()

    def recurrence(x: Any, weights: Any, span: Any) -> Any:
        span = tuple(tf.convert_to_tensor(end) for end in span)

        @tf.custom_gradient
        def outputs(x: Any, *weights: Any) -> Any:
            saved = forward_steps(loop, cell, x, weights, span)

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

                return backward_steps(loop, cell, weights, span, saved, dy), backward_backward

            return saved[1], lambda dy: backward(x, dy, *weights)

        return outputs(x, *weights)

    return recurrence


def recurrence_of(cell: Any) -> Callable[..., Any]:
    if keras.backend.backend() == "jax":
        return _jax_recurrence(cell)
    return _tensorflow_recurrence(cell)


def on_cpu() -> bool:
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "cpu"
    import tensorflow as tf

    return not tf.config.list_logical_devices("GPU")


def longest_of(lengths: Any) -> Any:
    """The batch's longest length, at least 1."""
    if keras.backend.backend() != "jax":
        return ops.maximum(ops.max(lengths), 1)
    import jax

    # Under `vmap` one end for all: a loop that ends at a different step for each batch would
    # copy all steps' results at every step.
    longest = jax.custom_batching.custom_vmap(lambda x: jax.numpy.maximum(x.max(), 1))
    longest.def_vmap(lambda size, batched, x: (longest(x), False))
    return longest(lengths)
