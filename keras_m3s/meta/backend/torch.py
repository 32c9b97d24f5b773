"""The meta step on PyTorch: the state is read from the variables and written back at the end."""

from collections.abc import Callable
from typing import Any

import keras
import torch
from torch.utils.checkpoint import checkpoint

from keras_m3s.meta import functional
from keras_m3s.meta.functional import Objective as Objective
from keras_m3s.meta.functional import State


def gradient(fn: Callable[[Any], Any], values: list[Any], again: bool = False) -> tuple[Any, Any]:
    """Gradients of `fn(values) -> (scalar, aux)` and `aux`; the graph is kept only for `again`."""
    values = [v if again and v.requires_grad else v.detach().requires_grad_() for v in values]
    loss, aux = fn(values)
    gradients = torch.autograd.grad(loss, values, create_graph=again, allow_unused=True)
    gradients = [
        torch.zeros_like(v) if g is None else g for v, g in zip(values, gradients, strict=True)
    ]
    # State that keeps its graph would keep every earlier pass in memory.
    return gradients, aux if again else keras.tree.map_structure(_detached, aux)


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value


def repeat(
    step: Callable[..., Any], start: tuple[Any, Any], times: int, again: bool = False
) -> tuple[Any, Any]:
    """`times` applications of `step`.

    Differentiated `again`, it keeps what goes from one step to the next and computes what is within
    a step again: otherwise memory would grow with the passes, not with the parameters.
    """
    remade = again and times > 1
    for _ in range(times):
        start = checkpoint(step, *start, use_reentrant=False) if remade else step(*start)
    return start


def sum_over_replicas(gradients: list[Any]) -> list[Any]:
    """Keras' trainer on PyTorch runs on one device."""
    return gradients


def every_second(rows: Any, first: Any) -> Any:
    """Rows `first`, `first` + 2, ..."""
    return rows[first::2]


def rows_of_this_replica(sample: Callable[[Any], Any], batch_size: Any) -> Any:
    return sample(batch_size)


class MetaStep:
    """`train_step` of `MetaModel`."""

    def train_step(self: Any, data: Any) -> Any:
        trainable = [v.value for v in self.trainable_variables]
        state = State(
            [v.value for v in self.non_trainable_variables],
            [v.value for v in self.metrics_variables],
        )
        # `train_on_batch` hands over numpy arrays as they are.
        data = keras.tree.map_structure(
            lambda a: None if a is None else keras.ops.convert_to_tensor(a), data
        )
        gradients, done, query = self.meta_gradient(
            trainable,
            state,
            keras.utils.unpack_x_y_sample_weight(data),
            functional.loss_scale(self.optimizer),
        )
        with torch.no_grad():
            self.optimizer.apply(gradients, self.trainable_variables)
            functional.commit(self, state, done.state)
        x, y, sample_weight = query
        self._loss_tracker.update_state(done.loss, sample_weight=functional.rows(x))
        return self.compute_metrics(x, y, done.outputs, sample_weight)
