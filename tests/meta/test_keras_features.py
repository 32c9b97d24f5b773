"""Whatever a `keras.Model` can do, `MetaModel` and `M3S` can."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_m3s as m3s
from keras_m3s.layers.recurrent import LSTM
from keras_m3s.utils.backend import set_random_seed

BACKEND = keras.backend.backend()


def data(rows=12, steps=6, seed=0):
    rng = np.random.default_rng(seed)
    x = {
        m: rng.normal(size=(rows, steps, 3)).astype("float32") for m in ("audio", "vision", "text")
    }
    return x, sum(v.mean((1, 2)) for v in x.values())[:, None].astype("float32")


def network(dropout=0.0, normalize=False, regularizer=None):
    """A functional model over the three modalities."""
    inputs = {m: keras.Input((6, 3), name=m) for m in ("audio", "vision", "text")}
    hidden = keras.layers.Concatenate()([inputs[m] for m in ("audio", "vision", "text")])
    hidden = keras.layers.Flatten()(hidden)
    hidden = keras.layers.Dense(8, "tanh", kernel_regularizer=regularizer, name="body")(hidden)
    if normalize:
        hidden = keras.layers.BatchNormalization()(hidden)
    hidden = keras.layers.Dropout(dropout, seed=3)(hidden)
    return keras.Model(inputs, keras.layers.Dense(1, name="head")(hidden))


def build(kind="m3s", optimizer=None, compile_args=None, **network_args):
    model = network(**network_args)
    if kind == "with_missing":
        outer = m3s.WithMissing(model, m3s.MissingModality(seed=1))
    elif kind == "meta":
        outer = m3s.MetaModel(model, 2, 0.05)
    else:
        outer = m3s.M3S(model, m3s.MissingModality(seed=1), 2, 0.05)
    outer.compile(
        optimizer or keras.optimizers.Adam(0.01), **{"loss": "mse", **(compile_args or {})}
    )
    return outer


KINDS = ("with_missing", "meta", "m3s")


@pytest.mark.parametrize("kind", KINDS)
def test_fit_evaluate_predict(kind):
    x, y = data()
    model = build(kind, keras.optimizers.Adam(0.05), {"metrics": ["mae"]})
    history = model.fit(x, y, validation_data=(x, y), epochs=10, batch_size=12, verbose=0).history
    adapted = set() if kind == "with_missing" else {"adapted_loss"}
    assert set(history) == {"loss", "mae", "val_loss", "val_mae"} | adapted
    assert history["val_loss"][-1] < 0.7 * history["val_loss"][0]
    results = model.evaluate(x, y, return_dict=True, verbose=0)
    predicted = model.predict(x, verbose=0)
    np.testing.assert_allclose(results["loss"], np.mean((predicted - y) ** 2), rtol=1e-4)
    np.testing.assert_allclose(results["mae"], np.mean(np.abs(predicted - y)), rtol=1e-4)


def test_a_built_model_is_not_built_again():
    """On JAX that would be a call of the model, operation by operation."""

    class Counted(keras.Model):
        calls = 0

        def call(self, inputs):
            self.calls += 1
            return ops.mean(inputs["audio"], axis=(1, 2))

    x, _ = data()
    model = Counted()
    model.predict(x, verbose=0)
    before = model.calls
    m3s.WithMissing(model, m3s.MissingModality(seed=1)).predict(x, verbose=0)
    assert model.built and model.calls == before + 1


@pytest.mark.parametrize("kind", KINDS)
def test_save_and_load_keep_everything(kind, tmp_path):
    """Saved after one epoch and loaded, it trains on exactly as if never interrupted."""
    x, y = data()
    model = build(kind, dropout=0.3, normalize=True)
    model.fit(x, y, batch_size=6, epochs=1, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    for m in (model, loaded):
        m.fit(x, y, batch_size=6, epochs=2, shuffle=False, verbose=0)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_file_keeps_the_seed_state(kind, tmp_path):
    x, y = data()
    model = build(kind, dropout=0.5)
    model.fit(x, y, batch_size=6, epochs=1, shuffle=False, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    other = build(kind, dropout=0.5)
    other.run_eagerly = BACKEND == "tensorflow"
    other.fit(x, y, batch_size=12, epochs=1, verbose=0)
    other.load_weights(tmp_path / "model.weights.h5")
    for ours, theirs in zip(
        model.non_trainable_variables, other.non_trainable_variables, strict=True
    ):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))


def test_same_seed_same_numbers():
    x, y = data()
    runs = []
    for _ in range(2):
        set_random_seed(5)
        model = build(dropout=0.2)
        runs.append(model.fit(x, y, batch_size=4, epochs=2, verbose=0).history["loss"])
    assert runs[0] == runs[1]


def test_fresh_holes_each_step():
    x, y = data()
    model = build(optimizer=keras.optimizers.SGD(0.0))
    losses = [model.train_on_batch(x, y) for _ in range(3)]
    assert len({float(np.round(np.ravel(loss)[0], 7)) for loss in losses}) == 3


def test_support_draws_serve_all_inner_steps():
    """Line 3 of Algorithm 1 comes before the loop: K does not change how often seeds advance."""
    x, y = data()
    states = []
    for steps in (0, 1, 3):
        model = m3s.M3S(network(), m3s.MissingModality(seed=1), steps, 0.1)
        model.compile("sgd", loss="mse")
        model.train_on_batch(x, y)
        states.append(ops.convert_to_numpy(model.missing.seed_generator.state).tolist())
    assert states[0] == states[1] == states[2]


@pytest.mark.once  # PyTorch runs what the others trace, where a loop is traced once
def test_holes_are_made_once_a_step(monkeypatch):
    x, y = data()
    made, call = [], m3s.MissingModality.call
    monkeypatch.setattr(
        m3s.MissingModality, "call", lambda self, *args: made.append(1) or call(self, *args)
    )
    model = m3s.M3S(network(), m3s.MissingModality(seed=1), 3, 0.1)
    model.compile("sgd", loss="mse")
    for step in (1, 2):
        made.clear()
        model.train_on_batch(x, y)
        assert step == 1 or len(made) == 2, "one for the support rows, one for the query rows"


def test_draws_in_the_batch_decide():
    x, y = data()
    x = {**x, "draws": m3s.missing.fixed_draws(12, seed=0)}
    model = build(optimizer=keras.optimizers.SGD(0.0))
    assert model.train_on_batch(x, y) == pytest.approx(model.train_on_batch(x, y))
    full = {name: value for name, value in x.items() if name != "draws"}
    assert not np.allclose(model.predict(x, verbose=0), model.predict(full, verbose=0))


def test_sample_weights():
    """Rows of weight 0 might as well not be there."""
    x, y = data(8)
    weight = np.array([1, 1, 0, 0, 1, 1, 0, 0], "float32")
    kept = weight > 0
    results = []
    for rows, w in ((slice(None), weight), (kept, weight[kept])):
        set_random_seed(0)
        model = m3s.MetaModel(network(), 1, 0.1)
        model.compile(
            keras.optimizers.SGD(0.1), loss=keras.losses.MeanSquaredError(reduction="sum")
        )
        model.train_on_batch({k: v[rows] for k, v in x.items()}, y[rows], sample_weight=w)
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_regulariser_counts_in_inner_and_outer_loss():
    """A head of zeros and a target of zeros leave the L2 term alone: theta shrinks in closed form."""
    x, y = data()
    model = network(regularizer=keras.regularizers.L2(0.1))
    head = model.get_layer("head")
    head.kernel.assign(np.zeros(head.kernel.shape))
    kernel = ops.convert_to_numpy(model.get_layer("body").kernel)
    for first_order, factor in ((True, 0.8**2), (False, 0.8**4)):
        model.get_layer("body").kernel.assign(kernel)
        meta = m3s.MetaModel(model, 2, 1.0, first_order=first_order)
        meta.compile(keras.optimizers.SGD(0.5), loss="mse")
        meta.train_on_batch(x, np.zeros_like(y))
        expected = kernel * (1 - 0.5 * 0.2 * factor)
        np.testing.assert_allclose(model.get_layer("body").kernel, expected, rtol=1e-5)


class AddsLoss(keras.Model):
    """Its only loss is added in `call`."""

    def __init__(self):
        super().__init__()
        self.theta = self.add_weight(shape=(), initializer=keras.initializers.Constant(2.0))

    def call(self, inputs):
        self.add_loss(0.5 * ops.square(self.theta - ops.mean(inputs)))
        return inputs


@pytest.mark.parametrize("kind", ["meta", "with_missing"])
def test_added_loss_counts(kind):
    model = AddsLoss()
    x = np.array([[1.0], [4.0]], "float32")
    if kind == "meta":
        outer, expected = m3s.MetaModel(model, 1, 0.5), 2 - 0.1 * ((1 + 0.5 * (2 - 1)) - 4)
    else:
        outer, expected = m3s.WithMissing(model), 2 - 0.1 * (2 - 2.5)
    outer.compile(keras.optimizers.SGD(0.1))
    outer.train_on_batch(x, x)
    np.testing.assert_allclose(ops.convert_to_numpy(model.theta), expected, rtol=1e-6)
    assert outer.evaluate(x, x, verbose=0) == pytest.approx(0.5 * (expected - 2.5) ** 2, rel=1e-5)


def test_batch_statistics_run_through_all_passes():
    x, y = data()
    model = network(normalize=True)
    moving = next(v for v in model.non_trainable_variables if "moving_mean" in v.path)
    meta = m3s.MetaModel(model, 2, 0.0)
    meta.compile(keras.optimizers.SGD(0.0), loss="mse")
    layer = next(la for la in model.layers if isinstance(la, keras.layers.BatchNormalization))
    body = keras.Model(model.inputs, layer.input)
    hidden = ops.convert_to_numpy(body([x[tensor.name] for tensor in model.inputs]))
    meta.train_on_batch(x, y)
    expected = 0.0
    for rows in (hidden[0::2], hidden[0::2], hidden[1::2]):
        expected = 0.99 * expected + 0.01 * rows.mean(0)
    np.testing.assert_allclose(ops.convert_to_numpy(moving), expected, rtol=1e-4, atol=1e-6)


class TwoHeads(keras.Model):
    def __init__(self):
        super().__init__()
        self.a, self.b = keras.layers.Dense(1), keras.layers.Dense(3)

    def call(self, inputs, training=None):
        hidden = ops.concatenate([ops.mean(inputs[m], 1) for m in ("audio", "vision", "text")], -1)
        return {"score": self.a(hidden), "kind": self.b(hidden)}


def test_dict_outputs_with_a_loss_and_a_metric_each():
    x, y = data()
    targets = {"score": y, "kind": (y[:, 0] > 0).astype("int32")}
    model = m3s.M3S(TwoHeads(), m3s.MissingModality(seed=0), 1, 0.01)
    model.compile(
        "adam",
        loss={"score": "mse", "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
        loss_weights={"score": 1.0, "kind": 0.5},
        metrics={"score": ["mae"], "kind": ["sparse_categorical_accuracy"]},
    )
    history = model.fit(
        x, targets, epochs=2, batch_size=4, validation_data=(x, targets), verbose=0
    ).history
    assert {"loss", "score_loss", "kind_loss", "score_mae", "val_kind_loss"} <= set(history)
    np.testing.assert_allclose(
        history["val_loss"][-1],
        history["val_score_loss"][-1] + 0.5 * history["val_kind_loss"][-1], rtol=1e-5,
    )  # fmt: skip
    assert model.predict(x, verbose=0)["kind"].shape == (12, 3)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(0.01, clipvalue=0.1),
        lambda: keras.optimizers.AdamW(0.01, global_clipnorm=1.0, weight_decay=0.1),
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_overwrite_frequency=2),
        lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
        lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)),
    ],
    ids=["clipvalue", "adamw", "ema", "accumulation", "schedule"],
)
def test_optimizer_options_match_the_plain_model(optimizer):
    """With K = 0 the meta step on interleaved rows is the plain step on the query rows."""
    x, y = data(8)
    query = {k: v[1::2] for k, v in x.items()}
    set_random_seed(0)
    meta = m3s.MetaModel(network(), 0)
    meta.compile(optimizer(), loss="mse")
    set_random_seed(0)
    plain = network()
    plain.compile(optimizer(), loss="mse", run_eagerly=BACKEND == "tensorflow")
    meta.fit(x, y, batch_size=8, epochs=4, shuffle=False, verbose=0)
    plain.fit(query, y[1::2], batch_size=4, epochs=4, shuffle=False, verbose=0)
    for a, b in zip(meta.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_callbacks_and_early_stopping():
    x, y = data()
    model = build()
    stop = keras.callbacks.EarlyStopping("val_loss", min_delta=1e9, patience=1)
    plateau = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, min_delta=1e9, patience=1)
    model.fit(x, y, epochs=9, validation_data=(x, y), callbacks=[plateau, stop], verbose=0)
    assert stop.stopped_epoch == 1
    np.testing.assert_allclose(
        float(ops.convert_to_numpy(model.optimizer.learning_rate)), 0.005, rtol=1e-6
    )


@pytest.mark.skipif(BACKEND == "torch", reason="Keras does not offer it on torch")
def test_steps_per_execution():
    x, y = data()
    results = []
    for steps in (1, 2):
        set_random_seed(0)
        model = build(compile_args={"steps_per_execution": steps})
        model.fit(x, y, batch_size=3, epochs=2, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    x, y = data()
    keras.config.set_dtype_policy(policy)
    try:
        model = build()
    finally:
        keras.config.set_dtype_policy("float32")
    holed = {**x, "draws": m3s.missing.fixed_draws(len(y), seed=0)}
    before = model.evaluate(holed, y, verbose=0)
    loss = model.fit(x, y, epochs=30, batch_size=12, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
    assert model.evaluate(holed, y, verbose=0) < 0.8 * before
    assert all(v.dtype == "float32" for v in model.trainable_variables)


def test_inner_overflow_in_float16_is_a_step_not_taken():
    """Scaled by 2^15 an inner gradient of 4 overflows float16: theta stays finite."""
    x, y = data()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build()
    finally:
        keras.config.set_dtype_policy("float32")
    model.fit(x, y * 1e4, epochs=3, batch_size=12, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_odd_rows_and_a_last_batch_of_one():
    x, y = data(9)
    model = build()
    loss = model.fit(x, y, batch_size=4, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(loss).all()


def test_the_wrapped_model_stays_a_plain_model():
    """Wrapping must not rewrite classes, nor keep the model from being used by itself."""
    x, y = data()
    bases = m3s.M3S.__mro__
    inner = network()
    meta = m3s.M3S(inner, m3s.MissingModality(seed=0), 1, 0.1)
    meta.compile("sgd", loss="mse")
    meta.fit(x, y, verbose=0)
    assert m3s.M3S.__mro__ == bases
    np.testing.assert_array_equal(inner.predict(x, verbose=0), meta.predict(x, verbose=0))


def test_inner_learning_rates_by_path():
    x, y = data()
    model = network()
    meta = m3s.MetaModel(model, 1, {"body": 0.0, "": 0.2})
    assert meta.inner_rates() == [
        0.0 if "body" in v.path else 0.2 for v in model.trainable_variables
    ]
    with pytest.raises(ValueError, match="Variables without one: .*head"):
        m3s.MetaModel(model, 1, {"body": 0.1}).inner_rates()
    with pytest.raises(ValueError, match=r"without a variable: \['tail'\]"):
        m3s.MetaModel(model, 1, {"tail": 0.1, "": 0.2}).inner_rates()
    meta.compile("sgd", loss="mse")
    meta.train_on_batch(x, y)


class Remembers(keras.Model):
    """Counts its training passes twice: as state, and as a memory."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.passes = self.add_weight(shape=(), trainable=False, initializer="zeros", name="passes")
        self.memory = self.add_weight(shape=(), trainable=False, initializer="zeros", name="memory")

    @property
    def memories(self):
        return [self.memory]

    def call(self, inputs, training=None):
        if training:
            self.passes.assign_add(1.0)
            self.memory.assign_add(1.0)
        return self.dense(inputs)


def test_memories_are_written_by_the_query_pass_only():
    model = Remembers()
    meta = m3s.MetaModel(model, 3, 0.1)
    meta.compile("sgd", loss="mse")
    x = np.ones((4, 2), "float32")
    meta.fit(x, x[:, :1], batch_size=4, epochs=2, verbose=0)
    assert float(ops.convert_to_numpy(model.passes)) == 8
    assert float(ops.convert_to_numpy(model.memory)) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: m3s.M3S(3), "`model` must be a keras.Model. Received: int"),
        (lambda: m3s.MetaModel(network(), -1), "`inner_steps` must be an int >= 0"),
        (lambda: m3s.MetaModel(network(), 1, -0.1), "`inner_learning_rate` must be"),
        (lambda: m3s.MetaModel(network(), 1, float("nan")), "`inner_learning_rate` must be"),
        (lambda: m3s.WithMissing(network(), 0.5), "`missing` must be"),
        (lambda: m3s.M3S(network(), site="middle"), "`site` must be one of"),
        (lambda: m3s.M3S(network(), site="encoded"), "must have `encode"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_no_loss_is_an_error():
    x, y = data()
    model = m3s.M3S(network())
    model.compile("sgd")
    with pytest.raises(ValueError, match="There must be a loss to train on"):
        model.train_on_batch(x, y)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="others have one compiler")
def test_xla_differentiates_inner_steps_of_a_recurrent_model():
    """Second order through two of them: the same numbers as without XLA."""
    x = np.random.default_rng(0).normal(size=(6, 4, 2)).astype("float32")
    found = []
    for xla in (False, True):
        set_random_seed(0)
        inputs = keras.Input((4, 2))
        model = keras.Model(inputs, keras.layers.Dense(1)(LSTM(3)(inputs)[1]))
        meta = m3s.MetaModel(model, 2, 0.5, first_order=False)
        meta.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=xla, run_eagerly=not xla)
        meta.fit(x, x[:, -1, :1], batch_size=6, verbose=0)
        found.append(meta.get_weights())
    for plain, compiled in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-5, atol=1e-6)
