"""The meta step on TensorFlow: the state is read from the variables and written back at the end."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_m3s.meta import functional
from keras_m3s.meta.functional import State


def gradient(fn: Callable[[Any], Any], values: list[Any], again: bool = False) -> tuple[Any, Any]:
    """Gradients of `fn(values) -> (scalar, aux)` and `aux`; an outer tape sees them `again`."""
    del again
    with tf.GradientTape() as tape:
        tape.watch(values)
        loss, aux = fn(values)
    gradients = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # An embedding's gradient comes as slices, which a step of gradient descent cannot be taken in.
    return [tf.convert_to_tensor(g) for g in gradients], aux


def repeat(
    step: Callable[..., Any], start: tuple[Any, Any], times: int, again: bool = False
) -> tuple[Any, Any]:
    """`times` applications of `step`; compiled once on a single device, unless an outer tape sees
    them `again`, for XLA has no derivative of a loop with a transposition in it.
    """
    if times < 2 or again or _replicas() > 1:  # replicas cannot meet inside a loop
        once = _remade(step) if again and times > 1 and _replicas() == 1 else step
        for _ in range(times):
            start = once(*start)
        return start
    return tuple(
        tf.while_loop(
            lambda *_: True,
            lambda *carry: tuple(step(*carry)),
            start,
            maximum_iterations=times,
        )
    )


def _remade(step: Callable[..., Any]) -> Callable[..., Any]:
    """`step`, which keeps only what goes in and computes the rest again for its derivative.

    Not `tf.recompute_grad`: within it the tape of the inner gradient records nothing.
    """

    def once(*start: Any) -> Any:
        @tf.custom_gradient
        def flat(*values: Any) -> Any:
            def derivative(*upstream: Any) -> Any:
                with tf.control_dependencies(upstream):  # not before it is needed
                    again = [tf.identity(value) for value in values]
                with tf.GradientTape() as tape:
                    tape.watch([value for value in again if value.dtype.is_floating])
                    end = tf.nest.flatten(step(*tf.nest.pack_sequence_as(start, again)))
                return tape.gradient(end, again, output_gradients=upstream)

            return tf.nest.flatten(step(*tf.nest.pack_sequence_as(start, values))), derivative

        return tf.nest.pack_sequence_as(start, flat(*tf.nest.flatten(start)))

    return once


def _replicas() -> int:
    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def sum_over_replicas(gradients: list[Any]) -> list[Any]:
    """Under a distribution strategy each replica has the gradient of its share of the loss."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return gradients
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)


def every_second(rows: Any, first: Any) -> Any:
    """Rows `first`, `first` + 2, ...; a slice with a stride takes ten times as long on a CPU."""
    return tf.gather(rows, tf.range(first, tf.shape(rows)[0], 2))


def rows_of_this_replica(sample: Callable[[Any], Any], batch_size: Any) -> Any:
    """Replicas share the seed state: each takes its own rows of one draw for all of them.

    A batch is dealt out in one piece each, so a row has the draw that it has on one device.
    """
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return sample(batch_size)
    rows = sample(batch_size * replica.num_replicas_in_sync)
    first = replica.replica_id_in_sync_group * batch_size
    return rows[first : first + batch_size]


class Objective(functional.Objective):
    """Builds the model before its first step is traced.

    Keras leaves that to the step. But no variable may be made in a stateless scope, and a program
    that makes variables is traced twice.
    """

    def _maybe_symbolic_build(self: Any, iterator: Any = None, data_batch: Any = None) -> None:
        if self._distribute_strategy is not None:
            super()._maybe_symbolic_build(iterator, data_batch)  # type: ignore[misc]  # a mixin's super is Keras'
            return
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = keras.tree.map_structure(
                lambda a: None if isinstance(a, tf.experimental.Optional) else a, next(batches)
            )
        self._symbolic_build(data_batch=data_batch)


class MetaStep:
    """`train_step` of `MetaModel`."""

    def train_step(self: Any, data: Any) -> Any:
        trainable = [tf.convert_to_tensor(v.value) for v in self.trainable_variables]
        state = State(
            [tf.convert_to_tensor(v.value) for v in self.non_trainable_variables],
            [tf.convert_to_tensor(v.value) for v in self.metrics_variables],
        )
        gradients, done, query = self.meta_gradient(
            trainable,
            state,
            keras.utils.unpack_x_y_sample_weight(data),
            functional.loss_scale(self.optimizer),
        )
        self.optimizer.apply(gradients, self.trainable_variables)
        functional.commit(self, state, done.state)
        x, y, sample_weight = query
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        loss = done.loss if replicas == 1 else done.loss * replicas
        self._loss_tracker.update_state(loss, sample_weight=functional.rows(x))
        return self.compute_metrics(x, y, done.outputs, sample_weight)
