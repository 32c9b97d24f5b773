"""NaN is a value that was never measured: a hole like those that are drawn, whatever the input."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from scipy import stats

from keras_m3s import MissingModality
from keras_m3s.missing import fixed_draws
from keras_m3s.missing.patterns import Place, Request, as_rates
from keras_m3s.missing.value_patterns import mar_masks, mnar_masks
from keras_m3s.missing.views import InputView


def numpy(value):
    return ops.convert_to_numpy(ops.cast(value, "float32"))


def with_nan(shape, share=0.3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(2.0, 1.0, size=shape).astype("float32")
    x[rng.random(shape) < share] = np.nan
    return x


@settings(max_examples=12 if keras.backend.backend() == "jax" else 25, deadline=None)
@given(
    st.lists(st.sampled_from([(5,), (6, 3), (4, 3, 2)]), min_size=1, max_size=3),
    st.sampled_from(["float32", "float16", "bfloat16"]),
    st.sampled_from(["span", "frames", "modality", {"span": 0.5, "none": 0.5}, "mnar"]),
    st.sampled_from([None, True]),
    st.integers(0, 2**16),
)
def test_holes_are_those_drawn_and_those_recorded(shapes, dtype, pattern, training, seed):
    """Of any rank, dtype and pattern; nothing that comes out is NaN, and the rest is untouched."""
    x = {f"m{i}": with_nan((4, *shape), seed=seed + i) for i, shape in enumerate(shapes)}
    given_to = {name: ops.cast(value, dtype) for name, value in x.items()}
    layer = MissingModality(0.5, pattern=pattern, seed=seed, presence=True)
    out = layer(given_to, training=training)
    for name, value in x.items():
        holed, present = numpy(out[name]), numpy(out[f"{name}_present"])
        assert out[name].dtype == given_to[name].dtype and holed.shape == value.shape
        assert np.isfinite(holed).all() and set(np.unique(present)) <= {0.0, 1.0}
        assert (present[np.isnan(value)] == 0).all()
        kept = present == 1
        np.testing.assert_array_equal(holed[kept], numpy(given_to[name])[kept])
        assert (holed[~kept] == 0).all()
        if training is None:
            np.testing.assert_array_equal(kept, ~np.isnan(value))


def test_complete_input_comes_back_to_the_bit():
    x = {"a": np.random.default_rng(0).normal(size=(8, 9, 3)).astype("float32")}
    draws = {"draws": fixed_draws(8, 1, seed=0)}
    out = numpy(MissingModality({"a": 0.5}, seed=0)({**x, **draws})["a"])
    rate, start = draws["draws"][:, 0, 0], draws["draws"][:, 0, 1]
    del rate
    for row in range(8):
        count = 4  # floor(9 * .5)
        first = int(np.floor(np.float32(9 - count + 1) * start[row]))
        expected = x["a"][row].copy()
        expected[first : first + count] = 0
        np.testing.assert_array_equal(out[row], expected)


def test_nan_beyond_a_length_is_padding():
    x = np.full((2, 5, 2), np.nan, "float32")
    x[:, :2] = 3.0
    x[1, 1] = np.nan
    inputs = {"a": x, "a_length": np.array([2, 2], "int32")}
    layer = MissingModality({"a": 0.5}, fill=7.0, rescale=True, presence=True)
    out = layer(inputs)
    np.testing.assert_array_equal(numpy(out["a"])[0, :, 0], [3, 3, 0, 0, 0])
    # Half of the true cells of row 1 are left, and count twice; padding is not filled.
    np.testing.assert_array_equal(numpy(out["a"])[1, :, 0], [6, 7, 0, 0, 0])
    np.testing.assert_array_equal(numpy(out["a_present"])[:, :, 1], [[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])  # fmt: skip


def test_rescaling_keeps_the_sum_over_a_constant():
    x = {"a": np.ones((64, 20, 3), "float32")}
    out = numpy(MissingModality({"a": (0.1, 0.9)}, rescale=True, seed=0)(x, training=True)["a"])
    np.testing.assert_allclose(out.sum((1, 2)), 60, rtol=1e-5)
    gone = MissingModality({"a": 1.0}, rescale=True, seed=0)(x, training=True)["a"]
    assert (numpy(gone) == 0).all()
    whole = MissingModality({"a": 0.0}, rescale=True, seed=0)(x, training=True)["a"]
    np.testing.assert_array_equal(numpy(whole), x["a"])


def test_a_learned_filling_is_trained_saved_and_loaded(tmp_path):
    rng = np.random.default_rng(0)
    x = {"a": with_nan((64, 6, 3)), "b": rng.normal(size=(64, 4)).astype("float32")}
    inputs = {name: keras.Input(value.shape[1:], name=name) for name, value in x.items()}
    layer = MissingModality((0.2, 0.5), fill="learned", seed=0)
    holed = layer(inputs)
    flat = keras.layers.Concatenate()([keras.layers.Flatten()(holed["a"]), holed["b"]])
    model = keras.Model(inputs, keras.layers.Dense(1)(flat))
    assert {v.shape for v in layer.trainable_variables} == {(3,), (4,)}
    model.compile(keras.optimizers.Adam(0.05), loss="mse")
    model.fit(x, np.ones((64, 1)), epochs=2, verbose=0)
    assert all(np.abs(numpy(v)).min() > 0 for v in layer.trainable_variables)
    filled = numpy(layer(x)["a"])
    vector = numpy(next(v for v in layer.trainable_variables if v.shape == (3,)))
    np.testing.assert_array_equal(
        filled[np.isnan(x["a"])], np.broadcast_to(vector, x["a"].shape)[np.isnan(x["a"])]
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_the_names_are_those_of_the_inputs(tmp_path):
    x = {"gyro": np.ones((4, 6, 2)), "acc": np.ones((4, 6, 3)), "acc_length": np.full(4, 5)}
    layer = MissingModality(0.5, seed=0)
    assert layer.modalities == ()
    layer(x)
    assert layer.modalities == ("acc", "gyro"), "sorted: compiled steps do not keep a dict's order"
    copy = MissingModality.from_config(layer.get_config())
    assert copy.missing_rate == {"acc": (0.5, 0.5), "gyro": (0.5, 0.5)}
    with pytest.raises(ValueError, match="at least one modality"):
        MissingModality(0.5)({"index": np.arange(4)})


def test_an_axis_for_each_modality():
    x = {
        "first": np.ones((400, 3, 12), "float32"),  # channels first
        "sequence": np.ones((400, 12, 3), "float32"),
        "vector": np.ones((400, 12), "float32"),
    }
    layer = MissingModality(0.5, axis={"first": 2, "vector": "feature"}, seed=0)
    out = {name: numpy(value) == 0 for name, value in layer(x, training=True).items()}
    assert (out["first"].all(1) == out["first"].any(1)).all()
    assert (out["sequence"].all(2) == out["sequence"].any(2)).all()
    for holes in (out["first"].any(1), out["sequence"].any(2), out["vector"]):
        assert (holes.sum(1) == 6).all() and holes.mean(0).min() + 0.3 > 0.3


def test_shares_of_patterns():
    x = {m: np.ones((6000, 10, 1), "float32") for m in "ab"}
    shares = {"span": 0.6, "modality": 0.3, "none": 0.1}
    out = MissingModality(0.5, pattern=shares, seed=0)(x, training=True)
    missing = np.stack([(numpy(out[m]) == 0)[..., 0].sum(1) for m in "ab"], 1)
    spans = (missing == 5).all(1)
    # Of whole modalities at rate .5: none a quarter, one of the two else.
    counts = [spans.sum(), (missing == 10).any(1).sum(), (missing == 0).all(1).sum()]
    expected = np.array([0.6, 0.3 * 0.75, 0.1 + 0.3 * 0.25]) * 6000
    assert sum(counts) == 6000 and stats.chisquare(counts, expected).pvalue > 1e-3


def test_shares_for_each_modality():
    x = {m: np.ones((4000, 10, 1), "float32") for m in "abc"}
    pattern = {"a": "span", "b": {"span": 0.25, "none": 0.75}, "c": "none"}
    out = MissingModality(0.5, pattern=pattern, seed=0)(x, training=True)
    share = {m: ((numpy(out[m]) == 0).sum((1, 2)) == 5).mean() for m in "abc"}
    assert share["a"] == 1 and share["c"] == 0 and share["b"] == pytest.approx(0.25, abs=0.03)
    with pytest.raises(ValueError, match=r"an entry for each of \('a', 'b', 'c'\)"):
        MissingModality(0.5, pattern={"a": "span"}, modalities="abc")
    with pytest.raises(ValueError, match="Shares of patterns must be >= 0"):
        MissingModality(0.5, pattern={"span": -1.0, "none": 2.0})


@pytest.mark.parametrize("pattern", ["span", "frames", "modality"])
def test_a_group_is_lost_together(pattern):
    x = {m: np.ones((300, 10, 1), "float32") for m in ("acc", "gyro", "watch")}
    layer = MissingModality((0.2, 0.8), pattern=pattern, groups=[("acc", "gyro")], seed=0)
    out = {m: numpy(v) == 0 for m, v in layer(x, training=True).items()}
    np.testing.assert_array_equal(out["acc"], out["gyro"])
    assert (out["acc"] != out["watch"]).any()
    if pattern == "modality":
        assert not (out["acc"].all((1, 2)) & out["watch"].all((1, 2))).any(), "one unit is kept"
    with pytest.raises(ValueError, match="A group must be of the modalities"):
        MissingModality({"acc": 0.5, "gyro": 0.4}, groups=[("acc", "gyro")])


def test_holes_as_recorded():
    recorded = {"a": with_nan((7, 5, 2)), "b": with_nan((7, 4), seed=1)}
    layer = MissingModality(pattern="recorded", seed=0)
    layer.adapt(recorded)
    x = {"a": np.ones((900, 5, 2), "float32"), "b": np.ones((900, 4), "float32")}
    out = layer(x, training=True)
    rows = np.concatenate([(numpy(out[m]) == 0).reshape(900, -1) for m in "ab"], 1)
    known = np.concatenate([np.isnan(recorded[m]).reshape(7, -1) for m in "ab"], 1)
    seen, counts = np.unique(rows, axis=0, return_counts=True)
    assert {r.tobytes() for r in seen} == {r.tobytes() for r in known}, "joint over modalities"
    assert stats.chisquare(counts).pvalue > 1e-3
    store = {}
    layer.save_own_variables(store)
    copy = MissingModality.from_config(layer.get_config())
    copy.load_own_variables(store)
    same = [one(x | {"draws": fixed_draws(900, 2, seed=0)}) for one in (layer, copy)]
    np.testing.assert_array_equal(numpy(same[0]["a"]), numpy(same[1]["a"]))
    with pytest.raises(ValueError, match="Call `adapt"):
        MissingModality(pattern="recorded")(x, training=True)


def request(values, rate, rows=None):
    place = Place(0, values.shape[1], values.shape[1], 0, "a", values, 1)
    draws = np.random.default_rng(1).random((len(values), 1, 2), dtype="float32")
    return Request([place], ops.convert_to_tensor(draws), as_rates({"a": (rate, rate)}), ("a",))


def test_mnar_is_self_masking():
    """Above mean + offset * deviation of each sequence and channel, as PyGrinder's `mnar_x`."""
    x = with_nan((50, 200, 3), share=0.1)
    for rate in (0.2, 0.5, 0.8):
        mask = numpy(mnar_masks(request(ops.convert_to_tensor(x), rate))[0]).astype(bool)
        mean, deviation = np.nanmean(x, 1, keepdims=True), np.nanstd(x, 1, keepdims=True)
        above = x > mean + stats.norm.ppf(1 - rate) * deviation
        assert (mask != above).mean() < 1e-4, "but for rounding at the threshold"
        assert mask.sum() / np.isfinite(x).sum() == pytest.approx(rate, abs=0.02)
    everything = numpy(mnar_masks(request(ops.convert_to_tensor(x), 1.0))[0]).astype(bool)
    np.testing.assert_array_equal(everything, ~np.isnan(x))


def test_mar_depends_on_channels_that_are_there():
    x = np.random.default_rng(0).normal(size=(200, 150, 4)).astype("float32")
    mask = numpy(mar_masks(request(ops.convert_to_tensor(x), 0.4))[0]).astype(bool)
    complete = ~mask.any(1)
    assert (complete.sum(1) == 2).all() and 0.3 < complete.mean(0).min() < 0.7
    assert mask[:, :][np.repeat(~complete[:, None], 150, 1)].mean() == pytest.approx(0.4, abs=0.02)
    # Whether a step is missing is told by the complete channels.
    fits = []
    for row in range(40):
        seen, hidden = x[row][:, complete[row]], mask[row][:, ~complete[row]][:, 0]
        weights, *_ = np.linalg.lstsq(seen, hidden - hidden.mean(), rcond=None)
        fits.append(np.corrcoef(seen @ weights, hidden)[0, 1])
    assert np.mean(fits) > 0.25
    alone = numpy(mar_masks(request(ops.convert_to_tensor(x[..., :1]), 0.4))[0])
    assert not alone.any(), "a single channel has none that could tell"


def test_rates_change_without_compiling_anew():
    traced = []

    class Counted(MissingModality):
        def call(self, inputs, training=None):
            traced.append(1)
            return super().call(inputs, training=training)

    layer = Counted({"a": 0.0}, seed=0)
    model = keras.Sequential([layer])
    model.compile()
    x = {"a": np.ones((16, 10, 1), "float32"), "draws": fixed_draws(16, 1, seed=0)}
    shares = []
    for rate in (0.0, 0.3, 0.7, 1.0):
        layer.missing_rate = rate
        shares.append((model.predict(x, verbose=0)["a"] == 0).mean())
        traced.append("|")
    assert shares == pytest.approx([0.0, 0.3, 0.7, 1.0])
    assert layer.get_config()["missing_rate"] == {"a": [1.0, 1.0]}
    if keras.backend.backend() != "torch":
        assert 1 not in traced[traced.index("|") :]
    with pytest.raises(ValueError, match="must be of the modalities"):
        layer.missing_rate = {"b": 0.5}


@pytest.mark.parametrize(
    ("view", "inputs"),
    [
        (InputView(("a", "b")), [np.ones((2, 3)), np.zeros((2, 4))]),
        (InputView(("a", "b")), (np.ones((2, 3)), np.zeros((2, 4)))),
        (InputView({"a": slice(0, 2), "b": slice(3, 5)}), np.arange(12.0).reshape(2, 6)),
        (InputView(), {"a": np.ones((2, 3)), "b": np.zeros((2, 4))}),
    ],
)
def test_views_give_back_what_they_took(view, inputs):
    features = view.split(inputs)
    assert set(features) == {"a", "b"}
    again = view.merge(inputs, features)
    assert type(again) is type(inputs) or not isinstance(inputs, (list, tuple, dict))
    for ours, theirs in zip(keras.tree.flatten(again), keras.tree.flatten(inputs), strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), theirs)


def test_views_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="as many entries as `modalities`"):
        InputView(("a",)).split([1, 2])
    with pytest.raises(ValueError, match="must be a dict with the modalities"):
        InputView().split(np.ones((2, 3)))
    with pytest.raises(ValueError, match="a slice of the last axis"):
        InputView({"a": 3})
