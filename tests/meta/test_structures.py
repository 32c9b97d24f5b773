"""What a `keras.Model` can do, wrapped, for inputs that are a dict, a list or a single tensor.

`test_keras_features.py` has more of each for a dict, with the numbers that must come out.
"""

import keras
import numpy as np
import pytest
from keras import ops

import keras_m3s as m3s

BACKEND = keras.backend.backend()
STRUCTURES = ("dict", "list", "single")
NAMES = ("acc", "gyro")
ROWS = 16

structures = pytest.mark.parametrize("structure", STRUCTURES)
wrappers = pytest.mark.parametrize("wrapper", [m3s.WithMissing, m3s.M3S])


def arrays(structure):
    """Inputs with NaN, and labels."""
    rng = np.random.default_rng(0)
    x = {name: rng.normal(size=(ROWS, 5, 2)).astype("float32") for name in NAMES}
    y = x["acc"].mean((1, 2))[:, None]
    x["gyro"][::3, 1:4] = np.nan
    if structure == "single":
        return np.concatenate([*x.values()], axis=-1), y
    return (x if structure == "dict" else [*x.values()]), y


def network(structure, heads=1):
    if structure == "single":
        inputs = joined = keras.Input((5, 4))
    else:
        named = {name: keras.Input((5, 2), name=name) for name in NAMES}
        inputs = named if structure == "dict" else [*named.values()]
        joined = keras.layers.Concatenate()([*named.values()])
    hidden = keras.layers.Dense(6, "tanh")(keras.layers.Flatten()(joined))
    outputs = {f"y{i}": keras.layers.Dense(1, name=f"y{i}")(hidden) for i in range(heads)}
    return keras.Model(inputs, outputs if heads > 1 else outputs["y0"])


def wrapped(structure, wrapper=m3s.M3S, heads=1, **settings):
    modalities = {"acc": slice(0, 2), "gyro": slice(2, 4)} if structure == "single" else None
    layer = m3s.MissingModality((0.2, 0.6), modalities=modalities, seed=0)
    outer = wrapper(network(structure, heads), layer)
    settings = {"optimizer": keras.optimizers.Adam(0.01), "loss": "mse", **settings}
    outer.compile(**settings)
    return outer


def weights(model):
    return [ops.convert_to_numpy(v) for v in model.trainable_variables]


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@structures
@wrappers
def test_fit_evaluate_predict_and_callbacks(structure, wrapper, tmp_path):
    x, y = arrays(structure)
    model = wrapped(structure, wrapper, metrics=["mae"], weighted_metrics=["mse"])
    best = tmp_path / "best.keras"
    callbacks = [
        keras.callbacks.EarlyStopping("val_loss", min_delta=1e9, patience=1),
        keras.callbacks.ModelCheckpoint(best, monitor="val_loss", save_best_only=True),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.TerminateOnNaN(),
    ]
    history = model.fit(
        x, y, batch_size=8, epochs=5, validation_data=(x, y), callbacks=callbacks, verbose=0
    ).history
    assert len(history["loss"]) == 2, "it stops early"
    assert {"mae", "mse", "val_mae", "val_mse"} <= set(history)
    found = model.evaluate(x, y, batch_size=8, return_dict=True, verbose=0)
    predicted = model.predict(x, batch_size=8, verbose=0)
    np.testing.assert_allclose(found["mae"], np.abs(predicted - y).mean(), rtol=1e-5)
    loaded = keras.saving.load_model(best)
    assert loaded.predict(x, verbose=0).shape == y.shape and best.stat().st_size > 0


@structures
def test_batch_methods_and_call(structure):
    x, y = arrays(structure)
    model = wrapped(structure, metrics=["mae"])
    logs = model.train_on_batch(x, y, return_dict=True)
    assert {"loss", "mae"} <= set(logs)
    model.reset_metrics()
    tested = model.test_on_batch(x, y, return_dict=True)
    predicted = ops.convert_to_numpy(model.predict_on_batch(x))
    np.testing.assert_allclose(tested["loss"], np.mean((predicted - y) ** 2), rtol=1e-5)
    tensors = keras.tree.map_structure(ops.convert_to_tensor, x)
    np.testing.assert_allclose(ops.convert_to_numpy(model(tensors)), predicted, rtol=1e-5)
    lines = []
    model.summary(print_fn=lines.append)
    assert lines and sum(w.size for w in weights(model)) == model.model.count_params()


@structures
@wrappers
def test_saved_loaded_and_its_weights(structure, wrapper, tmp_path):
    x, y = arrays(structure)
    model = wrapped(structure, wrapper)
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded, other = keras.saving.load_model(tmp_path / "model.keras"), wrapped(structure, wrapper)
    other.fit(x, y, batch_size=8, verbose=0)
    other.load_weights(tmp_path / "model.weights.h5")
    expected = model.predict(x, verbose=0)
    for same in (loaded, other):
        np.testing.assert_array_equal(same.predict(x, verbose=0), expected)
    for again in (model, loaded):
        again.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    assert_same(weights(model), weights(loaded))


@structures
def test_several_outputs_and_weights(structure):
    x, y = arrays(structure)
    model = wrapped(
        structure, heads=2, loss={"y0": "mse", "y1": "mae"}, loss_weights={"y0": 2.0, "y1": 0.5}
    )
    labels = {"y0": y, "y1": -y}
    row = np.linspace(0, 1, ROWS).astype("float32")
    logs = model.fit(x, labels, sample_weight={"y0": row, "y1": row}, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert set(model.predict(x, verbose=0)) == {"y0", "y1"}
    classes = (y[:, 0] > 0).astype("int32")
    binary = wrapped(structure, loss=keras.losses.BinaryCrossentropy(from_logits=True))
    logs = binary.fit(x, classes[:, None], class_weight={0: 1.0, 1: 3.0}, verbose=0).history
    assert np.isfinite(logs["loss"]).all()


class Rows(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 2

    def __getitem__(self, index):
        part = slice(8 * index, 8 * index + 8)
        return keras.tree.map_structure(lambda a: a[part], self.x), self.y[part]


def sources(structure, x, y):
    """The same batches from each kind of source."""
    x = tuple(x) if structure == "list" else x  # Keras on TensorFlow takes no lists from these
    yield "PyDataset", Rows(x, y)
    yield "generator", (Rows(x, y)[i] for i in (0, 1))
    tf = pytest.importorskip("tensorflow") if BACKEND == "tensorflow" else None
    if tf is not None:
        yield "tf.data", tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    if BACKEND == "torch":
        import torch

        rows = [
            keras.tree.map_structure(lambda a, i=i: torch.as_tensor(a[i]), (x, y))
            for i in range(ROWS)
        ]
        yield "loader", torch.utils.data.DataLoader(rows, batch_size=8)


@structures
def test_sources_of_batches(structure):
    x, y = arrays(structure)
    expected = None
    for name, source in sources(structure, x, y):
        keras.utils.set_random_seed(0)
        model = wrapped(structure)
        steps = {"steps_per_epoch": 2} if name == "generator" else {}
        model.fit(source, shuffle=False, verbose=0, **steps)
        if expected is None:
            expected = weights(model)
        for ours, theirs in zip(weights(model), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=name)


OPTIMIZERS = {
    "accumulation": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "ema": lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=2),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
}


@structures
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(structure, name):
    x, y = arrays(structure)
    model = wrapped(structure, optimizer=OPTIMIZERS[name]())
    before = weights(model)
    model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    assert all(np.isfinite(w).all() for w in weights(model))
    assert any((a != b).any() for a, b in zip(weights(model), before, strict=True))


@structures
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(structure, policy):
    x, y = arrays(structure)
    keras.config.set_dtype_policy(policy)
    try:
        model = wrapped(structure)
    finally:
        keras.config.set_dtype_policy("float32")
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert np.isfinite(model.predict(x, verbose=0).astype("float32")).all()
    assert all(np.isfinite(w).all() for w in weights(model))


@structures
def test_eager_and_compiled_are_the_same(structure):
    """Without drawn holes: XLA on TensorFlow draws other numbers than TensorFlow itself."""
    x, y = arrays(structure)
    found = []
    for settings in ({"run_eagerly": True}, {"jit_compile": BACKEND != "torch"}):
        keras.utils.set_random_seed(0)
        model = wrapped(structure, **settings)
        model.missing.missing_rate = 0.0
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        found.append(weights(model))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@structures
def test_what_tuners_and_wrappers_look_at(structure):
    x, y = arrays(structure)
    model = wrapped(structure, metrics=["mae"])
    assert model.loss == "mse" and model.optimizer is not None and model.compiled
    model.fit(x, y, verbose=0)
    assert {"loss", "compile_metrics"} <= {metric.name for metric in model.metrics}
    copy = type(model).from_config(model.get_config())
    assert copy.missing.modalities == model.missing.modalities
    copy.compile("sgd", loss="mse")
    copy.set_weights(model.get_weights())
    np.testing.assert_allclose(
        copy.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6, atol=1e-7
    )
    assert m3s.strip(model) is model.model
