"""Rows of a batch: which are support and which query, and those of each task."""

import keras
from keras import ops

from keras_m3s.meta import backend
from keras_m3s.meta.functional import Batch, LossOutput, State, Tensor, Values, batch_size


def split(batch: Batch, tasks: int = 1) -> tuple[Batch, Batch]:
    """Support and query rows, 0::2 and 1::2 of every array; of a single row, that row twice.

    Args:
        batch: `(x, y, sample_weight)`; the rows of a task follow one another.
        tasks: Number of tasks.

    Raises:
        ValueError: The rows are not support and query of so many tasks.
    """
    size = batch_size(batch[0])
    if tasks > 1 and isinstance(size, int) and size % (2 * tasks):
        raise ValueError(
            f"A batch must have a multiple of {2 * tasks} rows: support and query of {tasks} "
            f"tasks. Received: {size}. Choose `batch_size` so, and drop the remainder."
        )
    support: Batch = keras.tree.map_structure(_support_rows, batch)
    return support, keras.tree.map_structure(_query_rows, batch)


def _support_rows(array: Tensor | None) -> Tensor | None:
    return None if array is None else backend.every_other(array, 0)


def _query_rows(array: Tensor | None) -> Tensor | None:
    if array is None:
        return None
    size = ops.shape(array)[0]
    if isinstance(size, int):
        return backend.every_other(array, min(1, size - 1))
    return backend.every_other(array, ops.minimum(ops.cast(1, size.dtype), size - 1))


def by_task(batch: Batch, tasks: int) -> Batch:
    """Rows `(rows, ...)` of a batch as `(tasks, rows / tasks, ...)`."""

    def stack(array: Tensor | None) -> Tensor | None:
        if array is None:
            return None
        return ops.reshape(array, (tasks, -1, *array.shape[1:]))

    stacked: Batch = keras.tree.map_structure(stack, batch)
    return stacked


def mean_of_tasks(
    results: tuple[Values, LossOutput, Tensor],
) -> tuple[Values, LossOutput, Tensor]:
    """Means over tasks of gradients, losses and state; outputs `(rows, ...)` of all of them."""

    def mean(values: Tensor) -> Tensor:
        floating = "float" in keras.backend.standardize_dtype(values.dtype)
        return ops.mean(values, axis=0) if floating else values[0]

    gradients, output, at_theta = results
    after = keras.tree.map_structure(mean, output.state)
    outputs = keras.tree.map_structure(
        lambda one: ops.reshape(one, (-1, *one.shape[2:])), output.outputs
    )
    logs = {name: mean(value) for name, value in output.logs.items()}
    averaged = LossOutput(mean(output.loss), outputs, State(*after), logs)
    return [mean(g) for g in gradients], averaged, mean(at_theta)
