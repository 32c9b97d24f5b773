"""A step of several passes on JAX: compiled so that they share memory, with the same numbers."""

import keras
import numpy as np
import pytest

import keras_m3s as m3s
from keras_m3s.meta import backend

jax = pytest.importorskip("jax")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "jax", reason="of JAX")


def data():
    rng = np.random.default_rng(0)
    x = {name: rng.normal(size=(32, 20, 16)).astype("float32") for name in ("acc", "gyro")}
    return x, rng.normal(size=(32, 1)).astype("float32")


def built(kind):
    keras.utils.set_random_seed(0)
    inputs = {name: keras.Input((20, 16), name=name) for name in ("acc", "gyro")}
    last = [keras.layers.LSTM(16)(value) for value in inputs.values()]
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Concatenate()(last)))
    outer = kind(model, m3s.MissingModality(0.5, seed=0))
    outer.compile(keras.optimizers.SGD(0.1), loss="mse", jit_compile=True)
    return outer


def memory(model, options):
    """Bytes that a step takes for what it computes."""
    model.train_on_batch(*data())
    kinds = ("trainable", "non_trainable", "optimizer", "metrics")
    state = model._get_jax_state(**{f"{kind}_variables": True for kind in kinds})
    step = jax.jit(model.train_step, donate_argnums=0, compiler_options=options)
    return step.lower(state, data()).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere they do so by themselves")
def test_passes_share_memory():
    model = built(m3s.M3S)
    assert memory(model, backend._backend.SEQUENTIAL) < 0.75 * memory(model, {})


def options_of_fit(kind, monkeypatch):
    from keras.src.backend.jax import trainer

    given = []

    def jit(function, compiler_options=None, **settings):
        given.append(compiler_options)
        return jax.jit(function, compiler_options=compiler_options, **settings)

    monkeypatch.setattr(trainer, "jit", jit)
    model = built(kind)
    model.fit(*data(), batch_size=16, epochs=2, verbose=0)
    assert trainer.jit is jit, "nothing else is compiled in this way"
    return given, model.get_weights()


def test_options_change_no_number(monkeypatch):
    ours, weights = options_of_fit(m3s.M3S, monkeypatch)
    assert ours == [backend._backend.SEQUENTIAL]
    assert options_of_fit(m3s.WithMissing, monkeypatch)[0] == [None], "a single pass"
    # A jaxlib that does not know them does without.
    monkeypatch.setattr(backend._backend, "SEQUENTIAL", {"xla_no_such_option": True})
    backend._backend._knows_options.cache_clear()
    try:
        theirs, plain = options_of_fit(m3s.M3S, monkeypatch)
    finally:
        backend._backend._knows_options.cache_clear()
    assert theirs == [None]
    for a, b in zip(weights, plain, strict=True):
        np.testing.assert_array_equal(a, b)
