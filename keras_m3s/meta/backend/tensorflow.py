"""The meta step on TensorFlow: state is read from the variables and assigned at the end."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import keras
import tensorflow as tf

from keras_m3s.meta import functional
from keras_m3s.meta.backend.one_by_one import map_tasks as map_tasks
from keras_m3s.meta.functional import BatchGradient, Model, State, Tensor, Values
from keras_m3s.utils import keras_private

Aux = TypeVar("Aux")
Carry = TypeVar("Carry", bound=tuple[Any, ...])


def gradient(
    fn: Callable[[Values], tuple[Tensor, Aux]], values: Values, differentiable: bool = False
) -> tuple[Values, Aux]:
    """Gradients of `fn`, which returns a scalar and `aux`.

    Args:
        fn: Pure function.
        values: What to differentiate with respect to.
        differentiable: Whether the gradients are differentiated in turn; an outer tape records
            them either way.

    Returns:
        A gradient for each of `values`, and `aux`.
    """
    del differentiable
    with tf.GradientTape() as tape:
        tape.watch(values)
        loss, aux = fn(values)
    gradients = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # An embedding's gradient comes as `tf.IndexedSlices`, which do not support arithmetic.
    return [tf.convert_to_tensor(g) for g in gradients], aux


def repeat(
    step: Callable[..., Carry],
    start: Carry,
    times: int,
    differentiable: bool = False,
) -> Carry:
    """Applies `step` `times` times, in a loop that is compiled once where that is possible.

    It is not if `differentiable`, since XLA cannot differentiate a loop with a transposition in it,
    nor under a distribution strategy, whose replicas cannot communicate within a loop.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if times < 2 or differentiable or replicas > 1:
        if differentiable and times > 1 and replicas == 1:
            step = _checkpoint(step)
        for _ in range(times):
            start = step(*start)
        return start
    looped: Carry = tf.while_loop(
        lambda *_: True, lambda *carry: tuple(step(*carry)), start, maximum_iterations=times
    )
    return looped


def _checkpoint(
    step: Callable[..., Carry],
) -> Callable[..., Carry]:
    """Gradient checkpointing: `step` stores its inputs only and is recomputed for its derivative.

    Not `tf.recompute_grad`: within it the tape of the inner gradient records nothing.
    """

    def checkpointed(*start: Any) -> Any:
        @tf.custom_gradient
        def flat_step(*values: Tensor) -> Any:
            def derivative(*upstream: Tensor) -> Any:
                with tf.control_dependencies(upstream):  # not before it is needed
                    inputs = [tf.identity(value) for value in values]
                with tf.GradientTape() as tape:
                    tape.watch([value for value in inputs if value.dtype.is_floating])
                    end = tf.nest.flatten(step(*tf.nest.pack_sequence_as(start, inputs)))
                return tape.gradient(end, inputs, output_gradients=upstream)

            return tf.nest.flatten(step(*tf.nest.pack_sequence_as(start, values))), derivative

        return tf.nest.pack_sequence_as(start, flat_step(*tf.nest.flatten(start)))

    return checkpointed


def all_reduce_sum(gradients: Values) -> Values:
    """Sums over replicas: under a strategy each has the gradient of its share of the loss."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return gradients
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)


def rows_of_this_replica(sample: Callable[[Any], Tensor], batch_size: Any) -> Tensor:
    """This replica's rows of one sample for the global batch.

    Replicas share the seed state, so that each would draw the same numbers. A batch is split into
    contiguous parts, so a row gets the numbers that it gets on one device.
    """
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return sample(batch_size)
    rows = sample(batch_size * replica.num_replicas_in_sync)
    first = replica.replica_id_in_sync_group * batch_size
    return rows[first : first + batch_size]


def every_other(array: Tensor, first: Any) -> Tensor:
    """Rows `first`, `first` + 2, ...; on a CPU a strided slice takes ten times as long."""
    return tf.gather(array, tf.range(first, tf.shape(array)[0], 2))


def over_all_replicas(loss: Tensor) -> Tensor:
    """The mean loss of a batch from a replica's loss, which Keras divides by their number."""
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return loss if replicas == 1 else loss * replicas


def train_step(model: Model, gradient: BatchGradient, data: Any) -> dict[str, Tensor]:
    """`train_step` of a `keras.Model`, which follows `gradient` instead of the plain gradient."""
    trainable = [tf.convert_to_tensor(v.value) for v in model.trainable_variables]
    state = State(
        [tf.convert_to_tensor(v.value) for v in model.non_trainable_variables],
        [tf.convert_to_tensor(v.value) for v in model.metrics_variables],
    )
    gradients, output, (x, y, sample_weight) = gradient(
        trainable,
        state,
        keras.utils.unpack_x_y_sample_weight(data),
        functional.of_optimizer(model, trainable),
    )
    model.optimizer.apply(gradients, model.trainable_variables)
    functional.assign_state(model, state, output.state)
    # Keras divides the loss by the number of replicas, for their gradients are summed.
    loss = over_all_replicas(output.loss)
    keras_private.update_loss_tracker(model, loss, functional.batch_size(x))
    return {**model.compute_metrics(x, y, output.outputs, sample_weight), **output.logs}


def several_passes() -> contextlib.AbstractContextManager[None]:
    """A scope without effect: passes share their memory on this backend."""
    return contextlib.nullcontext()


@contextlib.contextmanager
def weights_survive(model: Any) -> Iterator[None]:
    """Nothing to do: on this backend `fit` leaves the weights in their variables."""
    del model
    yield


def exporting(format: str, signature: Any) -> contextlib.AbstractContextManager[None]:
    """Nothing to check or add: Keras exports any structure of inputs on this backend."""
    del format, signature
    return contextlib.nullcontext()


class TrainerOverrides:
    """Mixin for a `keras.Model`."""

    # Keras calls it before it traces the first step, but builds within the step where it can. No
    # variable may be created in a stateless scope, and a step that creates some is traced twice.
    def _maybe_symbolic_build(self: Any, iterator: Any = None, data_batch: Any = None) -> None:
        if self._distribute_strategy is not None:
            super()._maybe_symbolic_build(iterator, data_batch)  # type: ignore[misc]  # a mixin's super is Keras'
            return
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = keras.tree.map_structure(
                lambda a: None if isinstance(a, tf.experimental.Optional) else a, next(batches)
            )
        keras_private.symbolic_build(self, data_batch)
