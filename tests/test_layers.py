"""Layers against PyTorch's own and against closed forms."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from keras_m3s import layers
from keras_m3s.layers import BatchNorm, GradientReversal, Linear, TransformerEncoderLayer
from keras_m3s.layers.torch_defaults import activation
from keras_m3s.models.torch_import.weights import transformer_encoder_layer


def derivatives(function: Callable[[Any], Any], x: float) -> tuple[float, float]:
    """First and second derivative of a scalar function on the running backend."""
    tensor = ops.convert_to_tensor(np.float32(x))
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        first = jax.grad(function)
        return float(first(tensor)), float(jax.grad(first)(tensor))
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as outer:
            outer.watch(tensor)
            with tf.GradientTape() as inner:
                inner.watch(tensor)
                value = function(tensor)
            first = inner.gradient(value, tensor)
        return float(first), float(outer.gradient(first, tensor))
    import torch

    tensor = tensor.detach().clone().requires_grad_()
    (first,) = torch.autograd.grad(function(tensor), tensor, create_graph=True)
    (second,) = torch.autograd.grad(first, tensor)
    return first.item(), second.item()


def test_gradient_reversal_to_second_order() -> None:
    layer = GradientReversal(scale=0.5)
    x = 1.3
    assert float(layer(np.float32(x))) == np.float32(x)
    # d/dx r(x)^3 = -0.5 * 3 r^2, and once more -0.5 * (-0.5 * 6 r), as r' = -0.5 each time.
    first, second = derivatives(lambda t: layer(t) ** 3, x)
    assert first == pytest.approx(-0.5 * 3 * x**2, rel=1e-5)
    assert second == pytest.approx(0.25 * 6 * x, rel=1e-5)


def test_gradient_reversal_keeps_the_value_exactly() -> None:
    x = np.random.default_rng(0).normal(size=(50, 3)).astype("float32") * 1e5
    np.testing.assert_array_equal(ops.convert_to_numpy(GradientReversal(0.3)(x)), x)
    assert GradientReversal.from_config(GradientReversal(0.3).get_config()).scale == 0.3


def test_linear_starts_as_in_pytorch() -> None:
    layer = Linear(400)
    layer.build((None, 25))
    for variable in (layer.kernel, layer.bias):
        values = ops.convert_to_numpy(variable)
        assert 0.19 < np.abs(values).max() <= 0.2
        assert abs(values.std() - 0.2 / 3**0.5) < 0.01
    again = Linear.from_config(layer.get_config())
    again.build((None, 25))
    assert again.bias.shape == (400,)


@pytest.mark.parametrize("heads", [1, 3])
def test_transformer_encoder_layer_is_pytorchs(heads: int) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    reference = torch.nn.TransformerEncoderLayer(6, heads, 10, batch_first=True)
    for norm in (reference.norm1, reference.norm2):  # so that neither is the identity
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype("float32")
    layer = TransformerEncoderLayer(heads=heads, hidden_size=10)
    layer.build(x.shape)
    state = reference.state_dict()
    for weight in transformer_encoder_layer("layer", layer):
        array = state.pop(weight.name.removeprefix("layer.")).numpy()
        weight.variable.assign(weight.to_keras(array))
    assert not state
    expected = reference.eval()(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, rtol=1e-5, atol=1e-5)
    assert np.abs(ops.convert_to_numpy(layer(x, training=True)) - expected).max() > 1e-3


@pytest.mark.once
def test_transformer_heads_must_divide() -> None:
    with pytest.raises(ValueError, match=r"`heads` must divide .* heads=4, width 6"):
        TransformerEncoderLayer(heads=4).build((None, 3, 6))


def test_batch_norm_moves_as_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    layer, reference = BatchNorm(), torch.nn.BatchNorm1d(3)
    x = np.random.default_rng(0).normal(2.0, 3.0, size=(3, 4, 3)).astype("float32")
    for rows in x:
        found, expected = layer(rows, training=True), reference(torch.tensor(rows))
        np.testing.assert_allclose(
            ops.convert_to_numpy(found), expected.detach().numpy(), rtol=0, atol=1e-5
        )
    for ours, theirs in (("moving_mean", "running_mean"), ("moving_variance", "running_var")):
        found = ops.convert_to_numpy(getattr(layer, ours))
        np.testing.assert_allclose(found, getattr(reference, theirs), rtol=1e-5)
    layer(x[0][:1], training=True)
    assert np.isfinite(ops.convert_to_numpy(layer.moving_variance)).all()


@pytest.mark.once
@pytest.mark.parametrize(
    "name", ["ReLU", "LeakyReLU", "ELU", "GELU", "Hardtanh", "Hardshrink", "Sigmoid", "Tanh"]
)
def test_activations_by_pytorchs_names(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = np.linspace(-3, 3, 13, dtype="float32")
    expected = getattr(torch.nn, name)()(torch.tensor(x)).numpy()
    serialized = keras.activations.serialize(activation(name))
    for identifier in (name, name.lower(), serialized):
        found = ops.convert_to_numpy(activation(identifier)(ops.convert_to_tensor(x)))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.once
def test_saved_models_find_the_layers_by_their_names() -> None:
    """Names under which version 0.1.0 saved them, wherever their code lies."""
    names = {
        name: keras.saving.get_registered_name(getattr(layers, name)) for name in layers.__all__
    }
    assert names == {name: f"keras_m3s>{name}" for name in layers.__all__}
    assert keras.saving.get_registered_name(activation("LeakyReLU")) == "keras_m3s>leaky_relu"
    layer = TransformerEncoderLayer(heads=3, hidden_size=10)
    saved = keras.saving.serialize_keras_object(layer) | {"module": "keras_m3s.layers"}
    assert keras.saving.deserialize_keras_object(saved).get_config() == layer.get_config()
