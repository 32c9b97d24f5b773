"""Second order on PyTorch: cuDNN's recurrent kernels have no second derivative.

A pass whose gradient is differentiated again must not take them; all others may. PyTorch chooses
the kernel by the flag `torch.backends.cudnn.enabled` at the time of the forward pass.
"""

import keras
import numpy as np
import pytest

import keras_m3s as m3s
from keras_m3s.layers.recurrent import GRU, LSTM
from keras_m3s.meta import backend

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "torch", reason="of PyTorch")

LAYERS = {
    "keras LSTM": lambda: keras.layers.LSTM(3),
    "keras GRU": lambda: keras.layers.GRU(3),
    "LSTM": lambda: Last(LSTM(3)),
    "GRU": lambda: Last(GRU(3)),
}


class Last(keras.layers.Layer):
    """The last output of one of this package's layers."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def build(self, shape):
        self.layer.build(shape)

    def call(self, inputs):
        return self.layer(inputs)[1]


class Seen(keras.layers.Layer):
    """Notes in each pass whether PyTorch may take cuDNN's kernels."""

    def __init__(self):
        super().__init__()
        self.flags = []

    def call(self, inputs):
        self.flags.append(torch.backends.cudnn.enabled)
        return inputs


def trained(make, steps, first_order):
    """The flags of the second step of training, and the weights after it."""
    keras.utils.set_random_seed(0)
    seen, inputs = Seen(), keras.Input((4, 2))
    model = keras.Model(inputs, keras.layers.Dense(1)(make()(seen(inputs))))
    meta = m3s.MetaModel(model, steps, 0.1, first_order)
    meta.compile("sgd", loss="mse")
    x = np.random.default_rng(0).normal(size=(6, 4, 2)).astype("float32")
    for _ in range(2):
        seen.flags.clear()  # those of Keras' building come before the first step
        meta.train_on_batch(x, x[:, -1, :1])
    return seen.flags, meta.get_weights()


@pytest.mark.parametrize("name", LAYERS)
def test_inner_passes_of_second_order_do_without_cudnn(name):
    assert torch.backends.cudnn.enabled
    flags, _ = trained(LAYERS[name], 1, first_order=False)
    assert flags == [False, True], "the inner pass, then the query pass"
    # With several steps, these are computed again for the derivative.
    flags, _ = trained(LAYERS[name], 2, first_order=False)
    assert flags[:2] == [False, False] and flags.count(True) == 1 and not flags[-1]
    assert torch.backends.cudnn.enabled


def test_first_order_takes_whatever_is_fastest():
    flags, _ = trained(LAYERS["keras LSTM"], 2, first_order=True)
    assert flags == [True, True, True]


def test_the_flag_is_restored_after_an_error():
    def fails(values):
        raise FloatingPointError

    with pytest.raises(FloatingPointError):
        backend.gradient(fails, [torch.zeros(1)], differentiable=True)
    assert torch.backends.cudnn.enabled


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_second_order_on_a_gpu_is_that_of_the_cpu(name, steps):
    _, there = trained(LAYERS[name], steps, first_order=False)
    with keras.device("cpu"):
        _, here = trained(LAYERS[name], steps, first_order=False)
    for a, b in zip(there, here, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
