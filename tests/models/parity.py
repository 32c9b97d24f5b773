"""How a model is held against numbers of its published PyTorch code."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_m3s.models.torch_import.checkpoints import load_torch_checkpoint


def load_golden_weights(model: Any, params: Mapping[str, np.ndarray]) -> None:
    """Loads `params` and checks that no trainable variable was left as it was initialised."""
    load_torch_checkpoint(model, dict(params))
    filled = {id(weight.variable) for weight in model.torch_weights()}
    left = [v.path for v in model.trainable_variables if id(v) not in filled]
    assert not left, f"not in torch_weights(): {left}"


def part(golden: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The entries under `prefix/`, without it."""
    return {
        k.removeprefix(f"{prefix}/"): v for k, v in golden.items() if k.startswith(f"{prefix}/")
    }


def built(model: Any, x: Mapping[str, np.ndarray]) -> Any:
    """The model, with all its variables made by a symbolic call: no number is computed."""
    kind = keras.backend.standardize_dtype
    model({k: keras.KerasTensor(np.shape(v), kind(v.dtype)) for k, v in x.items()})
    return model


def whole(function: Callable[..., Any], model: Any) -> Callable[..., Any]:
    """`function(model, ...)` as numpy; JAX compiles it whole, not operation by operation."""

    def called(*args: Any) -> Any:
        return function(model, *args)

    if keras.backend.backend() == "jax":
        import jax

        @jax.jit
        def pure(values: list[Any], arguments: Any) -> Any:
            mapping = list(zip(model.variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                return function(model, *arguments)

        def called(*args: Any) -> Any:
            return pure([v.value for v in model.variables], args)

    def as_numpy(*args: Any) -> Any:
        to_numpy = keras.ops.convert_to_numpy
        return keras.tree.map_structure(lambda t: np.asarray(to_numpy(t)), called(*args))

    return as_numpy


def run(function: Callable[..., Any], model: Any, *args: Any) -> Any:
    """`whole(function, model)(*args)`."""
    return whole(function, model)(*args)


def total_loss(model: Any, x: Any, y: Any, variables: list[Any], values: list[Any]) -> Any:
    """The loss that `fit` would minimise, as a pure function of `values`."""
    mapping = list(zip(variables, values, strict=True))
    with keras.StatelessScope(state_mapping=mapping, collect_losses=True):
        outputs = model(x, training=True)
        return model.compute_loss(x=x, y=y, y_pred=outputs, training=True)


def gradients(model: Any, x: Any, y: Any, variables: list[Any] | None = None) -> list[np.ndarray]:
    """Gradients of the total loss; zeros where a variable has no part in it."""
    if not model.compiled:
        model.compile()
    x = {k: keras.ops.convert_to_tensor(v) for k, v in x.items()}
    y = keras.ops.convert_to_tensor(y)
    variables = model.trainable_variables if variables is None else variables
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        def loss(values: list[Any], x: Any, y: Any) -> Any:
            return total_loss(model, x, y, variables, values)

        # The batch is an argument, no constant: one program for all batches of a shape.
        grads = jax.jit(jax.grad(loss))([v.value for v in variables], x, y)
    elif backend == "tensorflow":
        import tensorflow as tf

        values = [tf.convert_to_tensor(v.value) for v in variables]
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = total_loss(model, x, y, variables, values)
        grads = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        grads = [tf.convert_to_tensor(g) for g in grads]
    else:
        import torch

        values = [v.value.detach().clone().requires_grad_() for v in variables]
        loss = total_loss(model, x, y, variables, values)
        grads = torch.autograd.grad(loss, values, allow_unused=True, materialize_grads=True)
    return [np.asarray(keras.ops.convert_to_numpy(g)) for g in grads]


ROUNDING = 8 * float(np.finfo("float32").eps)


def assert_gradients(
    model: Any,
    x: Any,
    y: Any,
    golden_grads: Mapping[str, np.ndarray],
    rel: float = 1e-4,
    zero: str | None = None,
) -> None:
    """Holds the gradient of every trainable variable against the published one.

    The error may be `rel` times the variable's own largest gradient. Where that is under 1/1000
    of the largest of all variables (a key's bias in attention: zero but for rounding), 1/1000 of
    the latter counts instead: at 1e-4 this is float32's own precision.

    Args:
        model: Built, with the golden weights, all dropout rates 0.
        x: Batch dict. y: Labels.
        golden_grads: PyTorch gradients by name. A name may be absent only where the gradient is 0,
            and no name may be left over but those in `model.torch_unused`.
        rel: Greatest error, relative to the largest.
        zero: Pattern of names whose gradient is 0 in exact arithmetic: on either side it is the
            rounding of sums, which is held below 8 units in the last place of the largest gradient.
    """
    weights = {id(w.variable): w for w in model.torch_weights()}
    variables = model.trainable_variables
    grads = gradients(model, x, y, variables)
    largest = max(float(np.abs(g).max()) for g in golden_grads.values())
    seen: set[str] = set()
    failures = []
    for variable, grad in zip(variables, grads, strict=True):
        weight = weights[id(variable)]
        seen.update(weight.names)
        if zero is not None and any(re.search(zero, name) for name in weight.names):
            if np.abs(grad).max() > ROUNDING * largest:
                failures.append(f"{weight.name} is not 0: {np.abs(grad).max():.2e}")
            continue
        if any(name not in golden_grads for name in weight.names):
            expected = np.zeros_like(grad)
        else:
            expected = weight.to_keras(*(golden_grads[name] for name in weight.names))
        assert grad.shape == expected.shape, (variable.path, grad.shape, expected.shape)
        scale = max(float(np.abs(expected).max()), 1e-3 * largest)
        error = float(np.abs(grad - expected).max()) / scale
        if not error <= rel:
            failures.append(f"{weight.name} ({variable.path}): {error:.2e}")
    assert not failures, "\n".join(failures)
    unused = getattr(model, "torch_unused", ())
    left = [
        n for n in golden_grads if n not in seen and not any(re.fullmatch(p, n) for p in unused)
    ]
    assert not left, f"gradients of no variable: {left}"
