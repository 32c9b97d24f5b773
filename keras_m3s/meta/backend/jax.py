"""The meta step on JAX: a pure function of the state, which `fit` compiles as a whole."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import keras

from keras_m3s.meta import functional
from keras_m3s.meta.functional import BatchGradient, Model, OfOptimizer, State, Tensor, Values
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
        differentiable: Whether the gradients are differentiated in turn; on JAX they always can be.

    Returns:
        A gradient for each of `values`, and `aux`.
    """
    del differentiable
    gradients, aux = jax.grad(fn, has_aux=True)(values)
    return gradients, aux


def repeat(
    step: Callable[..., Carry],
    start: Carry,
    times: int,
    differentiable: bool = False,
) -> Carry:
    """Applies `step` `times` times, in a loop that is compiled once.

    Under differentiation (second order) only the values between steps are stored, and each step is
    recomputed: otherwise memory would grow with the activations of all K passes.
    """
    del differentiable
    traced = any(isinstance(value, jax.core.Tracer) for value in jax.tree.leaves(start))
    if times < 2 or not traced:
        # Outside of a compiled step a loop would be compiled at each call.
        for _ in range(times):
            start = step(*start)
        return start
    step = jax.checkpoint(step)
    return jax.lax.fori_loop(0, times, lambda _, carry: step(*carry), start)


def all_reduce_sum(gradients: Values) -> Values:
    """Returns `gradients`: a program on several devices already computes the global sum."""
    return gradients


def map_tasks(fn: Callable[..., Aux], *batches: Any) -> Aux:
    """`fn` of each task, all at once: leaves of `batches` and of the result begin with the tasks.

    Args:
        fn: Pure function of a task's batches.
        batches: Structures of arrays `(tasks, ...)` or `None`.
    """
    mapped: Aux = jax.vmap(fn)(*batches)
    return mapped


def rows_of_this_replica(sample: Callable[[Any], Tensor], batch_size: Any) -> Tensor:
    """`sample(batch_size)`: on JAX there are no replicas within a step."""
    return sample(batch_size)


def every_other(array: Tensor, first: Any) -> Tensor:
    """Rows `first`, `first` + 2, ..."""
    return array[first::2]


def over_all_replicas(loss: Tensor) -> Tensor:
    """Returns `loss`: on JAX a program on several devices computes the whole."""
    return loss


def train_step(
    model: Model, gradient: BatchGradient, state: Any, data: Any
) -> tuple[dict[str, Tensor], Any]:
    """`train_step` of a `keras.Model`, which follows `gradient` instead of the plain gradient."""
    trainable, non_trainable, optimizer_variables, metrics = state
    gradients, output, rows = gradient(
        trainable,
        State(non_trainable, metrics),
        keras.utils.unpack_x_y_sample_weight(data),
        _of_optimizer(model, trainable, optimizer_variables),
    )
    trainable, optimizer_variables = model.optimizer.stateless_apply(
        optimizer_variables, gradients, trainable
    )
    logs, metrics = keras_private.update_metrics_variables(
        model, output.state.metrics, output.loss, rows, output.outputs
    )
    logs = {**logs, **output.logs}
    return logs, (trainable, output.state.non_trainable, optimizer_variables, metrics)


SEQUENTIAL = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
"""Options of XLA for a CPU: memory is taken in order, and so serves one pass after the other."""


@functools.cache
def _knows_options() -> bool:
    """Whether jaxlib is compiling for a CPU, and knows the options."""
    if jax.default_backend() != "cpu":
        return False
    try:
        jax.jit(lambda: 0, compiler_options=SEQUENTIAL)()
    except Exception:  # of jaxlib, as its version has it
        return False
    return True


def several_passes() -> contextlib.AbstractContextManager[None]:
    """A scope in which `fit` compiles a step of several passes, one after the other.

    By default XLA on a CPU keeps apart what the passes store. A step of two then takes twice the
    memory, which the system gives anew at each step, and half as long again.
    """
    if not _knows_options():
        return contextlib.nullcontext()
    return keras_private.jax_compiler_options(SEQUENTIAL)


@contextlib.contextmanager
def weights_survive(model: Any) -> Iterator[None]:
    """Puts weights back that Keras took out of the variables before a step that failed.

    And parts a weight from its average: after `fit` with `use_ema` they share memory (Keras 3.15),
    which no compiled step can be given twice.
    """
    for variable, average in keras_private.averaged_variables(model):
        if variable.value is average.value:
            variable.assign(jax.numpy.copy(variable.value))
    try:
        yield
    except BaseException:
        model._put_back_state()
        raise
    finally:
        model._state_before = None


def exporting(format: str, signature: Any) -> contextlib.AbstractContextManager[None]:
    """Nothing to check or add: Keras exports any structure of inputs on this backend."""
    del format, signature
    return contextlib.nullcontext()


class TrainerOverrides:
    """Mixin for a `keras.Model`."""

    _state_before: Any = None

    def _get_jax_state(self: Any, **which: bool) -> Any:
        # `fit` empties the variables here, and fills them again after steps that succeed.
        state = super()._get_jax_state(**which)  # type: ignore[misc]  # a mixin's super is Keras'
        if which.get("purge_model_variables"):
            self._state_before = which, state
        return state

    def _put_back_state(self: Any) -> None:
        if self._state_before is None:
            return
        which, state = self._state_before
        variables = [
            owned
            for name, owned in (
                ("trainable_variables", self.trainable_variables),
                ("non_trainable_variables", self.non_trainable_variables),
                ("optimizer_variables", getattr(self.optimizer, "variables", ())),
                ("metrics_variables", self.metrics_variables),
            )
            if which.get(name)
        ]
        for owned, values in zip(variables, state, strict=True):
            for variable, value in zip(owned, values, strict=True):
                emptied = keras_private.is_emptied(variable)
                if emptied and not value.is_deleted():
                    variable.assign(value)

    def compute_loss_and_updates(
        self: Model,
        trainable_variables: Values,
        non_trainable_variables: Values,
        metrics_variables: Values,
        x: Any,
        y: Any,
        sample_weight: Any,
        training: bool = False,
        optimizer_variables: Any = None,
    ) -> tuple[Tensor, tuple[Tensor, Any, Values, Values]]:
        # Keras runs forward pass and loss in two scopes and keeps the losses that were added in
        # between on `self`, where a wrapped model's `compute_loss` does not find them.
        output = functional.compute_loss(
            self,
            trainable_variables,
            State(non_trainable_variables, metrics_variables),
            (x, y, sample_weight),
            training,
        )
        loss = output.loss
        if training:
            scale = _loss_scale(self.optimizer, optimizer_variables)
            loss = loss if scale is None else loss * scale
        return loss, (output.loss, output.outputs, *output.state)


def _of_optimizer(model: Model, trainable: Values, variables: Values) -> OfOptimizer:
    """`functional.of_optimizer` for given values of the optimizer's variables."""
    mapping = list(zip(model.optimizer.variables, variables, strict=True))
    with keras.StatelessScope(state_mapping=mapping):
        return functional.of_optimizer(model, trainable)


def _loss_scale(optimizer: keras.optimizers.Optimizer, variables: Values) -> Tensor | None:
    """`functional.loss_scale` for given values of the optimizer's variables."""
    with keras.StatelessScope(state_mapping=list(zip(optimizer.variables, variables, strict=True))):
        return functional.loss_scale(optimizer)
