"""Private names of Keras that keras_m3s uses, each with the reason; read in Keras 3.15.

Not gathered here, because a method is overridden or the file must not import this one:

    utils/backend.py             where `keras.json` lies
    layers/recurrent/base.py     `in_symbolic_scope`
    layers/text_states.py        KerasHub: `_feedforward_intermediate_dense`
    optimizers.py                overrides `_backend_apply_gradients`, `_backend_update_step`,
                                 `_clip_gradients`, `_apply_weight_decay`; uses `_iterations`,
                                 `_use_weight_decay`, `_get_variable_index` and Adam's slots,
                                 `_backend_reset_gradient_accumulators`
    meta/backend/jax.py          overrides `compute_loss_and_updates` (without an underscore, but
                                 undocumented) and `_get_jax_state`
    meta/backend/tensorflow.py   overrides `_maybe_symbolic_build`; uses `_distribute_strategy`
    models/mmim/contrast_stage   `_get_variable_index`
    experiments/replicas.py      `_get_jax_state`, `_jax_state`, `_jax_state_synced`,
                                 `_symbolic_build`, `_assert_compile_called`
    inference/trained_model.py   `_flatten_layers`
    meta/consistency.py          `_flatten_layers`
"""

import contextlib
import functools
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import keras


def share_compiled(model: keras.Model, wrapped: keras.Model) -> None:
    """Gives a wrapper its wrapped model's loss, metrics and tracker of the mean loss.

    `compile` creates all three, and `fit` reads them from the model it trains.
    """
    model._loss_tracker = wrapped._loss_tracker
    model._compile_loss = wrapped._compile_loss
    model._compile_metrics = wrapped._compile_metrics


def compute_loss(
    model: keras.Model, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool
) -> Any:
    """`model.compute_loss`, with `training` only if the model's method takes it."""
    return model._compute_loss(x, y, y_pred, sample_weight, training=training)


def update_loss_tracker(model: keras.Model, loss: Any, batch_size: Any) -> None:
    """Adds a batch to the mean loss that `fit` logs; a custom `train_step` has no public way to."""
    model._loss_tracker.update_state(loss, sample_weight=batch_size)


def update_metrics_variables(
    model: keras.Model, values: list[Any], loss: Any, batch: tuple[Any, Any, Any], outputs: Any
) -> tuple[dict[str, Any], list[Any]]:
    """On JAX: logs, and the metrics' values after a batch; as above, as a pure function."""
    x, y, sample_weight = batch
    return model._update_metrics_variables(values, loss, x, y, outputs, sample_weight)


def symbolic_build(model: keras.Model, data_batch: Any) -> None:
    """Creates all variables that a first step would create, without computing anything."""
    model._symbolic_build(data_batch=data_batch)


def jax_epoch_iterator(*arguments: Any, **settings: Any) -> Any:
    """The iterator of `fit` on JAX, for steps that `fit` does not run."""
    from keras.src.backend.jax.trainer import JAXEpochIterator

    return JAXEpochIterator(*arguments, **settings)


def pythonify_logs(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Logs as Python numbers, as `fit` hands them to callbacks."""
    from keras.src.utils import python_utils

    return python_utils.pythonify_logs(logs)


@contextlib.contextmanager
def tensorflow_unused() -> Iterator[None]:
    """See `utils.backend.tensorflow_unused`; Keras has no public way to leave TensorFlow out."""
    from keras.src.utils import module_utils

    module = module_utils.tensorflow
    # The property `available` would import it; `_available` is `None` until that is asked.
    unused = "tensorflow" not in sys.modules and vars(module).get("_available", True) is None
    if unused:
        module._available = False
    try:
        yield
    finally:
        if unused:
            module._available = None


def averages(
    optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]
) -> list[keras.Variable]:
    """The moving averages that an optimizer with `use_ema` keeps of variables, in their order."""
    kept = zip(
        optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
    )
    of = {id(variable): average for variable, average in kept}
    return [of[id(variable)] for variable in variables]


def averaged_variables(model: keras.Model) -> list[tuple[keras.Variable, keras.Variable]]:
    """Trainable variables with the averages that the model's optimizer keeps, if it does."""
    optimizer = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if optimizer is None or not (optimizer.use_ema and optimizer.built):
        return []
    variables = model.trainable_variables
    return list(zip(variables, averages(optimizer, variables), strict=True))


def is_emptied(variable: Any) -> bool:
    """Whether `fit` on JAX took the value out of a variable, for the compiled step to reuse."""
    return variable._value is None


@contextlib.contextmanager
def jax_compiler_options(options: Mapping[str, Any]) -> Iterator[None]:
    """A scope in which Keras' trainer on JAX compiles with options; it has no argument for them."""
    from keras.src.backend.jax import trainer

    if trainer.is_nnx_enabled():  # whose `jit` has none either
        yield
        return
    before = trainer.jit
    trainer.jit = functools.partial(before, compiler_options=dict(options))
    try:
        yield
    finally:
        trainer.jit = before
