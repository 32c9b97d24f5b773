"""The control of the trial that cuts its own spans."""

import keras
import numpy as np

from keras_m3s.experiments.span_layer import SpanDropout, WithSpanLayer
from keras_m3s.missing import MissingModality

SHAPES = {"a": (40, 3), "b": (20,)}


def wrapped(rates=(0.4, 0.6)):
    inputs = {name: keras.Input(shape, name=name) for name, shape in SHAPES.items()}
    pooled = keras.layers.GlobalAveragePooling1D()(inputs["a"])
    x = keras.layers.concatenate([pooled, inputs["b"]])
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    model.compile("sgd", loss="mse")
    return WithSpanLayer(model, MissingModality(rates, seed=0), rates, seed=0)


def rows(count=6):
    rng = np.random.default_rng(0)
    return {n: rng.normal(1.0, 1.0, (count, *s)).astype("float32") for n, s in SHAPES.items()}


def test_one_span_of_each_row_is_cut():
    layer = SpanDropout((0.25, 0.75), seed=1)
    x = np.ones((500, 40, 2), "float32")
    assert np.array_equal(keras.ops.convert_to_numpy(layer(x)), x)
    holes = np.isnan(keras.ops.convert_to_numpy(layer(x, training=True)))
    assert np.array_equal(holes[..., 0], holes[..., 1])
    edges = np.diff(holes[..., 0].astype(int), axis=1, prepend=0, append=0)
    assert (np.abs(edges).sum(axis=1) == 2).all(), "one span"
    share = holes.mean(axis=(1, 2))
    assert share.min() > 0.23 and share.max() < 0.77
    # Uniform: mean 1/2, variance 1/48, and of the length on a grid of 40 steps little more.
    assert abs(share.mean() - 0.5) < 4 * np.sqrt(1 / 48 / 500)
    assert abs(share.var() - 1 / 48) < 0.004


def test_holes_are_filled_as_by_any_method():
    model, x = wrapped((0.5, 0.5)), rows()
    inner = model.model
    inner.layers[-1].set_weights([np.ones((23, 1), "float32"), np.zeros(1, "float32")])
    full = keras.ops.convert_to_numpy(model(x, training=False))[:, 0]
    np.testing.assert_allclose(full, x["a"].mean(axis=1).sum(-1) + x["b"].sum(-1), rtol=1e-4)
    cut = keras.ops.convert_to_numpy(model(x, training=True))[:, 0]
    assert np.isfinite(cut).all() and (np.abs(cut - full) > 0.1).all()


def test_it_trains_and_is_loaded_again(tmp_path):
    model, x = wrapped(), rows(8)
    y = np.ones((8, 1), "float32")
    model.compile(keras.optimizers.SGD(0.01))
    before = model.model.get_weights()[0].copy()
    model.fit(x, y, batch_size=4, epochs=1, verbose=0)
    assert np.abs(model.model.get_weights()[0] - before).max() > 0
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, WithSpanLayer) and again.spans.arguments == model.spans.arguments
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    model.fit(x, y, batch_size=4, epochs=1, shuffle=False, verbose=0)
    again.fit(x, y, batch_size=4, epochs=1, shuffle=False, verbose=0)
    np.testing.assert_allclose(
        again.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6, atol=1e-6
    )
