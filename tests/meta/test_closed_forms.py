"""Algorithm 1 against closed forms: what K steps, both orders and the outer update must give.

On l(theta; c) = (theta - c)^2 / 2 with support target c1, query target c2:
theta_K = c1 + (1 - alpha)^K (theta - c1); the first order gradient is theta_K - c2, the exact one
(1 - alpha)^K (theta_K - c2).
"""

import keras
import numpy as np
import pytest
from keras import ops

import keras_m3s as m3s

ALPHA, BETA, THETA, C1, C2 = 0.3, 0.05, 2.0, -1.0, 4.0


class Quadratic(keras.Model):
    """Predicts its one parameter whatever the input; half the mean square is its loss."""

    def __init__(self, theta=THETA):
        super().__init__()
        self.theta = self.add_weight(shape=(), initializer=keras.initializers.Constant(theta))

    def call(self, inputs):
        return ops.zeros_like(inputs[:, 0]) + self.theta

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 0.5 * ops.mean(ops.square(y_pred - y))


def batch(rows=6):
    x = np.zeros((rows, 1), "float32")
    return x, np.where(np.arange(rows) % 2 == 0, C1, C2).astype("float32")


def expected_gradient(steps, first_order, theta=THETA):
    adapted = C1 + (1 - ALPHA) ** steps * (theta - C1)
    return (adapted - C2) * (1 if first_order else (1 - ALPHA) ** steps)


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_quadratic_sgd(steps, first_order):
    model = Quadratic()
    meta = m3s.MetaModel(model, steps, ALPHA, first_order)
    meta.compile(keras.optimizers.SGD(BETA))
    meta.fit(*batch(), batch_size=6, epochs=1, shuffle=False, verbose=0)
    expected = THETA - BETA * expected_gradient(steps, first_order)
    np.testing.assert_allclose(ops.convert_to_numpy(model.theta), expected, rtol=1e-6)


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_quadratic_adam(steps, first_order):
    """Adam's own formula on the expected gradients, two steps."""
    model = Quadratic()
    meta = m3s.MetaModel(model, steps, ALPHA, first_order)
    meta.compile(keras.optimizers.Adam(BETA, beta_1=0.8, beta_2=0.9, epsilon=1e-3))
    meta.fit(*batch(), batch_size=6, epochs=2, shuffle=False, verbose=0)
    theta, m, v = THETA, 0.0, 0.0
    for t in (1, 2):
        g = expected_gradient(steps, first_order, theta)
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        rate = BETA * np.sqrt(1 - 0.9**t) / (1 - 0.8**t)
        theta -= rate * m / (np.sqrt(v) + 1e-3)
    np.testing.assert_allclose(ops.convert_to_numpy(model.theta), theta, rtol=1e-5)


def tanh_loss(theta, x, y):
    """A 2-3-1 tanh network's mean squared error, in float64 numpy."""
    w1, b1, w2, b2 = theta
    return np.mean((np.tanh(x @ w1 + b1) @ w2 + b2 - y) ** 2)


def numeric_gradient(fn, theta, eps=1e-6):
    gradients = []
    for i, value in enumerate(theta):
        g = np.zeros_like(value)
        for at in np.ndindex(value.shape):
            up, down = ([v.copy() for v in theta] for _ in range(2))
            up[i][at] += eps
            down[i][at] -= eps
            g[at] = (fn(up) - fn(down)) / (2 * eps)
        gradients.append(g)
    return gradients


def tanh_gradient(theta, x, y):
    """The gradient of `tanh_loss`, by hand."""
    w1, b1, w2, b2 = theta
    h = np.tanh(x @ w1 + b1)
    d = 2 * (h @ w2 + b2 - y) / len(x)
    dh = (d @ w2.T) * (1 - h**2)
    return [x.T @ dh, dh.sum(0), h.T @ d, d.sum(0)]


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_tanh_network(steps, first_order):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 2)), rng.normal(size=(8, 1))
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)]
    )
    theta = [v.astype("float64") for v in model.get_weights()]

    def adapt(theta):
        for _ in range(steps):
            g = tanh_gradient(theta, x[0::2], y[0::2])
            theta = [t - ALPHA * gi for t, gi in zip(theta, g, strict=True)]
        return theta

    if first_order:
        gradient = tanh_gradient(adapt(theta), x[1::2], y[1::2])
    else:
        gradient = numeric_gradient(lambda t: tanh_loss(adapt(t), x[1::2], y[1::2]), theta)

    meta = m3s.MetaModel(model, steps, ALPHA, first_order)
    meta.compile(keras.optimizers.SGD(1.0), loss="mse")
    meta.train_on_batch(x.astype("float32"), y.astype("float32"))
    for before, after, g in zip(theta, model.get_weights(), gradient, strict=True):
        np.testing.assert_allclose(before - after, g, atol=1e-5)


def test_numeric_gradient_agrees_with_the_one_by_hand():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(4, 2)), rng.normal(size=(4, 1))
    theta = [rng.normal(size=s) for s in ((2, 3), (3,), (3, 1), (1,))]
    numeric = numeric_gradient(lambda t: tanh_loss(t, x, y), theta)
    for a, b in zip(tanh_gradient(theta, x, y), numeric, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)


def test_batch_of_one_is_support_and_query():
    model = Quadratic()
    meta = m3s.MetaModel(model, 1, ALPHA)
    meta.compile(keras.optimizers.SGD(BETA))
    meta.train_on_batch(np.zeros((1, 1), "float32"), np.array([C1], "float32"))
    expected = THETA - BETA * (1 - ALPHA) * (THETA - C1)
    np.testing.assert_allclose(ops.convert_to_numpy(model.theta), expected, rtol=1e-6)
