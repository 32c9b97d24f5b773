"""The meta step on PyTorch: state is read from the variables and assigned at the end."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import keras
import torch
from torch.utils.checkpoint import checkpoint

from keras_m3s.meta import functional
from keras_m3s.meta.backend.one_by_one import map_tasks as map_tasks
from keras_m3s.meta.functional import BatchGradient, Model, State, Tensor, Values
from keras_m3s.utils import keras_private, torch_onnx

Aux = TypeVar("Aux")
Carry = TypeVar("Carry", bound=tuple[Any, ...])


def gradient(
    fn: Callable[[Values], tuple[Tensor, Aux]], values: Values, differentiable: bool = False
) -> tuple[Values, Aux]:
    """Gradients of `fn`, which returns a scalar and `aux`.

    Args:
        fn: Pure function.
        values: What to differentiate with respect to.
        differentiable: Whether the gradients are differentiated in turn. Their graph is kept, and
            the pass does without cuDNN, whose recurrent kernels have no second derivative.

    Returns:
        A gradient for each of `values`, and `aux`.
    """
    values = [
        v if differentiable and v.requires_grad else v.detach().requires_grad_() for v in values
    ]
    with _without_cudnn() if differentiable else contextlib.nullcontext():
        loss, aux = fn(values)
    if not values:
        return [], keras.tree.map_structure(_detach, aux)
    gradients = torch.autograd.grad(loss, values, create_graph=differentiable, allow_unused=True)
    gradients = [
        torch.zeros_like(v) if g is None else g for v, g in zip(values, gradients, strict=True)
    ]
    # State that kept its graph would keep every earlier pass in memory.
    return gradients, aux if differentiable else keras.tree.map_structure(_detach, aux)


@contextlib.contextmanager
def _without_cudnn() -> Iterator[None]:
    """A scope in which PyTorch, and Keras' layers with it, take kernels of PyTorch's own on a GPU.

    The kernel that is taken in the forward pass decides on that of the backward pass.
    """
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


def _detach(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value


def repeat(
    step: Callable[..., Carry],
    start: Carry,
    times: int,
    differentiable: bool = False,
) -> Carry:
    """Applies `step` `times` times.

    If `differentiable`, only the values between steps are stored and each step is recomputed:
    otherwise memory would grow with the activations of all K passes.
    """
    checkpointed = differentiable and times > 1
    for _ in range(times):
        start = checkpoint(step, *start, use_reentrant=False) if checkpointed else step(*start)
    return start


def all_reduce_sum(gradients: Values) -> Values:
    """Returns `gradients`: Keras' trainer on PyTorch runs on one device."""
    return gradients


def rows_of_this_replica(sample: Callable[[Any], Tensor], batch_size: Any) -> Tensor:
    """`sample(batch_size)`: Keras' trainer on PyTorch runs on one device."""
    return sample(batch_size)


def every_other(array: Tensor, first: Any) -> Tensor:
    """Rows `first`, `first` + 2, ..."""
    return array[first::2]


def over_all_replicas(loss: Tensor) -> Tensor:
    """Returns `loss`: Keras trains on one device."""
    return loss


def train_step(model: Model, gradient: BatchGradient, data: Any) -> dict[str, Tensor]:
    """`train_step` of a `keras.Model`, which follows `gradient` instead of the plain gradient."""
    trainable = [v.value for v in model.trainable_variables]
    state = State(
        [v.value for v in model.non_trainable_variables],
        [v.value for v in model.metrics_variables],
    )
    # `train_on_batch` passes NumPy arrays on as they are.
    data = keras.tree.map_structure(
        lambda a: None if a is None else keras.ops.convert_to_tensor(a), data
    )
    gradients, output, (x, y, sample_weight) = gradient(
        trainable,
        state,
        keras.utils.unpack_x_y_sample_weight(data),
        functional.of_optimizer(model, trainable),
    )
    with torch.no_grad():
        model.optimizer.apply(gradients, model.trainable_variables)
        functional.assign_state(model, state, output.state)
    keras_private.update_loss_tracker(model, output.loss, functional.batch_size(x))
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
    """The context of an export: with what PyTorch's exporter to ONNX lacks.

    Args:
        format: As for `keras.Model.export`.
        signature: Its `input_signature`, or `None`.

    Raises:
        ValueError: Keras does not offer this export on PyTorch.
    """
    nested = any(isinstance(inputs, (dict, list, tuple)) for inputs in signature or ())
    if format == "tf_saved_model" and nested:
        raise ValueError(
            "A model must have a single input for Keras to export a SavedModel from PyTorch. "
            "Received: a model with several. Export with format='onnx'; or save the model, load it "
            "with KERAS_BACKEND=tensorflow or jax, and export it there."
        )
    return torch_onnx.operations() if format == "onnx" else contextlib.nullcontext()


class TrainerOverrides:
    """Mixin for a `keras.Model`; on PyTorch nothing must be overridden."""
