"""Options of `MetaModel` on ordinary Keras models: against loops by hand, saved, gone on with."""

import keras
import numpy as np
import pytest

import keras_m3s as m3s
from keras_m3s.meta import inner_optimizers

RNG = np.random.default_rng(0)
X = {"left": RNG.normal(size=(8, 5, 2)).astype("float32"),
     "right": RNG.normal(size=(8, 5, 3)).astype("float32")}  # fmt: skip
Y = RNG.normal(size=(8, 1)).astype("float32")

OPTIONS = {
    "both": {"outer": "both"},
    "every_step": {"outer": "every_step", "inner_steps": 2},
    "reptile": {"outer": "reptile"},
    "learned": {"learn_inner_rates": True},
    "learned_exact": {"learn_inner_rates": True, "first_order": False, "inner_steps": 2},
    "momentum": {"inner_optimizer": inner_optimizers.SGD(momentum=0.9), "inner_steps": 2},
    "adam": {"inner_optimizer": "adam", "inner_steps": 2},
    "same_rows": {"same_rows": True},
    "tasks": {"tasks": 2},
    "support_missing": {"support_missing": m3s.MissingModality((0.8, 0.9), seed=3)},
    "anil": {"inner_learning_rate": {"head": 0.1, "": 0.0}},
}


def network():
    keras.utils.set_random_seed(1)
    inputs = {name: keras.Input(x.shape[1:], name=name) for name, x in X.items()}
    pooled = [keras.layers.GlobalAveragePooling1D()(value) for value in inputs.values()]
    hidden = keras.layers.Dense(4, "tanh", name="body")(keras.layers.Concatenate()(pooled))
    return keras.Model(inputs, keras.layers.Dense(1, name="head")(hidden))


def wrapped(**options):
    missing = m3s.MissingModality((0.4, 0.6), seed=7)
    meta = m3s.M3S(network(), missing, **{"inner_learning_rate": 0.1, **options})
    meta.compile(keras.optimizers.Adam(0.01), loss="mse")
    return meta


def weights(model):
    return [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]


def settings(meta):
    """Its configuration without that of other layers, which carries numbers of objects."""
    layers = ("model", "missing", "support_missing")
    return {name: value for name, value in meta.get_config().items() if name not in layers}


def train(meta, steps=1):
    return [meta.train_on_batch(X, Y) for _ in range(steps)]


# The options without a variable or object of their own are saved alike on every backend.
OF_OBJECTS = ("learned_exact", "adam", "support_missing")


@pytest.mark.parametrize(
    "name",
    [pytest.param(o, marks=() if o in OF_OBJECTS else pytest.mark.once) for o in OPTIONS],
)
def test_saved_and_gone_on_with(name, tmp_path):
    """A loaded model is the same and takes the same next step."""
    meta = wrapped(**OPTIONS[name])
    train(meta, 2)
    meta.save(tmp_path / "meta.keras")
    loaded = keras.saving.load_model(tmp_path / "meta.keras")
    assert settings(loaded) == settings(meta)
    for model in (meta, loaded):
        train(model)
    for found, expected in zip(weights(loaded), weights(meta), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), meta.predict(X, verbose=0))


@pytest.mark.once
@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_changes_the_step(name):
    plain, meta = wrapped(), wrapped(**OPTIONS[name])
    train(plain, 2)
    train(meta, 2)
    assert not all(map(np.array_equal, weights(plain), weights(meta)))


def test_support_rows_have_holes_of_their_own():
    """With all of the support missing, the inner step moves the biases alone."""
    gone = m3s.MissingModality((1.0, 1.0), seed=3)
    meta = m3s.M3S(network(), m3s.MissingModality((0.0, 0.0), seed=7), support_missing=gone,
                   inner_learning_rate=0.1)  # fmt: skip
    meta.compile(keras.optimizers.SGD(0.5), loss="mse")
    model = network()
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    before = weights(model)
    model.train_on_batch({name: 0 * x[::2] for name, x in X.items()}, Y[::2])
    gradient = network()
    gradient.set_weights(model.get_weights())
    gradient.compile(keras.optimizers.SGD(0.5), loss="mse")
    adapted = weights(gradient)
    gradient.train_on_batch({name: x[1::2] for name, x in X.items()}, Y[1::2])
    train(meta)
    for found, theta, at, to in zip(weights(meta), before, adapted, weights(gradient), strict=True):
        np.testing.assert_allclose(found, theta + (to - at), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_adapt_takes_inner_steps_on_a_copy(steps):
    meta = m3s.MetaModel(network(), inner_learning_rate=0.1)
    meta.compile(keras.optimizers.Adam(0.01), loss="mse")
    before = weights(meta)
    adapted = meta.adapt(X, Y, steps)
    by_hand = network()
    by_hand.compile(keras.optimizers.SGD(0.1), loss="mse")
    for _ in range(steps):
        by_hand.train_on_batch(X, Y)
    assert type(adapted) is type(meta.model)
    np.testing.assert_allclose(
        adapted.predict(X, verbose=0), by_hand.predict(X, verbose=0), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        adapted.evaluate(X, Y, verbose=0), by_hand.evaluate(X, Y, verbose=0), rtol=1e-5
    )
    for found, expected in zip(weights(meta), before, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.once
@pytest.mark.parametrize("steps", [-1, 1.5, True])
def test_steps_that_cannot_be_taken_are_refused(steps):
    meta = m3s.MetaModel(network())
    meta.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match=f"`steps` must be an int >= 0. Received: steps={steps}"):
        meta.adapt(X, Y, steps)


def test_an_adapted_copy_takes_what_was_never_measured():
    meta = wrapped(inner_steps=2)
    x = {**X, "left": X["left"].copy()}
    x["left"][:, 2] = np.nan
    adapted = meta.adapt(x, Y)
    assert isinstance(adapted, m3s.WithMissing)
    found = adapted.predict(x, verbose=0)
    assert np.isfinite(found).all()
    assert not np.allclose(found, meta.predict(x, verbose=0))


def test_what_cannot_be_copied_is_said():
    class Own(keras.Model):
        def __init__(self, width):
            super().__init__()
            self.head = keras.layers.Dense(width)

        def call(self, inputs):
            return self.head(inputs)

    meta = m3s.MetaModel(Own(1))
    meta.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match="`Own` must have a `get_config`"):
        meta.adapt(X["left"][:, 0], Y)
