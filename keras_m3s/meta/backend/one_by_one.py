"""Tasks one after another, where the backend cannot vectorise a gradient within a gradient."""

from collections.abc import Callable
from typing import Any, TypeVar

import keras

Aux = TypeVar("Aux")


def map_tasks(fn: Callable[..., Aux], *batches: Any) -> Aux:
    """`fn` of each task, one after another: leaves of `batches` and of the result begin with the
    tasks.

    Args:
        fn: Pure function of a task's batches.
        batches: Structures of arrays `(tasks, ...)` or `None`.
    """
    size = next(a.shape[0] for a in keras.tree.flatten(batches) if a is not None)
    results = [
        fn(*keras.tree.map_structure(lambda a, t=task: None if a is None else a[t], batches))
        for task in range(size)
    ]
    stacked: Aux = keras.tree.map_structure(
        lambda *each: None if each[0] is None else keras.ops.stack(each), *results
    )
    return stacked
