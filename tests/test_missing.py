"""T(X;F): distribution of the holes, where they fall, and what they leave alone."""

import re

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from scipy import stats

from keras_m3s import MissingModality
from keras_m3s.missing import apply, fixed_draws, sample_draws
from keras_m3s.missing.patterns import span
from keras_m3s.modalities import MODALITIES

RATES = dict.fromkeys(MODALITIES, (0.4, 0.6))


def numpy(value):
    return ops.convert_to_numpy(ops.cast(value, "float32") if "16" in str(value.dtype) else value)


def batch(rows=4, steps=10, dim=3, dtype="float32"):
    x = {m: ops.cast(np.ones((rows, steps, dim)), dtype) for m in MODALITIES}
    return x | {f"{m}_length": np.full(rows, steps, "int32") for m in MODALITIES}


def holes(x, modality):
    """Start and length of the zeroed run of each row, by looking; rows must have one run at most."""
    zero = (numpy(x[modality]) == 0).all(-1)
    edges = np.diff(np.pad(zero, ((0, 0), (1, 1))).astype(int), axis=1)
    assert (np.abs(edges).sum(1) <= 2).all(), "more than one run"
    return edges.argmax(1), zero.sum(1)


@pytest.mark.parametrize("rate", [(0.0, 0.2), (0.4, 0.6), (0.8, 1.0)])
def test_distribution_of_lengths_and_starts(rate):
    """20,000 samples: k = floor(L r) with r ~ U(low, high), start uniform on 0 .. L-k."""
    size, rows = 50, 20_000
    draws = sample_draws(rows, 1, seed=3)
    start, stop = (numpy(v) for v in span(np.full(rows, size), draws[:, 0], rate))
    count = stop - start
    low, high = rate
    # floor(size * r) = k exactly when r lies in [k, k + 1) / size.
    possible = np.arange(size + 1)
    width = np.clip(
        np.minimum(high, (possible + 1) / size) - np.maximum(low, possible / size), 0, None
    )
    expected = width / (high - low) * rows
    # float32 may put a boundary of measure zero on its other side: such bins hold at most that.
    keep = expected > 1e-3
    observed = np.bincount(count, minlength=size + 1)
    assert observed[~keep].sum() == 0
    assert (
        stats.chisquare(observed[keep], expected[keep] * rows / expected[keep].sum()).pvalue > 1e-3
    )
    assert start.min() >= 0 and stop.max() <= size
    for k in np.flatnonzero(observed > 400):
        counts = np.bincount(start[count == k], minlength=size - k + 1)
        assert len(counts) == size - k + 1
        if len(counts) > 1:
            assert stats.chisquare(counts).pvalue > 1e-4, k


@settings(max_examples=200, deadline=None)
@given(
    length=st.integers(0, 400),
    low=st.floats(0, 1),
    width=st.floats(0, 1),
    draw=st.tuples(
        *[st.floats(0, float(np.nextafter(np.float32(1), np.float32(0))), width=32)] * 2
    ),
)
def test_span_lies_within_the_true_steps(length, low, width, draw):
    high = low + (1 - low) * width
    start, stop = span(np.array([length]), np.array([draw], "float32"), (low, min(high, 1.0)))
    start, stop = int(numpy(start)[0]), int(numpy(stop)[0])
    assert 0 <= start <= stop <= length
    assert np.floor(length * low - 1e-3) <= stop - start <= np.ceil(length * high + 1e-3)


def test_closed_form_of_one_draw():
    """r = 0.4 + 0.2 * 0.5 = 0.5, k = 5 of 10 steps; start = floor(6 * 0.5) = 3."""
    x = batch(1)
    out = apply(x, np.full((1, 3, 2), 0.5, "float32"), RATES)
    for m in MODALITIES:
        np.testing.assert_array_equal(numpy(out[m])[0, :, 0], [1, 1, 1, 0, 0, 0, 0, 0, 1, 1])


def test_each_modality_and_sample_has_its_own_hole():
    out = MissingModality((0.1, 0.9), seed=0)(batch(64, steps=100), training=True)
    runs = {m: holes(out, m) for m in MODALITIES}
    for start, count in runs.values():
        assert len(set(zip(start, count, strict=True))) > 32
    assert len({tuple(start) for start, _ in runs.values()}) == 3


def test_holes_fall_on_true_steps():
    x = batch(5)
    x["audio_length"] = np.array([0, 1, 4, 10, 99], "int32")
    out = MissingModality(1.0, seed=0)(x, training=True)
    zeroed = (numpy(out["audio"]) == 0).all(-1).sum(1)
    np.testing.assert_array_equal(zeroed, [0, 1, 4, 10, 10])
    zeroed = (numpy(MissingModality(0.5, seed=0)(x, training=True)["audio"]) == 0).all(-1)
    np.testing.assert_array_equal(zeroed.sum(1), [0, 0, 2, 5, 5])
    assert not zeroed[2, 4:].any()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rates_none_and_all(rate, dtype):
    out = MissingModality(rate, seed=0)(batch(dtype=dtype), training=True)
    for m in MODALITIES:
        assert keras.backend.standardize_dtype(out[m].dtype) == dtype
        assert (numpy(out[m]) == 1 - rate).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_policies_change_neither_features_nor_holes(policy):
    x = batch() | {"draws": fixed_draws(4, seed=0)}
    mixed, plain = (
        MissingModality(dtype=policy)(x, training=True),
        MissingModality()(x, training=True),
    )
    for m in MODALITIES:
        assert keras.backend.standardize_dtype(mixed[m].dtype) == "float32"
        np.testing.assert_array_equal(numpy(mixed[m]), numpy(plain[m]))


def test_missing_values_are_zero_even_where_the_input_is_not_finite():
    x = batch()
    x["audio"] = ops.full_like(x["audio"], np.nan)
    out = MissingModality({"audio": (1.0, 1.0)}, seed=0)(x, training=True)
    assert (numpy(out["audio"]) == 0).all()


def test_feature_axis():
    x = {m: np.ones((6, 20), "float32") for m in MODALITIES}
    out = MissingModality(0.5, axis="feature", seed=0)(x, training=True)
    for m in MODALITIES:
        _, count = holes({m: ops.expand_dims(out[m], -1)}, m)
        np.testing.assert_array_equal(count, 10)
    sequence = MissingModality(0.5, axis="feature", seed=0)(batch(dim=8), training=True)
    assert ((numpy(sequence["text"]) == 0).sum(-1) == 4).all()


def test_tokens_become_unknown_between_cls_and_sep():
    ids = np.zeros((3, 3, 8), "int32")
    for row, n in enumerate([8, 5, 2]):
        ids[row, 0, :n] = [101, *range(1000, 1000 + n - 2), 102]
        ids[row, 1, :n] = 1
    x = {"text_bert": ids, "audio": np.ones((3, 4, 2)), "vision": np.ones((3, 4, 2))}
    out = numpy(MissingModality(1.0, seed=0)(x, training=True)["text_bert"])
    np.testing.assert_array_equal(out[:, 1:], ids[:, 1:])
    np.testing.assert_array_equal(out[0, 0], [101] + [100] * 6 + [102])
    np.testing.assert_array_equal(out[1, 0], [101] + [100] * 3 + [102, 0, 0, 0])
    np.testing.assert_array_equal(out[2, 0], ids[2, 0])
    half = numpy(MissingModality(0.5, seed=0)(x, training=True)["text_bert"])
    assert (half[0, 0] == 100).sum() == 3 and half[0, 0, 0] == 101 and half[0, 0, 7] == 102


def test_a_rate_for_each_modality_and_other_names():
    x = {"left": np.ones((4, 10, 2)), "right": np.ones((4, 10, 2)), "weather": np.ones((4, 1))}
    layer = MissingModality({"left": (0, 0), "right": (1, 1)})
    out = layer(x, training=True)
    assert layer.modalities == ("left", "right")
    assert (
        numpy(out["left"]).all() and not numpy(out["right"]).any() and numpy(out["weather"]).all()
    )


def test_complement_keeps_what_the_holes_removed():
    rng = np.random.default_rng(0)
    x = {m: rng.normal(size=(4, 10, 3)).astype("float32") for m in MODALITIES}
    out = MissingModality((0.2, 0.8), seed=0)(x | {"complement": dict(x)}, training=True)
    for m in MODALITIES:
        kept, removed = numpy(out[m]), numpy(out["complement"][m])
        assert (kept == 0).any() and not (kept * removed).any()
        np.testing.assert_array_equal(kept + removed, x[m])


@pytest.mark.parametrize("axis", ["time", "feature"])
def test_complement_of_tokens(axis):
    ids = np.array([[101, 7, 8, 9, 5, 102, 0], [101, 6, 102, 0, 0, 0, 0]])
    tokens = np.stack([ids, ids > 0, np.zeros_like(ids)], axis=1).astype("int32")
    # Features of the text beside its tokens, which alone have no axis of features.
    x = {"text_bert": tokens, "text": np.ones((2, 7, 2)), "complement": {"text_bert": tokens}}
    layer = MissingModality({"text": 0.5}, axis, seed=0)
    out = layer(x, training=True)
    kept, removed = numpy(out["text_bert"]), numpy(out["complement"]["text_bert"])
    gone = kept[:, 0] != ids
    assert gone.sum(axis=1).tolist() == ([2, 0] if axis == "time" else [0, 0])
    np.testing.assert_array_equal(removed[:, 0], np.where(gone, ids, 0))
    np.testing.assert_array_equal(kept[:, 1:], tokens[:, 1:])
    # Without holes nothing is removed.
    assert not numpy(layer(x, training=False)["complement"]["text_bert"])[:, 0].any()


def test_evaluation_leaves_inputs_alone_unless_they_bring_draws():
    x = batch()
    layer = MissingModality(0.5, seed=0)
    assert numpy(layer(x, training=False)["audio"]).all()
    fixed = x | {"draws": fixed_draws(4, seed=1)}
    once, again = layer(fixed, training=False), layer(fixed, training=True)
    assert "draws" not in once
    for m in MODALITIES:
        assert (numpy(once[m]) == 0).any()
        np.testing.assert_array_equal(numpy(once[m]), numpy(again[m]))


def test_fixed_draws_depend_on_seed_and_row_only():
    few, many = fixed_draws(5, seed=7), fixed_draws(50, seed=7)
    np.testing.assert_array_equal(few, many[:5])
    assert few.dtype == np.float32 and (few >= 0).all() and (few < 1).all()
    assert not np.array_equal(few, fixed_draws(5, seed=8))


def test_fresh_holes_follow_the_seed():
    x = batch(32)
    a, b = MissingModality(seed=5), MissingModality(seed=5)
    first, second = a(x, training=True), a(x, training=True)
    assert not np.array_equal(numpy(first["audio"]), numpy(second["audio"]))
    np.testing.assert_array_equal(numpy(first["audio"]), numpy(b(x, training=True)["audio"]))


def test_config_and_saved_seed_state(tmp_path):
    layer = MissingModality({"audio": (0.1, 0.2), "text": (0.3, 0.3)}, axis="feature", seed=3)
    copy = MissingModality.from_config(layer.get_config())
    assert copy.missing_rate == layer.missing_rate and copy.axis == "feature" and copy.seed == 3

    inputs = {m: keras.Input((10, 3), name=m) for m in MODALITIES}
    model = keras.Model(inputs, MissingModality(seed=0)(inputs, training=True))
    x = {m: np.ones((8, 10, 3), "float32") for m in MODALITIES}
    model(x)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for m in MODALITIES:
        np.testing.assert_array_equal(numpy(model(x)[m]), numpy(loaded(x)[m]))


def test_symbolic_shapes():
    inputs = {m: keras.Input((None, 3)) for m in MODALITIES} | {"draws": keras.Input((3, 2))}
    out = MissingModality()(inputs, training=True)
    assert set(out) == set(MODALITIES) and out["audio"].shape == (None, None, 3)


FEATURES = {m: np.ones((4, 10, 3)) for m in MODALITIES}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"audio": FEATURES["audio"], "text": FEATURES["text"]}, r"must hold the modalities \('audio', 'vision', 'text'\). Received: \('audio', 'text'\). For an absent modality pass zeros"),
        ({**FEATURES, "audio": np.ones(4)}, r"`audio` must have shape \(batch, ..., dim\) with that axis. Received: shape \(4,\)"),
        ({**FEATURES, "audio": np.ones((3, 10, 3))}, "same batch size. Received: {'audio': 3"),
        ({**FEATURES, "text_length": np.ones(3)}, "same batch size. .*'text_length': 3"),
        ({**FEATURES, "draws": np.ones((4, 2, 2))}, r"`draws` must have shape \(batch, 3, 2\)"),
        ({**FEATURES, "text_bert": np.ones((4, 2, 9))}, r"`text_bert` must have shape \(batch, 3, steps\)"),
    ],
)  # fmt: skip
def test_bad_inputs(inputs, message):
    with pytest.raises(ValueError, match=message):
        MissingModality(modalities=MODALITIES)(inputs, training=True)


@pytest.mark.parametrize(
    "rate", [(0.8, 0.2), (-0.1, 0.5), (0.5, 1.1), "high", (0.1, 0.2, 0.3), float("nan"), None]
)
def test_bad_rates(rate):
    with pytest.raises(
        ValueError, match="`missing_rate` must be a range .* Received: missing_rate="
    ):
        MissingModality(rate)


@pytest.mark.parametrize("fill", [float("nan"), "mean", {"audio": 1.0, "text": "learned"}])
def test_bad_fill(fill):
    message = "`fill` must be .* 'learned' for all modalities. Received: fill="
    with pytest.raises(ValueError, match=message + re.escape(repr(fill))):
        MissingModality(fill=fill)


def test_bad_axis_and_no_modality():
    with pytest.raises(ValueError, match="`axis` must be one of"):
        MissingModality(axis="depth")
    with pytest.raises(ValueError, match="at least one modality"):
        MissingModality({})


def test_without_its_modalities_nothing_is_cut():
    x = {"other": np.ones((2, 3), "float32")}
    assert list(apply(x, fixed_draws(2, 1, seed=0), {"audio": (0.4, 0.6)})) == ["other"]
