"""The family of meta-gradients on l(theta; c) = (theta - c)^2 / 2, against closed forms.

After K inner steps at rate alpha, theta_K = c1 + (1 - alpha)^K (theta - c1).
"""

import keras
import numpy as np
import pytest
from keras import ops

import keras_m3s as m3s
from keras_m3s.meta import inner_optimizers, maml, maml_plus_plus, mldg, reptile
from keras_m3s.meta.functional import LossOutput, State

ALPHA, C1, C2 = np.array([0.3, 0.5]), -1.0, 4.0
THETA = np.array([2.0, -3.0])


def theta_after(steps, theta=THETA, alpha=ALPHA):
    return C1 + (1 - alpha) ** steps * (theta - C1)


def quadratic(theta, state, batch):
    """Loss of the first two values; passes are counted, metrics too."""
    loss = 0.5 * sum(ops.sum(ops.square(value - batch)) for value in theta[:2])
    non_trainable = [count + 1.0 for count in state.non_trainable]
    return LossOutput(loss, None, State(non_trainable, [m + 1.0 for m in state.metrics]))


def gradients_of(function, steps, theta=THETA, rates=ALPHA, **settings):
    """Gradients; each pass counts once in state, query passes alone in what is query only."""
    inner = maml.InnerLoop(steps, list(map(float, rates)), query_only=[False, True], **settings)
    values = [ops.convert_to_tensor(np.float32(value)) for value in theta]
    zeros = [ops.zeros(()) for _ in range(3)]
    batches = [ops.convert_to_tensor(np.float32(c)) for c in (C1, C2)]
    found, output, at_theta = function(
        quadratic, values, State(zeros[:2], zeros[2:]), *batches, inner
    )
    first = C1 if steps else C2
    np.testing.assert_allclose(
        ops.convert_to_numpy(at_theta), 0.5 * np.sum((THETA - first) ** 2), rtol=1e-6
    )
    counts = [*output.state.non_trainable, *output.state.metrics]
    assert [int(v) for v in counts] == [steps + 1, 1, 1]
    return np.array([float(ops.convert_to_numpy(v)) for v in found])


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_mldg(steps, first_order):
    found = gradients_of(mldg.gradient, steps, first_order=first_order)
    outer = (theta_after(steps) - C2) * (1 if first_order else (1 - ALPHA) ** steps)
    np.testing.assert_allclose(found, outer + (THETA - C1 if steps else 0), rtol=1e-5)


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_maml_plus_plus(steps, first_order):
    found = gradients_of(maml_plus_plus.gradient, steps, first_order=first_order)
    of_steps = [
        (theta_after(k) - C2) * (1 if first_order else (1 - ALPHA) ** k)
        for k in (range(1, steps + 1) if steps else [0])
    ]
    np.testing.assert_allclose(found, np.mean(of_steps, axis=0), rtol=1e-5)


@pytest.mark.parametrize("first_order", [True, False])
def test_maml_plus_plus_weights_the_steps(first_order):
    def last_alone(*arguments):
        return maml_plus_plus.gradient(*arguments, weights=(0.0, 1.0))

    found = gradients_of(last_alone, 2, first_order=first_order)
    expected = gradients_of(maml.gradient, 2, first_order=first_order)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_reptile(steps):
    found = gradients_of(reptile.gradient, steps)
    along = sum((theta_after(k) - C1 for k in range(steps)), 0 * THETA)
    np.testing.assert_allclose(found, along + theta_after(steps) - C2, rtol=1e-5)


def test_reptile_at_rates_that_change_almost_nothing():
    """A difference of two near values would have lost most digits."""
    found = gradients_of(reptile.gradient, 2, rates=[1e-6, 0.0])
    np.testing.assert_allclose(found[0], 2 * (THETA[0] - C1) + THETA[0] - C2, rtol=1e-5)
    np.testing.assert_allclose(found[1], THETA[1] - C2, rtol=1e-6)


def test_reptile_refuses_what_it_is_not_defined_for():
    with pytest.raises(ValueError, match=r"first order.*Received: first_order=False"):
        gradients_of(reptile.gradient, 1, first_order=False)
    with pytest.raises(ValueError, match="plain SGD"):
        gradients_of(reptile.gradient, 1, optimizer=inner_optimizers.Adam())


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_meta_sgd(steps, first_order):
    """theta is two values and their two rates."""
    found = gradients_of(
        maml.gradient,
        steps,
        theta=[*THETA, *ALPHA],
        rates=[9.0, 9.0, 0.0, 0.0],  # the first two are not used
        first_order=first_order,
        learned=[2, 3, None, None],
    )
    outer, shrunk = theta_after(steps) - C2, (1 - ALPHA) ** steps
    np.testing.assert_allclose(found[:2], outer * (1 if first_order else shrunk), rtol=1e-5)
    along = sum((theta_after(k) - C1 for k in range(steps)), 0 * THETA)
    exact = steps * (1 - ALPHA) ** (steps - 1) * (THETA - C1)
    np.testing.assert_allclose(found[2:], -outer * (along if first_order else exact), rtol=1e-5)


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("function", [maml.gradient, mldg.gradient, maml_plus_plus.gradient])
def test_anil(function, first_order):
    """A value whose rate is 0 stays where it is in the inner loop."""
    found = gradients_of(function, 2, rates=[0.3, 0.0], first_order=first_order)
    both = gradients_of(function, 2, rates=[0.3, 0.5], first_order=first_order)
    np.testing.assert_allclose(found[0], both[0], rtol=1e-6)
    support = THETA[1] - C1 if function is mldg.gradient else 0
    np.testing.assert_allclose(found[1], THETA[1] - C2 + support, rtol=1e-6)


def by_hand(rule, theta, steps):
    """theta_K of an inner optimizer, in NumPy, and its derivative by theta."""
    momentum, b1, b2 = 0.9, 0.9, 0.999

    def run(theta):
        v, m, s = 0.0, 0.0, 0.0
        for k in range(steps):
            g = theta - C1
            if rule == "momentum":
                v = momentum * v + g
                theta = theta - ALPHA * v
            else:
                m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
                spread = np.sqrt(s / (1 - b2 ** (k + 1)) + 1e-2**2) + 1e-2
                theta = theta - ALPHA * m / (1 - b1 ** (k + 1)) / spread
        return theta

    small = 1e-5
    return run(theta), (run(theta + small) - run(theta - small)) / (2 * small)


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("rule", ["momentum", "adam"])
@pytest.mark.parametrize("steps", [1, 3])
def test_inner_optimizers(rule, steps, first_order):
    optimizer = {
        "momentum": inner_optimizers.SGD(momentum=0.9),
        "adam": inner_optimizers.Adam(epsilon=1e-2),
    }[rule]
    found = gradients_of(maml.gradient, steps, first_order=first_order, optimizer=optimizer)
    after, slope = by_hand(rule, THETA, steps)
    np.testing.assert_allclose(found, (after - C2) * (1 if first_order else slope), rtol=2e-4)


def test_adam_has_a_derivative_where_the_gradient_is_zero():
    """The square root's derivative is infinite at 0."""
    inner = maml.InnerLoop(2, [0.3], first_order=False, optimizer=inner_optimizers.Adam())
    theta, c = [ops.convert_to_tensor(np.float32(C1))], ops.convert_to_tensor(np.float32(C1))
    found, *_ = maml.gradient(quadratic, theta, State([], []), c, c + 1.0, inner)
    # The first step moves by alpha g / epsilon: the derivative is huge, but a number.
    assert np.isfinite(ops.convert_to_numpy(found[0]))


class Constant(keras.Model):
    """Predicts its one parameter whatever the input; half the mean square is its loss."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.theta = self.add_weight(shape=(), initializer=keras.initializers.Constant(THETA[0]))

    def call(self, inputs):
        return ops.zeros_like(inputs[:, 0]) + self.theta

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 0.5 * ops.mean(ops.square(y_pred - y))


def fitted(y, **settings):
    """A meta model of `Constant`, after one step of plain gradient descent at rate .5."""
    meta = m3s.MetaModel(Constant(), **settings)
    meta.compile(keras.optimizers.SGD(0.5))
    y = np.asarray(y, "float32")
    history = meta.fit(y[:, None], y, batch_size=len(y), shuffle=False, verbose=0).history
    return meta, history


def moved(meta):
    """The gradient that the step followed."""
    return (THETA[0] - float(ops.convert_to_numpy(meta.model.theta))) / 0.5


@pytest.mark.parametrize(
    "outer, function",
    [("query", maml), ("both", mldg), ("every_step", maml_plus_plus), ("reptile", reptile)],
)
def test_outer_chooses_the_gradient(outer, function):
    meta, history = fitted([C1, C2] * 3, inner_steps=2, inner_learning_rate=0.3, outer=outer)
    expected = gradients_of(function.gradient, 2, rates=[0.3, 0.3])[0]
    np.testing.assert_allclose(moved(meta), expected, rtol=1e-5)
    np.testing.assert_allclose(history["loss"][0], 0.5 * (THETA[0] - C1) ** 2, rtol=1e-5)
    adapted = theta_after(2, THETA[0], 0.3)
    np.testing.assert_allclose(history["adapted_loss"][0], 0.5 * (adapted - C2) ** 2, rtol=1e-5)


def test_learned_rates_are_trained():
    meta, _ = fitted([C1, C2] * 3, inner_learning_rate=0.3, learn_inner_rates=True)
    outer = theta_after(1, THETA[0], 0.3) - C2
    np.testing.assert_allclose(moved(meta), outer, rtol=1e-5)
    (rate,) = meta.trainable_variables[1:]
    expected = 0.3 + 0.5 * (THETA[0] - C1) * outer
    np.testing.assert_allclose(ops.convert_to_numpy(rate), expected, rtol=1e-5)
    assert m3s.strip(meta).trainable_variables == [meta.model.theta]


def test_same_rows_are_support_and_query():
    y = np.array([1.0, 3.0, 7.0])
    meta, _ = fitted(y, inner_learning_rate=0.3, same_rows=True)
    adapted = THETA[0] - 0.3 * (THETA[0] - y.mean())
    np.testing.assert_allclose(moved(meta), adapted - y.mean(), rtol=1e-5)


@pytest.mark.parametrize("first_order", [True, False])
def test_tasks_are_averaged(first_order):
    y = np.array([1.0, 3.0, 5.0, -2.0, 2.0, 2.0, 9.0, 0.0, -4.0, 1.0, 1.0, 6.0])
    settings = {"inner_steps": 2, "inner_learning_rate": 0.3, "first_order": first_order}
    together, history = fitted(y, tasks=3, **settings)
    parts = [fitted(task, **settings) for task in np.split(y, 3)]
    np.testing.assert_allclose(moved(together), np.mean([moved(m) for m, _ in parts]), rtol=1e-5)
    for name in ("loss", "adapted_loss"):
        expected = np.mean([log[name][0] for _, log in parts])
        np.testing.assert_allclose(history[name][0], expected, rtol=1e-5)


def test_a_batch_must_hold_whole_tasks():
    with pytest.raises(ValueError, match=r"multiple of 6 rows.*Received: 8"):
        fitted(np.zeros(8), tasks=3)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"outer": "inner"}, r"`outer` must be one of \['query'"),
        ({"tasks": 0}, "`tasks` must be an int >= 1"),
        ({"inner_optimizer": "lion"}, "`inner_optimizer` must be one of"),
        ({"support_missing": m3s.MissingModality()}, "must go with `missing`"),
        (
            {"missing": m3s.MissingModality(), "support_missing": 0.5},
            "`support_missing` must be a keras_m3s.MissingModality layer or None. Received: float",
        ),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        m3s.MetaModel(Constant(), **settings)
