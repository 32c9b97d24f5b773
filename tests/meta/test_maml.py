"""`maml.gradient` as a function by itself, and other meta-gradients in its place.

On l(theta; c) = (theta - c)^2 / 2 with support target c1, query target c2, see `test_closed_forms`.
"""

import keras
import numpy as np
import pytest
from keras import ops

import keras_m3s as m3s
from keras_m3s.meta import maml
from keras_m3s.meta.functional import LossOutput, State

ALPHA, C1, C2 = np.array([0.3, 0.5], "float32"), -1.0, 4.0
THETA = np.array([2.0, -3.0], "float32")


def quadratic(theta, state, batch):
    """Half the squared distance to the batch; passes are counted twice, metrics once."""
    loss = 0.5 * sum(ops.sum(ops.square(value - batch)) for value in theta)
    non_trainable = [count + 1.0 for count in state.non_trainable]
    return LossOutput(loss, None, State(non_trainable, [m + 1.0 for m in state.metrics]))


def gradient(function, steps, **settings):
    """Gradients, counts of passes, metrics after `function`."""
    inner = maml.InnerLoop(steps, ALPHA.tolist(), query_only=[False, True], **settings)
    theta = [ops.convert_to_tensor(value) for value in THETA]
    zeros = [ops.zeros(()) for _ in range(3)]
    batches = [ops.convert_to_tensor(np.float32(c)) for c in (C1, C2)]
    state = State(zeros[:2], zeros[2:])
    gradients, output, at_theta = function(quadratic, theta, state, *batches, inner)
    first = C1 if steps else C2  # without inner steps the loss at theta is that of the query
    expected = 0.5 * np.sum((THETA - first) ** 2)
    if settings.get("transform") is None:
        np.testing.assert_allclose(ops.convert_to_numpy(at_theta), expected, rtol=1e-6)
    counts = [*output.state.non_trainable, *output.state.metrics]
    return [float(ops.convert_to_numpy(v)) for v in gradients], [int(v) for v in counts]


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_closed_form_with_a_rate_for_each_value(steps, first_order):
    found, counts = gradient(maml.gradient, steps, first_order=first_order)
    shrunk = (1 - ALPHA) ** steps
    expected = (C1 + shrunk * (THETA - C1) - C2) * (1 if first_order else shrunk)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert counts == [steps + 1, 1, 1]


@pytest.mark.parametrize("first_order", [True, False])
def test_the_loss_scale_stays_on_the_gradient(first_order):
    plain, _ = gradient(maml.gradient, 2, first_order=first_order)
    scaled, _ = gradient(maml.gradient, 2, first_order=first_order, loss_scale=ops.full((), 8.0))
    np.testing.assert_allclose(scaled, 8 * np.array(plain), rtol=1e-6)


@pytest.mark.parametrize("first_order", [True, False])
def test_support_is_transformed_once(first_order):
    seen = []

    def transform(batch):
        seen.append(batch)
        return batch + 2.0

    found, _ = gradient(maml.gradient, 3, first_order=first_order, transform=transform)
    shrunk = (1 - ALPHA) ** 3
    expected = (C1 + 2 + shrunk * (THETA - C1 - 2) - C2) * (1 if first_order else shrunk)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert len(seen) == 1


def reptile(loss, theta, state, support, query, inner):
    """theta - theta_K; Nichol et al., 2018. Another meta-gradient is a function like this."""
    adapted, state, at_theta, _ = maml.adapt(loss, theta, state, support, inner)
    gradients = [t - a for t, a in zip(theta, adapted, strict=True)]
    return gradients, loss(adapted, state, query), at_theta


def test_another_meta_gradient():
    found, counts = gradient(reptile, 3)
    expected = (1 - (1 - ALPHA) ** 3) * (THETA - C1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert counts == [4, 1, 1]


class Reptile(m3s.MetaModel):
    _gradient = staticmethod(reptile)


class Constant(keras.Model):
    """Predicts its one parameter whatever the input; half the mean square is its loss."""

    def __init__(self):
        super().__init__()
        self.theta = self.add_weight(shape=(), initializer=keras.initializers.Constant(THETA[0]))

    def call(self, inputs):
        return ops.zeros_like(inputs[:, 0]) + self.theta

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 0.5 * ops.mean(ops.square(y_pred - y))


def test_another_meta_gradient_in_fit():
    model = Constant()
    meta = Reptile(model, 3, 0.3)
    meta.compile(keras.optimizers.SGD(0.5))
    y = np.array([C1, C2] * 3, "float32")
    history = meta.fit(y[:, None], y, batch_size=6, shuffle=False, verbose=0).history
    adapted = C1 + 0.7**3 * (THETA[0] - C1)
    expected = THETA[0] - 0.5 * (THETA[0] - adapted)
    np.testing.assert_allclose(ops.convert_to_numpy(model.theta), expected, rtol=1e-6)
    np.testing.assert_allclose(history["loss"][0], 0.5 * (THETA[0] - C1) ** 2, rtol=1e-6)
    np.testing.assert_allclose(history["adapted_loss"][0], 0.5 * (adapted - C2) ** 2, rtol=1e-6)
