"""The meta step on TensorFlow: the state is read from the variables and written back at the end."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_m3s.meta import objective
from keras_m3s.meta.objective import Objective as Objective
from keras_m3s.meta.objective import State


def gradient(fn: Callable[[Any], Any], values: list[Any], again: bool = False) -> tuple[Any, Any]:
    """Gradients of `fn(values) -> (scalar, aux)` and `aux`; an outer tape sees them `again`."""
    del again
    with tf.GradientTape() as tape:
        tape.watch(values)
        loss, aux = fn(values)
    gradients = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # An embedding's gradient comes as slices, which a step of gradient descent cannot be taken in.
    return [tf.convert_to_tensor(g) for g in gradients], aux


def repeat(step: Callable[..., Any], start: tuple[Any, Any], times: int) -> tuple[Any, Any]:
    """`times` applications of `step`."""
    for _ in range(times):
        start = step(*start)
    return start


def sum_over_replicas(gradients: list[Any]) -> list[Any]:
    """Under a distribution strategy each replica has the gradient of its share of the loss."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return gradients
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)


def rows_of_this_replica(sample: Callable[[Any], Any], batch_size: Any) -> Any:
    """Replicas share the seed state: each takes its own rows of one draw for all of them."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return sample(batch_size)
    rows = sample(batch_size * replica.num_replicas_in_sync)
    return rows[replica.replica_id_in_sync_group :: replica.num_replicas_in_sync]


class MetaStep:
    """`train_step` of `MetaModel`."""

    def train_step(self: Any, data: Any) -> Any:
        # `fit` defers building to the first step, but no variable may be made in a stateless scope.
        self._symbolic_build(data_batch=data)
        trainable = [tf.convert_to_tensor(v.value) for v in self.trainable_variables]
        state = State(
            [tf.convert_to_tensor(v.value) for v in self.non_trainable_variables],
            [tf.convert_to_tensor(v.value) for v in self.metrics_variables],
        )
        gradients, done, query = self.meta_gradient(
            trainable,
            state,
            keras.utils.unpack_x_y_sample_weight(data),
            objective.loss_scale(self.optimizer),
        )
        self.optimizer.apply(gradients, self.trainable_variables)
        objective.commit(self, state, done.state)
        x, y, sample_weight = query
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        loss = done.loss if replicas == 1 else done.loss * replicas
        self._loss_tracker.update_state(loss, sample_weight=objective.rows(x))
        return self.compute_metrics(x, y, done.outputs, sample_weight)
