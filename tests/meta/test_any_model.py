"""Wrappers around models with any structure of inputs, values never measured, absent modalities."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_m3s as m3s

NAMES = ("acc", "gyro")
ROWS = 16


def data(seed=0):
    rng = np.random.default_rng(seed)
    x = {m: rng.normal(size=(ROWS, 10, 2)).astype("float32") for m in NAMES}
    return x, rng.normal(size=(ROWS, 1)).astype("float32")


def inner(kind="dict", presence=False, vector=False):
    inputs = {m: keras.Input((10, 2), name=m) for m in NAMES}
    parts = [keras.layers.GlobalAveragePooling1D()(v) for v in inputs.values()]
    if presence:
        inputs["acc_present"] = keras.Input((10, 2), name="acc_present")
        parts.append(keras.layers.GlobalAveragePooling1D()(inputs["acc_present"]))
    if vector:
        inputs["static"] = keras.Input((3,), name="static")
        parts.append(inputs["static"])
    if kind == "single":
        one = keras.Input((10, 4))
        return keras.Model(one, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling1D()(one)))
    out = keras.layers.Dense(1)(keras.layers.Concatenate()(parts))
    return keras.Model(inputs if kind == "dict" else list(inputs.values()), out)


def wrapped(model, wrapper=m3s.M3S, modalities=None, **settings):
    layer = m3s.MissingModality((0.2, 0.6), modalities=modalities, seed=0, **settings)
    outer = wrapper(model, layer)
    outer.compile(keras.optimizers.SGD(0.05), loss="mse")
    return outer


@pytest.mark.parametrize("wrapper", [m3s.WithMissing, m3s.M3S])
def test_every_structure_trains_and_serves(wrapper, tmp_path):
    x, y = data()
    joined = np.concatenate(list(x.values()), -1)
    slices = {"acc": slice(0, 2), "gyro": slice(2, 4)}
    for model, inputs, modalities in (
        (inner(), x, None),
        (inner("list"), list(x.values()), None),
        (inner("list"), tuple(x.values()), None),
        (inner("single"), joined, slices),
    ):
        outer = wrapped(model, wrapper, modalities)
        losses = outer.fit(inputs, y, batch_size=8, epochs=2, verbose=0).history["loss"]
        assert np.isfinite(losses).all() and set(outer.missing.modalities) == set(NAMES)
        served = outer.predict(inputs, verbose=0)
        np.testing.assert_allclose(model.predict(inputs, verbose=0), served, rtol=1e-6)
        assert m3s.strip(outer) is model
    outer.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(joined, verbose=0), outer.predict(joined, verbose=0)
    )


def test_what_the_model_does_not_take_stays_with_the_holes():
    """Lengths decide where holes fall; strangers are dropped with a warning, not mistaken."""
    x, y = data()
    outer = wrapped(inner())
    lengths = {f"{m}_length": np.full(ROWS, 7, "int32") for m in NAMES}
    outer.fit({**x, **lengths, "index": np.arange(ROWS)}, y, verbose=0)
    expected = outer.predict(x, verbose=0)
    with pytest.warns(UserWarning, match="'baro'] are not handed to it"):
        got = outer.predict({**x, "baro": np.ones((ROWS, 10, 2), "float32")}, verbose=0)
    np.testing.assert_array_equal(got, expected)


def test_a_vector_beside_sequences_and_presence():
    x, y = data()
    x["static"] = np.ones((ROWS, 3), "float32")
    outer = wrapped(inner(presence=True, vector=True))
    x["acc"][:, :5] = np.nan
    assert outer.missing.presence, "the model declares an input for it"
    outer.fit(x, y, verbose=0)
    present = np.ones((ROWS, 10, 2), "float32")
    present[:, :5] = 0
    plain = {**x, "acc": np.nan_to_num(x["acc"]), "acc_present": present}
    np.testing.assert_allclose(
        outer.predict(x, verbose=0), outer.model.predict(plain, verbose=0), rtol=1e-5
    )


@keras.saving.register_keras_serializable("tests")
class ToldWhatIsThere(keras.Model):
    """A model that is not Functional: nothing but its `call` says what it reads."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.out = keras.layers.Dense(1)

    def call(self, inputs):
        there = inputs["acc_present"]
        mean = ops.sum(inputs["acc"] * there, axis=1) / ops.maximum(ops.sum(there, axis=1), 1)
        return self.out(ops.concatenate([mean, ops.mean(inputs["gyro"], axis=1)], axis=-1))


@pytest.mark.parametrize("wrapper", [m3s.WithMissing, m3s.M3S])
def test_a_subclassed_model_is_told_what_is_there(wrapper, tmp_path):
    x, y = data()
    x["acc"][:, :5] = np.nan
    outer = wrapped(ToldWhatIsThere(), wrapper, presence=True)
    outer.fit(x, y, batch_size=8, verbose=0)
    present = np.ones((ROWS, 10, 2), "float32")
    present[:, :5] = 0
    plain = {**x, "acc": np.nan_to_num(x["acc"]), "acc_present": present}
    predicted = outer.predict(x, verbose=0)
    np.testing.assert_allclose(predicted, outer.model.predict(plain, verbose=0), rtol=1e-5)
    without = outer.predict({"gyro": x["gyro"]}, verbose=0)
    plain |= {"acc": np.zeros_like(present), "acc_present": np.zeros_like(present)}
    np.testing.assert_allclose(without, outer.model.predict(plain, verbose=0), rtol=1e-5)
    outer.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), predicted)


@pytest.mark.parametrize("fill", [0.0, "learned"])
def test_nan_never_reaches_the_weights(fill):
    x, y = data()
    for m in NAMES:
        x[m][np.random.default_rng(1).random(x[m].shape) < 0.3] = np.nan
    outer = wrapped(inner(), fill=fill)
    outer.fit(x, y, batch_size=8, epochs=10, verbose=0)
    assert all(np.isfinite(ops.convert_to_numpy(v)).all() for v in outer.weights)
    if fill == "learned":
        vectors = [v for v in outer.trainable_variables if "fill" in v.path]
        assert len(vectors) == 2 and all(np.abs(ops.convert_to_numpy(v)).max() > 0 for v in vectors)
    assert np.isfinite(outer.evaluate(x, y, verbose=0))


def test_an_absent_modality_is_one_hole():
    x, y = data()
    outer = wrapped(inner())
    outer.fit(x, y, verbose=0)
    gone = {**x, "gyro": np.full_like(x["gyro"], np.nan)}
    expected = outer.predict(gone, verbose=0)
    for partial in ({"acc": x["acc"]}, {**x, "gyro": None}):
        np.testing.assert_array_equal(outer.predict(partial, verbose=0), expected)
    outer.fit({"acc": x["acc"]}, y, verbose=0)


def test_labels_that_are_nan_count_for_nothing():
    x, y = data()
    outer = m3s.WithMissing(inner(), m3s.MissingModality(0.0, seed=0))
    outer.compile(keras.optimizers.SGD(0.1), loss="mse")
    before = outer.get_weights()
    half = y.copy()
    half[::2] = np.nan
    outer.train_on_batch(x, half)
    ours = outer.get_weights()
    outer.set_weights(before)
    weights = np.ones(ROWS, "float32")
    weights[::2] = 0
    outer.train_on_batch(x, y, sample_weight=weights)
    for a, b in zip(ours, outer.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_log_has_the_loss_of_what_is_served():
    """With SGD(0) theta stays: `loss` is that of theta on the support rows, in closed form."""
    x, y = data()
    model = inner()
    outer = m3s.MetaModel(model, inner_steps=3, inner_learning_rate=0.1)
    outer.compile(keras.optimizers.SGD(0.0), loss="mse")
    logs = outer.fit(x, y, batch_size=ROWS, shuffle=False, verbose=0).history
    support = {m: v[::2] for m, v in x.items()}
    expected = np.mean((model.predict(support, verbose=0) - y[::2]) ** 2)
    assert logs["loss"][0] == pytest.approx(expected, rel=1e-5)
    assert logs["adapted_loss"][0] != pytest.approx(expected, rel=1e-3)
    assert "adapted_loss" not in outer.evaluate(x, y, return_dict=True, verbose=0)


def test_a_runaway_inner_rate_is_warned_of_once():
    callback = m3s.meta.warn_of_inner_rate.WarnOfInnerRate()
    with pytest.warns(UserWarning, match="Lower `inner_learning_rate`"):
        callback.on_epoch_end(1, {"loss": 1.9, "adapted_loss": 0.5})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        callback.on_epoch_end(2, {"loss": 1.9, "adapted_loss": 0.5})
        m3s.meta.warn_of_inner_rate.WarnOfInnerRate().on_epoch_end(
            1, {"loss": 0.6, "adapted_loss": 0.5}
        )


def test_a_fit_that_fails_leaves_the_weights():
    x, y = data()
    outer = wrapped(inner())
    before = outer.get_weights()
    with pytest.raises(Exception):  # noqa: B017  # whatever the backend raises
        outer.fit({**x, "acc": x["acc"][:, :, :1]}, y, verbose=0)
    for a, b in zip(before, outer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.isfinite(outer.fit(x, y, verbose=0).history["loss"]).all()


class Own(keras.Model):
    """A model with a step of its own."""

    def call(self, x):
        return x["acc"][:, 0, :1]

    def train_step(self, *arguments):
        return super().train_step(*arguments)


def test_what_cannot_work_is_refused():
    x, y = data()
    with pytest.raises(ValueError, match="`model` must not have a `train_step` of its own"):
        m3s.M3S(Own())
    outer = wrapped(inner())
    with pytest.raises(ValueError, match="infinity in 'gyro', first in row 3"):
        outer.fit(
            {**x, "gyro": np.where(np.arange(ROWS)[:, None, None] == 3, np.inf, x["gyro"])}, y
        )
    with pytest.raises(ValueError, match="Flatten the structure"):
        outer.predict({"acc": {"left": x["acc"]}, "gyro": x["gyro"]}, verbose=0)
    single = wrapped(inner("single"), modalities=None)
    with pytest.raises(ValueError, match="one tensor whose channels"):
        single.fit(np.concatenate(list(x.values()), -1), y, verbose=0)
    with pytest.warns(UserWarning, match="Without `draws` in the inputs, `evaluate` cuts no holes"):
        outer.evaluate(x, y, verbose=0)


def test_names_that_the_model_does_not_have_are_refused():
    x, y = data()
    typo = m3s.M3S(inner(), m3s.MissingModality({"acc": 0.5, "gyr": 0.5}))
    typo.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match=r"inputs of the model, \('acc', 'gyro'\). .*'gyr'"):
        typo.fit(x, y, verbose=0)
    nameless = [keras.Input((10, 2)) for _ in NAMES]
    for names, match in (("ab", "a list of Inputs with these names"), (None, None)):
        layer = m3s.MissingModality(dict.fromkeys("ab", 0.5), modalities=None if names else "ab")
        joined = keras.layers.Flatten()(keras.layers.Concatenate()(nameless))
        outer = m3s.M3S(keras.Model(nameless, keras.layers.Dense(1)(joined)), layer)
        outer.compile("sgd", loss="mse")
        if match is None:
            outer.fit(list(x.values()), y, verbose=0)
            continue
        with pytest.raises(ValueError, match=match):
            outer.fit(list(x.values()), y, verbose=0)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="elsewhere Keras exports it")
def test_a_saved_model_of_several_inputs_from_torch_is_refused(tmp_path):
    outer = wrapped(inner())
    with pytest.raises(ValueError, match="a single input for Keras to export a SavedModel"):
        outer.export(tmp_path / "served", verbose=False)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras exports no dict from PyTorch")
def test_an_exported_wrapper_takes_nan(tmp_path):
    tf = pytest.importorskip("tensorflow")
    x, y = data()
    outer = wrapped(inner(), fill=0.5)
    outer.fit(x, y, verbose=0)
    x["acc"][:, :4] = np.nan
    outer.export(tmp_path / "served", verbose=False)
    program = tf.saved_model.load(str(tmp_path / "served"))
    served = program.serve({name: tf.constant(value) for name, value in x.items()})
    np.testing.assert_allclose(served.numpy(), outer.predict(x, verbose=0), rtol=1e-5)


def test_rates_on_a_schedule():
    x, y = data()
    outer = wrapped(inner())
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append(outer.missing.missing_rate["acc"])

    schedule = m3s.MissingRateSchedule(lambda epoch: (0.0, 0.1 * epoch))
    outer.fit(x, y, epochs=3, callbacks=[schedule, Seen()], verbose=0)
    assert seen == [(0.0, 0.0), (0.0, 0.1), (0.0, 0.2)]
    state = ops.convert_to_numpy(outer.missing._rate_state)
    np.testing.assert_allclose(state[:, 1], 0.2, rtol=1e-6)
