"""Patterns of missingness: rates in expectation, edges, lengths, and the same bits on each backend."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from keras_m3s import MissingModality
from keras_m3s.missing import apply, fixed_draws, sample_draws
from keras_m3s.missing.patterns import (
    MMIN_CONDITIONS,
    Place,
    Request,
    as_rates,
    frame_uniforms,
    frames_masks,
    missing_modalities,
)
from keras_m3s.modalities import MODALITIES

BY_RATE = ("span", "frames", "modality")
"""Patterns that take away what the rate says of any values."""


def numpy(value):
    return np.array(ops.convert_to_numpy(value))


def batch(rows=4, steps=10, dim=3):
    x = {m: np.ones((rows, steps, dim), "float32") for m in MODALITIES}
    return x | {f"{m}_length": np.full(rows, steps, "int32") for m in MODALITIES}


def gone(x):
    """Which modalities are zero altogether: bool (rows, modalities)."""
    return np.stack([(numpy(x[m]) == 0).all((1, 2)) for m in MODALITIES], 1)


def lowbias32(x):
    """The hash as its author has it, in unsigned integers."""
    x = x.astype("uint32")
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def test_uniforms_of_frames_are_the_hash_to_the_last_bit():
    draw = fixed_draws(50, 1, seed=0)[:, 0]
    words = (draw * 2**24).astype("uint32")
    position = np.arange(-1, 39).astype("int32")
    state = lowbias32(lowbias32(words[:, 0]) ^ words[:, 1])[:, None]
    state = lowbias32(state + position.astype("uint32") * np.uint32(0x9E3779B9))
    expected = (state >> np.uint32(8)).astype("float32") / 2**24
    found = numpy(frame_uniforms(ops.convert_to_tensor(draw), ops.convert_to_tensor(position)))
    np.testing.assert_array_equal(found, expected)


def test_uniforms_of_frames_look_random():
    """Uniform, and neither frames nor samples nor their starts tell of each other."""
    draw = fixed_draws(4000, 1, seed=1)[:, 0]
    u = numpy(frame_uniforms(ops.convert_to_tensor(draw), ops.arange(20, dtype="int32")))
    assert u.min() >= 0 and u.max() < 1
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3
    related = np.corrcoef(np.concatenate([u, draw], 1).T) - np.eye(22)
    assert np.abs(related).max() < 4.5 / np.sqrt(4000)
    assert np.abs(np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]) < 4.5 / np.sqrt(4000)


@pytest.mark.parametrize("rate", [(0.3, 0.3), (0.2, 0.8), (0.0, 1.0)])
def test_share_of_missing_frames(rate):
    """Binomial at a single rate; over a range the mean is the middle and the spread is wider."""
    size, rows = 40, 5000
    mask = numpy(
        frames_masks(
            Request(
                [Place(0, size, size)], sample_draws(rows, 1, seed=3), as_rates({"a": rate}), ("a",)
            )
        )[0]
    )
    missing = mask.sum(1)
    low, high = rate
    between = (high - low) ** 2 / 12
    mean = (low + high) / 2
    variance = size * (mean - mean**2 - between) + size**2 * between
    assert missing.mean() == pytest.approx(size * mean, abs=5 * np.sqrt(variance / rows))
    assert missing.var() == pytest.approx(variance, rel=0.1)
    runs = np.abs(np.diff(mask.astype(int), axis=1)).sum(1)
    assert runs.mean() > 4, "one run is no independent frames"


@pytest.mark.parametrize("pattern", BY_RATE)
def test_none_and_all(pattern):
    x = batch(64)
    none = MissingModality(0.0, pattern=pattern, seed=0)(x, training=True)
    assert all(numpy(none[m]).all() for m in MODALITIES)
    full = MissingModality(1.0, pattern=pattern, seed=0)(x, training=True)
    if pattern == "modality":
        assert (gone(full).sum(1) == 2).all() and set(gone(full).argmin(1)) == {0, 1, 2}
        full = MissingModality({"audio": 1.0}, pattern=pattern, seed=0)(x, training=True)
        assert not numpy(full["audio"]).any() and numpy(full["text"]).all()
    else:
        assert gone(full).all()


@pytest.mark.parametrize("pattern", ["frames", "modality"])
def test_lengths_are_respected(pattern):
    x = batch(300)
    x["audio_length"] = np.arange(300, dtype="int32") % 12
    out = numpy(MissingModality((0.4, 0.9), pattern=pattern, seed=0)(x, training=True)["audio"])
    zero = (out == 0).all(-1)
    inside = np.arange(10) < x["audio_length"][:, None]
    assert not zero[~inside].any() and zero[inside].any()
    if pattern == "modality":
        rows = zero.sum(1)
        assert ((rows == 0) | (rows == np.minimum(x["audio_length"], 10))).all()


@pytest.mark.parametrize("pattern", ["frames", "modality"])
def test_tokens_become_unknown_between_cls_and_sep(pattern):
    ids = np.zeros((2000, 3, 12), "int32")
    for row in range(2000):
        n = 2 + row % 11
        ids[row, 0, :n] = [101, *range(1000, 1000 + n - 2), 102]
        ids[row, 1, :n] = 1
    x = {"text_bert": ids, **{m: np.ones((2000, 4, 2)) for m in ("audio", "vision")}}
    out = numpy(MissingModality((0.4, 0.6), pattern=pattern, seed=0)(x, training=True)["text_bert"])
    np.testing.assert_array_equal(out[:, 1:], ids[:, 1:])
    changed = out[:, 0] != ids[:, 0]
    words = ids[:, 0] >= 1000
    assert (out[:, 0][changed] == 100).all() and not (changed & ~words).any()
    expected = 0.5 if pattern == "frames" else 0.5 - 0.5**3 / 3  # one of three is kept
    assert changed.sum() / words.sum() == pytest.approx(expected, abs=0.04)
    if pattern == "modality":
        assert all(row.sum() in (0, word.sum()) for row, word in zip(changed, words, strict=True))


def test_frames_on_encoded_vectors():
    x = {m: np.ones((500, 40), "float32") for m in MODALITIES}
    out = MissingModality(0.25, axis="feature", pattern="frames", seed=0)(x, training=True)
    assert np.mean([(numpy(out[m]) == 0).mean() for m in MODALITIES]) == pytest.approx(0.25, abs=0.01)  # fmt: skip


def test_probability_of_whole_modalities():
    """Each r, less a third of r^3 where all would be missing and one is kept."""
    rows, r = 20_000, 0.6
    missing = numpy(missing_modalities(sample_draws(rows, 3, seed=0), as_rates(dict.fromkeys(MODALITIES, (r, r))), MODALITIES))  # fmt: skip
    assert not missing.all(1).any()
    expected = r - r**3 / 3
    np.testing.assert_allclose(missing.mean(0), expected, atol=5 * np.sqrt(0.25 / rows))
    two = (missing.sum(1) == 2).mean()
    assert two == pytest.approx(3 * r**2 * (1 - r) + r**3, abs=0.02)


def test_imbalanced_rates():
    """P4: a rate for each modality, with every pattern."""
    rates = {"audio": 0.8, "vision": (0.2, 0.4), "text": 0.0}
    for pattern in BY_RATE:
        out = MissingModality(rates, pattern=pattern, seed=1)(batch(2000, 20, 1), training=True)
        share = [(numpy(out[m]) == 0).mean() for m in MODALITIES]
        # A run is floor(length * r) long, half a step less at a rate between.
        np.testing.assert_allclose(share, [0.8, 0.3, 0.0], atol=0.04)


def test_conditions_of_mmin():
    conditions = list(MMIN_CONDITIONS.values())
    layer = MissingModality(pattern="modality", conditions=conditions, seed=0)
    missing = gone(layer(batch(6000, 2, 1), training=True))
    seen, counts = np.unique(missing, axis=0, return_counts=True)
    wanted = {tuple(m in c for m in MODALITIES) for c in conditions}
    assert {tuple(row) for row in seen.tolist()} == wanted and len(wanted) == 6
    assert stats.chisquare(counts).pvalue > 1e-3
    # z is for zeros: its places in a condition's name are those of what is missing.
    for name, condition in MMIN_CONDITIONS.items():
        assert [letter == "z" for letter in name] == [m in condition for m in MODALITIES]
    one = MissingModality(pattern="modality", conditions=[MMIN_CONDITIONS["avz"]])(
        batch(), training=True
    )
    assert gone(one).tolist() == [[False, False, True]] * 4
    largest = np.full((1, 3, 2), np.nextafter(np.float32(1), np.float32(0)))
    rates = dict.fromkeys(MODALITIES, (0.0, 1.0))
    assert numpy(missing_modalities(largest, as_rates(rates), MODALITIES, conditions)).tolist() == [
        [True, False, False]
    ]


@pytest.mark.parametrize("pattern", BY_RATE)
def test_draws_decide_all(pattern):
    """The same draws, the same holes, in training, in evaluation and compiled."""
    x = batch(16) | {"draws": fixed_draws(16, seed=4)}
    layer = MissingModality((0.2, 0.8), pattern=pattern, seed=0)
    first, second = layer(x, training=True), layer(x, training=False)
    model = keras.Sequential([layer])
    model.compile()
    third = model.predict(x, batch_size=8, verbose=0)
    for m in MODALITIES:
        np.testing.assert_array_equal(numpy(first[m]), numpy(second[m]))
        np.testing.assert_array_equal(numpy(first[m]), third[m])
        assert (third[m] == 0).any() and (third[m] == 1).any()


@pytest.mark.parametrize("pattern", BY_RATE)
def test_complement_keeps_what_is_missing(pattern):
    x = batch(8)
    rates = dict.fromkeys(MODALITIES, (0.3, 0.7))
    features = {m: x[m] for m in MODALITIES}
    out = apply(x | {"complement": features}, fixed_draws(8, seed=0), rates, pattern=pattern)
    for m in MODALITIES:
        np.testing.assert_array_equal(numpy(out[m]) + numpy(out["complement"][m]), 1)


def test_config_round_trip():
    layer = MissingModality((0.1, 0.2), pattern="modality", conditions=[("audio",), ()], seed=3)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (copy.pattern, copy.conditions) == ("modality", (("audio",), ()))
    old = {k: v for k, v in layer.get_config().items() if k not in ("pattern", "conditions")}
    assert MissingModality.from_config(old).pattern == "span"
    for m in MODALITIES:
        np.testing.assert_array_equal(
            numpy(layer(batch(32), training=True)[m]), numpy(copy(batch(32), training=True)[m])
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pattern": "blocks"}, "`pattern` must be one of .* Received: pattern='blocks'"),
        ({"conditions": [("audio",)]}, "must go with a pattern that takes them"),
        ({"pattern": "modality", "conditions": []}, "one or more sets"),
        ({"pattern": "modality", "conditions": [("smell",)]}, "smell"),
        ({"pattern": "modality", "conditions": [MODALITIES]}, "each leaving one of"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MissingModality(modalities=MODALITIES, **arguments)


@pytest.mark.parametrize("pattern", ["blocks", "modalities", "", "Span"])
@pytest.mark.parametrize("inputs", [batch(4), {}])
def test_the_pure_function_takes_no_pattern_for_another(pattern, inputs):
    rates = dict.fromkeys(MODALITIES, (0.5, 0.5))
    with pytest.raises(
        ValueError, match=f"`pattern` must be one of .*Received: pattern={pattern!r}"
    ):
        apply(inputs, fixed_draws(4, seed=0), rates, pattern=pattern)
