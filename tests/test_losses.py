"""Losses against closed forms, and their gradients where a root or a quotient is at 0."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from keras_m3s import losses


def derivative(function: Callable[[Any], Any], x: np.ndarray) -> np.ndarray:
    """Gradient of a scalar function on the running backend."""
    tensor = ops.convert_to_tensor(x)
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        gradient = jax.grad(function)(tensor)
    elif backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensor)
            value = function(tensor)
        gradient = tape.gradient(value, tensor)
    else:
        import torch

        tensor = tensor.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(tensor), tensor)
    return np.asarray(ops.convert_to_numpy(gradient))


def sample(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def value(x: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(x))


def test_safe_norm_is_the_norm() -> None:
    x = sample(3, 4)
    found = value(losses.safe_norm(x, axis=1, keepdims=True))
    np.testing.assert_allclose(found, np.linalg.norm(x, axis=1, keepdims=True), rtol=1e-6)
    gradient = derivative(losses.safe_norm, x)
    np.testing.assert_allclose(gradient, x / np.linalg.norm(x), rtol=1e-5)


@pytest.mark.parametrize("size", [0.0, 1e-25])
def test_safe_norm_at_the_origin_has_gradient_zero(size: float) -> None:
    x = np.full((2, 3), size, "float32")
    assert value(losses.safe_norm(x)) == 0
    np.testing.assert_array_equal(derivative(losses.safe_norm, x), np.zeros_like(x))


def test_difference_of_orthogonal_features_is_zero() -> None:
    x = np.array([[1, 0], [-1, 0], [1, 0], [-1, 0]], "float32")
    y = np.array([[0, 1], [0, 1], [0, -1], [0, -1]], "float32")
    assert value(losses.difference_loss(x, y)) == pytest.approx(0, abs=1e-10)
    # With itself: one entry of the 2 x 2 matrix is the batch size, 4.
    assert value(losses.difference_loss(x, x)) == pytest.approx(4**2 / 4, rel=1e-4)


def test_difference_takes_lengths_as_constants() -> None:
    # Rows (a, 0) and (-a, 0): the loss is (2 x_1^2 / c^2)^2 / 4 with c held at a, whose
    # derivative by x_1, x_2 through the centring is (2 / a, -2 / a); with c free it would be 0.
    x = np.array([[0.5, 0.0], [-0.5, 0.0]], "float32")
    gradient = derivative(lambda t: losses.difference_loss(t, t), x)
    np.testing.assert_allclose(gradient[:, 0], [4.0, -4.0], rtol=1e-4)
    np.testing.assert_allclose(gradient[:, 1], 0.0, atol=1e-6)


def test_cmd_of_shifted_samples_is_the_shift() -> None:
    x = sample(6, 3)
    shift = np.array([3.0, 0.0, -4.0], "float32")
    found = value(losses.central_moment_discrepancy(x, x + shift))
    np.testing.assert_allclose(found, 5.0, rtol=1e-5)


def test_cmd_by_moments() -> None:
    x, y = sample(5, 2), sample(7, 2, seed=1)
    expected = np.linalg.norm(x.mean(0) - y.mean(0))
    for moments in range(1, 6):
        if moments > 1:
            central = [((z - z.mean(0)) ** moments).mean(0) for z in (x, y)]
            expected += np.linalg.norm(central[0] - central[1])
        found = value(losses.central_moment_discrepancy(x, y, moments=moments))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 4])
def test_cmd_where_moments_coincide_is_smooth(rows: int) -> None:
    x = sample(rows, 3)

    def to_itself(t: Any) -> Any:
        return losses.central_moment_discrepancy(t, ops.stop_gradient(ops.convert_to_tensor(t)))

    assert value(to_itself(x)) == 0
    np.testing.assert_array_equal(derivative(to_itself, x), np.zeros_like(x))


def test_losses_of_a_batch_of_one_have_finite_gradients() -> None:
    x, y = sample(1, 3), sample(1, 3, seed=1)
    for loss in (losses.central_moment_discrepancy, losses.difference_loss):
        assert np.isfinite(derivative(lambda t, loss=loss: loss(t, y), x)).all()
    found = derivative(lambda t: losses.central_moment_discrepancy(t, y), x)
    np.testing.assert_allclose(found, (x - y) / np.linalg.norm(x - y), rtol=1e-5)


def test_domain_confusion() -> None:
    even = np.zeros((4, 3), "float32")
    np.testing.assert_allclose(value(losses.domain_confusion([even] * 3)), np.log(3), rtol=1e-6)
    told = [np.tile(100 * np.eye(3, dtype="float32")[i], (2, 1)) for i in range(3)]
    assert value(losses.domain_confusion(told)) == pytest.approx(0, abs=1e-6)
    assert value(losses.domain_confusion(told[::-1])) == pytest.approx(100 * 2 / 3, rel=1e-5)


def test_mean_squared_error_reaches_both_sides() -> None:
    x, y = sample(2, 3), sample(2, 3, seed=1)
    np.testing.assert_allclose(
        value(losses.mean_squared_error(x, y)), ((x - y) ** 2).mean(), rtol=1e-5
    )
    by_x = derivative(lambda t: losses.mean_squared_error(t, y), x)
    by_y = derivative(lambda t: losses.mean_squared_error(x, t), y)
    np.testing.assert_allclose(by_x, -by_y)
    assert np.abs(by_x).max() > 0
