"""What every base model must do, alone and inside M3S: one table of models times shared checks."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_m3s as m3s
from keras_m3s.models import LNLN, MISA, MMIM, MMIN, SelfMM, TFRNet
from keras_m3s.registry import models as cards
from keras_m3s.utils.backend import set_random_seed
from tests.models import parity

ROWS = 6
SIZES = {"audio": (9, 3), "vision": (8, 4), "text": (7, 5)}

SMALL = {
    "misa": lambda **k: MISA(hidden_size=6, transformer_size=8, **k),
    "mmim": lambda **k: MMIM(hidden_size=6, audio_hidden_size=4, vision_hidden_size=4, audio_size=4, vision_size=4, **k),
    "self_mm": lambda **k: SelfMM(ROWS, audio_hidden_size=4, vision_hidden_size=4, audio_size=4, vision_size=4, post_fusion_size=6, post_text_size=4, post_audio_size=4, post_vision_size=4, label_bound=3.0, **k),
    "mmin": lambda **k: MMIN(audio_size=4, vision_size=4, text_size=4, text_channels=3, classifier_layers=(5,), autoencoder_layers=(6, 4), n_blocks=2, mask_padding=True, **k),
    "lnln": lambda **k: LNLN(hidden_size=6, tokens=2, depth=1, heads=2, head_size=4, mask_padding=True, steps={"text": 60, "audio": 60, "vision": 60}, **k),
    "tfr_net": lambda **k: TFRNet(hidden_size=4, heads=2, attention_layers=1, self_attention_layers=1, text_size=4, audio_size=4, vision_size=4, gru_layers=1, classifier_size=4, mask_padding=True, **k),
}  # fmt: skip

# TensorFlow takes longer to trace a step of M3S than to do two of them; one test a model traces.
EAGERLY = keras.backend.backend() == "tensorflow"

# Of five rows three have a hole in each modality, one lacks whole modalities, one is complete.
MIXED = {"span": 0.6, "modality": 0.2, "none": 0.2}

# Wrapper, its options, and how its holes are made: what a model must allow is tried together.
OPTIONS = {
    "MLDG": (m3s.M3S, {"outer": "both"}, {"rescale": True}),
    "complete teacher": (m3s.WithMissing, {"teacher": "complete"}, {"pattern": MIXED}),
    "MAML++": (m3s.M3S, {"outer": "every_step", "inner_steps": 2}, {"pattern": MIXED}),
    "consistent M3S": (m3s.M3S, {"consistency": 1.0, "same_rows": True}, {"fill": "learned"}),
    "consistency": (m3s.WithMissing, {"consistency": 1.0}, {"fill": "learned"}),
    "average teacher": (m3s.WithMissing, {"teacher": "average"}, {"rescale": True}),
    "Reptile": (m3s.M3S, {"outer": "reptile", "inner_steps": 2}, {}),
    "Meta-SGD": (m3s.M3S, {"learn_inner_rates": True, "tasks": 3}, {}),
    "inner Adam": (m3s.M3S, {"inner_optimizer": "adam", "inner_steps": 2}, {}),
}

# Where a step is compiled first, each model has its holes at one site, each site two models.
SITES = ("raw", "encoded")
COMPILED = keras.backend.backend() != "torch"

assert set(SMALL) == set(cards.CARDS), "every model with a card keeps the contract"

pytestmark = pytest.mark.parametrize("name", SMALL)


def batch(name, rows=ROWS, more_steps=0):
    """Unequal lengths, zeros after them; labels of the model's kind."""
    rng = np.random.default_rng(0)
    x = {"index": np.arange(rows, dtype="int32")}
    for modality, (steps, dim) in SIZES.items():
        length = rng.integers(1, steps + 1, rows).astype("int32")
        features = rng.normal(size=(rows, steps, dim)).astype("float32")
        features[np.arange(steps) >= length[:, None]] = 0
        x[modality] = np.pad(features, ((0, 0), (0, more_steps), (0, 0)))
        x[f"{modality}_length"] = length
    score = np.round(rng.normal(size=(rows, 1)), 1).astype("float32")
    return x, (score[:, 0] > 0).astype("int32") if name == "mmin" else score


def wrapped(name, site="raw", seed=0, eagerly=EAGERLY, **arguments):
    set_random_seed(seed)
    missing = m3s.MissingModality((0.3, 0.7), "time" if site == "raw" else "feature", seed=seed)
    outer = m3s.M3S(SMALL[name](**arguments), missing, 2, 1e-3, site=site)
    outer.compile(keras.optimizers.SGD(1e-3, momentum=0.9), run_eagerly=eagerly)
    return outer


def values(model):
    return [np.array(ops.convert_to_numpy(v)) for v in model.variables]


def assert_equal(a, b):
    for ours, theirs in zip(a, b, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_fit_alone_with_its_published_optimizer_and_loss(name):
    x, y = batch(name)
    model = SMALL[name]()
    model.compile(model.published_optimizer(), metrics=model.task_metrics())
    parity.built(model, x)
    model.optimizer.build(model.trainable_variables)  # TensorFlow traces twice what makes variables
    before = [np.array(ops.convert_to_numpy(v)) for v in model.trainable_variables]
    # Self-MM steps once in four batches.
    history = model.fit(x, y, batch_size=1, epochs=2, validation_data=(x, y),
                        callbacks=model.training_callbacks((x, y)), verbose=0).history  # fmt: skip
    assert all(np.isfinite(v).all() for v in history.values())
    assert model.monitor in history
    assert any((a != b).any() for a, b in zip(before, map(ops.convert_to_numpy, model.trainable_variables), strict=True))  # fmt: skip


@pytest.mark.once
def test_the_seed_makes_the_weights(name):
    x, _ = batch(name)
    outers = [parity.built(wrapped(name, seed=seed), x) for seed in (0, 0, 1)]
    first, again, other = map(values, outers)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def assert_degenerate_rows_are_finite(outer, x, y):
    """Constant and empty rows, one class without examples: the compiled step, with nothing new."""
    x = {**x, **{m: np.zeros_like(x[m]) for m in SIZES}}
    x["audio_length"] = x["vision_length"] = x["text_length"] = np.array(
        [0, 0, 1, 1, 2, 2], "int32"
    )
    for labels in (np.zeros_like(y), np.ones_like(y)):
        assert np.isfinite(outer.train_on_batch(x, labels)).all()
    assert all(np.isfinite(v).all() for v in values(outer))


@pytest.mark.parametrize("site", SITES)
def test_m3s_goes_on_after_loading(name, site, tmp_path):
    """Saved after a step and loaded, or set back, it takes the next step with the same numbers.

    What is loaded is what was saved; on PyTorch, which compiles nothing, it takes the step too.
    """
    if COMPILED and site != SITES[list(SMALL).index(name) % 2]:
        pytest.skip("this model has its holes at the other site")
    x, y = batch(name)
    outer = wrapped(name, site, eagerly=False)
    path = tmp_path / "model.keras"
    losses = [outer.train_on_batch(x, y)]
    if name == "mmim":  # two inner steps went before; Self-MM's memory has its test there
        assert int(ops.convert_to_numpy(outer.model.batches_seen)) == 1
        for mi in outer.model.mi.values():
            counts = ops.convert_to_numpy(mi.memory.count)[0].tolist()
            assert counts == [(y[1::2] > 0).sum(), (y[1::2] < 0).sum()]
    outer.save(path)
    everything = [*outer.variables, *outer.optimizer.variables]
    before = [np.array(ops.convert_to_numpy(v)) for v in everything]
    losses.append(outer.train_on_batch(x, y))
    assert np.isfinite(losses).all()
    moved = values(outer)

    loaded = keras.saving.load_model(path)
    assert_equal(
        before, map(ops.convert_to_numpy, [*loaded.variables, *loaded.optimizer.variables])
    )
    for variable, value in zip(everything, before, strict=True):
        variable.assign(value)
    assert any((a != b).any() for a, b in zip(moved, values(outer), strict=True))
    holed = {**x, "draws": m3s.missing.fixed_draws(ROWS, seed=1)}
    outer.run_eagerly = loaded.run_eagerly = EAGERLY
    predicted = outer.predict(holed, verbose=0)
    assert predicted.shape == (ROWS, 4 if name == "mmin" else 1)
    assert_equal(loaded.predict(holed, verbose=0), predicted)

    outer.train_on_batch(x, y)
    for a, b in zip(moved, values(outer), strict=True):
        np.testing.assert_array_equal(a, b)
    if not COMPILED:
        loaded.train_on_batch(x, y)
        assert_equal(moved, values(loaded))
    assert_degenerate_rows_are_finite(outer, x, y)


@pytest.mark.parametrize("option", OPTIONS)
def test_options_are_trained_saved_and_gone_on_with(name, option, tmp_path):
    """Each option with each model on PyTorch, with a light one where a step is traced first."""
    light = list(SMALL)[:4]
    if COMPILED and light[list(OPTIONS).index(option) % len(light)] != name:
        pytest.skip("this option is tried with another model")
    wrapper, arguments, holes = OPTIONS[option]
    x, y = batch(name)
    set_random_seed(0)
    missing = m3s.MissingModality((0.3, 0.7), seed=0, **holes)
    # What has a learned rate must be trainable from the first call on.
    model = SMALL[name](
        **({"mi_gradients": True} if (name, option) == ("mmim", "Meta-SGD") else {})
    )
    outer = wrapper(model, missing, **arguments)
    averages = arguments.get("teacher") == "average"
    outer.compile(keras.optimizers.Adam(1e-3, use_ema=averages), run_eagerly=EAGERLY)
    parity.built(outer, x)
    before = values(outer)
    assert np.isfinite([outer.train_on_batch(x, y), outer.train_on_batch(x, y)]).all()
    after = values(outer)
    assert all(np.isfinite(v).all() for v in after)
    assert any((a != b).any() for a, b in zip(before, after, strict=True))

    outer.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_equal(after, values(loaded))
    if not COMPILED:
        holed = {**x, "draws": m3s.missing.fixed_draws(ROWS, seed=1)}
        assert_equal(loaded.predict(holed, verbose=0), outer.predict(holed, verbose=0))
        np.testing.assert_allclose(
            loaded.train_on_batch(x, y), outer.train_on_batch(x, y), rtol=1e-5
        )
        assert_equal(values(outer), values(loaded))


@pytest.mark.once
def test_batch_of_one(name):
    """In M3S; alone, `fit` above takes one row at a time on every backend."""
    x, y = batch(name, rows=1)
    outer = wrapped(name)
    assert np.isfinite([outer.train_on_batch(x, y), outer.train_on_batch(x, y)]).all()
    assert all(np.isfinite(v).all() for v in values(outer))


@pytest.mark.once
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="of PyTorch's exporter")
def test_a_wrapped_model_is_exported_to_onnx(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    x, _ = batch(name)
    names = [*SIZES, *(f"{m}_length" for m in SIZES)]
    x = {k: x[k] for k in names}
    outer = parity.built(wrapped(name), x)
    expected = outer.predict(x, verbose=0)
    outer.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    given = [one.name for one in session.get_inputs()]
    (found,) = session.run(None, {k: x[k] for k in given})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.once
def test_wrong_batches_are_named(name):
    x, _ = batch(name)
    model = parity.built(SMALL[name](), x)
    for modality in SIZES:
        with pytest.raises(ValueError, match=f"`inputs` must hold .*{modality}"):
            model({k: v for k, v in x.items() if k != modality})
    vector = {**x, "audio": x["audio"][:, 0]}
    for one in (SMALL[name](), model):
        with pytest.raises(ValueError, match=r"\(batch, steps, (dim|features)\).*\(6, 3\)"):
            one(vector)


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="TensorFlow is strict where JAX promotes"
)
def test_mixed_bfloat16(name):
    """The model's own step: inner steps in half precision are M3S's matter, whatever the model."""
    x, y = batch(name)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        outer = m3s.WithMissing(SMALL[name](), m3s.MissingModality((0.3, 0.7), seed=0))
        outer.compile(keras.optimizers.Adam(1e-3), run_eagerly=EAGERLY)
        assert np.isfinite([outer.train_on_batch(x, y), outer.train_on_batch(x, y)]).all()
    finally:
        keras.config.set_dtype_policy("float32")
    assert all(v.dtype == "float32" for v in outer.trainable_variables)
    assert all(np.isfinite(v).all() for v in values(outer))


def test_padding_never_matters(name):
    (x, _), (padded, _) = batch(name), batch(name, more_steps=50)
    model = SMALL[name]()
    parity.built(model, x)
    # No step goes beyond what is encoded. And MMIN is born with outputs near 0, which tell little.
    encode = parity.whole(lambda m, x: m.encode(x, training=False), model)
    short, long = encode(x), encode(padded)
    keras.tree.map_structure(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), short, long)


def test_what_is_missing_is_not_read(name):
    """With everything missing in the raw input, all rows are encoded alike."""
    x, _ = batch(name)
    for modality in SIZES:
        x[f"{modality}_length"][:] = SIZES[modality][0]
    holed = m3s.MissingModality(1.0)({**x, "draws": m3s.missing.fixed_draws(ROWS, seed=0)})
    model = SMALL[name]()
    parity.built(model, x)
    encode = parity.whole(lambda m, x: m.encode(x, training=False), model)
    holed, full = encode(holed), encode(x)
    for modality in SIZES:
        assert np.ptp(holed[modality], axis=0).max() < 1e-6
        assert np.ptp(full[modality], axis=0).max() > 1e-3


def test_every_argument_is_in_the_config(name):
    model = SMALL[name]()
    config = model.get_config()
    assert type(model).from_config(config).get_config() == config
