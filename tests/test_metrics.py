"""Section 4.3's metrics: functions against scikit-learn and SciPy, Keras metrics against them."""

import keras
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_m3s import metrics

once = pytest.mark.once


def scores(rng, size=24, low=-4, high=4):
    """Truths on MOSI's grid, with zeros and halves; predictions on a finer one that hits edges."""
    true = rng.integers(low * 2, high * 2 + 1, size) / 2
    pred = rng.integers(low * 4, high * 4 + 1, size) / 4
    return true.astype("float32"), pred.astype("float32")


def classes(rng, size=24, count=4):
    return rng.integers(0, count, size), rng.integers(0, count, size)


@once
def test_golden_classification(golden):
    numbers = golden("mmin")
    true, pred = numbers["metric/true"], numbers["metric/pred"]
    found = metrics.classification_metrics(true, pred)
    assert list(found) == ["acc", "uar", "f1"]
    assert found["acc"] == pytest.approx(numbers["metric/acc"], abs=1e-12)
    assert found["uar"] == pytest.approx(numbers["metric/uar"], abs=1e-12)
    assert found["f1"] == pytest.approx(numbers["metric/f1_weighted"], abs=1e-12)
    macro = metrics.f1(true, pred, average="macro")
    assert macro == pytest.approx(numbers["metric/f1_macro"], abs=1e-12)


@once
@pytest.mark.parametrize(
    ("metric", "true", "pred", "expected"),
    [
        (metrics.mae, [1.0, -1.0], [[0.0], [-3.0]], 1.5),
        (metrics.corr, [1.0, 2.0, 3.0], [-2.0, -4.0, -6.0], -1.0),
        (metrics.corr, [0.1, 0.1, 0.1], [1.0, 2.0, 3.0], 0.0),
        (metrics.corr, [1.0, 2.0], [0.1, 0.1], 0.0),
        (metrics.corr, [1.0], [2.0], 0.0),
        # Truth 0 is positive; then it is left out; then it is negative.
        (metrics.acc2, [0.0, 1.0, -1.0, 0.0], [0.5, 1.0, 0.0, -0.5], 2 / 4),
        (lambda t, p: metrics.acc2(t, p, "non0"), [0.0, 1.0, -1.0, 0.0], [9, 0.1, 0.0, 9], 1.0),
        (lambda t, p: metrics.acc2(t, p, "neg0"), [0.0, 1.0, -1.0, 0.0], [0.5, 1, 0, -0.5], 3 / 4),
        # Halves go to the even class, and beyond 3 everything is 3.
        (metrics.acc7, [0.0, 2.0, 2.0, 3.0], [0.5, 1.5, 2.5, 99.0], 1.0),
        (metrics.acc7, [1.0, 1.0, -3.0, -1.0], [0.5, 1.5, -2.5, -0.5], 0.0),
        (lambda t, p: metrics.sims_accuracy(t, p, 3), [-0.2, 0.0, 0.2], [-0.1, 0.1, 0.11], 1.0),
        (lambda t, p: metrics.sims_accuracy(t, p, 5), [-1, -0.2, 0, 1], [-0.7, -0.1, 0.1, 2], 1.0),
        (metrics.accuracy, [0, 1, 2], [[9, 1, 1], [1, 9, 1], [9, 1, 1]], 2 / 3),
        # Recalls 2/2 and 0/1; class 2 has no true example and no recall.
        (metrics.uar, [0, 0, 1], [0, 0, 2], 1 / 2),
        # F1 of classes 0, 1, 2: 1, 0, 0; of 3 true examples 2, 1, 0.
        (metrics.f1, [0, 0, 1], [0, 0, 2], 2 / 3),
    ],
)  # fmt: skip
def test_worked_by_hand(metric, true, pred, expected):
    assert metric(np.array(true), np.array(pred)) == pytest.approx(expected, abs=1e-12)


@once
def test_f1_weighs_by_truth_not_by_prediction():
    true, pred = np.array([1.0, 1.0, 1.0, -1.0]), np.array([1.0, -1.0, -1.0, -1.0])
    # F1 of positive: precision 1, recall 1/3. Of negative: precision 1/3, recall 1. Both 1/2.
    assert metrics.sentiment_f1(true, pred) == pytest.approx(1 / 2, abs=1e-12)
    # One more negative, found: F1 of positive 1/2, of negative 2/3, and 3 : 2 true examples.
    true, pred = np.append(true, -1.0), np.append(pred, -1.0)
    assert metrics.sentiment_f1(true, pred) == pytest.approx((3 / 2 + 4 / 3) / 5, abs=1e-12)


@once
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_sentiment_metrics_equal_scikit_learn_and_scipy(seed, size):
    true, pred = scores(np.random.default_rng(seed), size)
    found = metrics.regression_metrics(true[:, None], pred[:, None])
    order = ["mae", "corr", "acc2_has0", "acc2_non0", "f1_has0", "f1_non0", "acc7"]
    assert list(found) == order
    kept = true != 0
    true, pred = true.astype("float64"), pred.astype("float64")
    expected = {
        "mae": sklearn.metrics.mean_absolute_error(true, pred),
        "acc2_has0": sklearn.metrics.accuracy_score(true >= 0, pred >= 0),
        "f1_has0": sklearn.metrics.f1_score(
            true >= 0, pred >= 0, average="weighted", zero_division=0
        ),
        "acc7": sklearn.metrics.accuracy_score(
            np.rint(true).clip(-3, 3).astype(int), np.rint(pred).clip(-3, 3).astype(int)
        ),
    }
    if np.ptp(true) > 0 and np.ptp(pred) > 0:
        expected["corr"] = scipy.stats.pearsonr(true, pred).statistic
    if kept.any():
        signs = true[kept] > 0, pred[kept] > 0
        expected["acc2_non0"] = sklearn.metrics.accuracy_score(*signs)
        expected["f1_non0"] = sklearn.metrics.f1_score(*signs, average="weighted", zero_division=0)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


@once
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 40), count=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_class_metrics_equal_scikit_learn(seed, size, count):
    true, pred = classes(np.random.default_rng(seed), size, count)
    found = metrics.classification_metrics(true, pred)
    recalls = [np.mean(pred[true == c] == c) for c in np.unique(true)]
    assert found["acc"] == sklearn.metrics.accuracy_score(true, pred)
    assert found["uar"] == pytest.approx(np.mean(recalls), abs=1e-12)
    assert found["f1"] == pytest.approx(
        sklearn.metrics.f1_score(true, pred, average="weighted", zero_division=0), abs=1e-12
    )


@once
def test_ch_sims_is_clipped_and_scored_its_own_way():
    true = np.array([-1.0, -0.4, 0.0, 0.4, 1.0], "float32")
    pred = np.array([-5.0, 0.2, 0.0, 0.1, 0.9], "float32")
    found = metrics.regression_metrics(true, pred, dataset="ch_sims/unaligned_39")
    assert list(found) == ["mae", "corr", "acc2", "f1", "acc3", "acc5"]
    assert found["mae"] == pytest.approx((0 + 0.6 + 0 + 0.3 + 0.1) / 5, abs=1e-7)
    assert found["corr"] == pytest.approx(np.corrcoef(true, pred.clip(-1, 1))[0, 1], abs=1e-7)
    assert (found["acc2"], found["acc3"], found["acc5"]) == (4 / 5, 3 / 5, 3 / 5)
    assert metrics.regression_metrics(true, pred, dataset="mine")["mae"] > found["mae"]


@once
@given(st.floats(1e-100, 1e100), st.floats(-1e3, 1e3))
def test_corr_does_not_depend_on_scale_or_offset(scale, offset):
    true, pred = scores(np.random.default_rng(0))
    moved = (pred.astype("float64") + offset) * scale
    assert metrics.corr(true, moved) == pytest.approx(metrics.corr(true, pred), abs=1e-9)


@once
def test_no_example_left_is_not_a_number():
    assert np.isnan(metrics.acc2([0.0], [1.0], "non0"))
    assert np.isnan(metrics.sentiment_f1([0.0], [1.0], "non0"))


@once
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.mae([1.0, 2.0], [1.0]), "Received: 2 true, 1 predicted"),
        (lambda: metrics.corr([], []), "at least 1"),
        (lambda: metrics.corr([1.0, 2.0], [1.0, np.nan]), r"in 1 of 2 places, first at \(1,\)"),
        (lambda: metrics.mae([np.inf], [1.0]), "`y_true` must be finite"),
        (lambda: metrics.acc2([1.0], [1.0], zero="has1"), "`zero` must be one of"),
        (lambda: metrics.sims_accuracy([1.0], [1.0], 7), "`classes` must be one of"),
        (lambda: metrics.f1([1], [1], average="micro"), "`average` must be"),
        (lambda: metrics.uar([0.5], [1]), "`y_true` must hold classes"),
        (lambda: metrics.accuracy([1], [-1]), "`y_pred` must hold classes"),
        (lambda: metrics.classification_metrics([0, 1], [[0.1, np.nan], [1, 2]]), "finite"),
        (lambda: metrics.SentimentAccuracy(zero="has1"), "`zero` must be one of"),
        (lambda: metrics.SentimentF1(zero=""), "`zero` must be one of"),
        (lambda: metrics.WeightedF1(num_classes=1), "`num_classes` must be >= 2"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_streaming_rejects_sizes_that_differ():
    with pytest.raises(ValueError, match="the same number of values"):
        metrics.PearsonCorrelation().update_state(np.zeros((2, 1)), np.zeros((2, 3)))


# Each way to cut the rows has shapes of its own, which JAX and TensorFlow compile one by one.
EXAMPLES = 12 if keras.backend.backend() == "torch" else 4

# A Keras metric, the function it streams, and what makes examples for it.
STREAMED = {
    "corr": (metrics.PearsonCorrelation, metrics.corr, scores),
    "acc7": (metrics.SevenClassAccuracy, metrics.acc7, scores),
    "uar": (lambda: metrics.UnweightedAverageRecall(4), metrics.uar, classes),
    "f1": (lambda: metrics.WeightedF1(4), metrics.f1, classes),
    **{
        f"{name}_{zero}": (
            lambda kind=kind, zero=zero: kind(zero=zero),
            lambda t, p, function=function, zero=zero: function(t, p, zero),
            scores,
        )
        for name, kind, function in [
            ("acc2", metrics.SentimentAccuracy, metrics.acc2),
            ("f1", metrics.SentimentF1, metrics.sentiment_f1),
        ]
        for zero in ("has0", "non0", "neg0")
    },
}  # fmt: skip


def stream(metric, *arrays, cuts=()):
    """The metric's result after one update per batch, the arrays cut at `cuts`."""
    metric.reset_state()
    for batch in zip(*(np.split(x, cuts) for x in arrays), strict=True):
        metric.update_state(*batch)
    return float(keras.ops.convert_to_numpy(metric.result()))


@pytest.mark.parametrize("name", STREAMED)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.sets(st.sampled_from([1, 2, 12, 22]), max_size=4))
@settings(max_examples=EXAMPLES, deadline=None)
def test_streaming_equals_the_function(name, seed, cuts):
    make, function, examples = STREAMED[name]
    metric = make()
    assert metric.name == name
    true, pred = examples(np.random.default_rng(seed))
    found = stream(metric, true, pred[:, None], cuts=sorted(cuts))
    assert found == pytest.approx(function(true, pred), abs=1e-6)


@pytest.mark.parametrize("name", STREAMED)
def test_integer_weights_are_repeated_examples(name):
    make, function, examples = STREAMED[name]
    rng = np.random.default_rng(7)
    true, pred = examples(rng)
    weights = rng.integers(0, 4, len(true))
    weights[:6] = 0  # a batch in which nothing counts
    expected = function(np.repeat(true, weights), np.repeat(pred, weights))
    found = stream(make(), true, pred, weights.astype("float32"), cuts=[6, 7, 15])
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", STREAMED)
def test_nothing_seen_is_zero(name):
    assert float(keras.ops.convert_to_numpy(STREAMED[name][0]().result())) == 0


@pytest.mark.parametrize("name", STREAMED)
def test_serialized_and_back(name):
    metric = STREAMED[name][0]()
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()


def test_corr_far_from_zero_in_float32():
    rng = np.random.default_rng(0)
    true = (1000 + rng.normal(size=300)).astype("float32")
    pred = (0.7 * true + rng.normal(size=300)).astype("float32")
    found = stream(metrics.PearsonCorrelation(), true, pred, cuts=range(50, 300, 50))
    assert found == pytest.approx(metrics.corr(true, pred), abs=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, -1 / 3, 1e4])
def test_corr_with_a_constant_is_exactly_zero(constant):
    side, other = np.full(30, constant, "float32"), np.linspace(-1, 1, 30, dtype="float32")
    weights = np.linspace(0, 1, 30, dtype="float32")
    for pair in ((side, other), (other, side)):
        assert stream(metrics.PearsonCorrelation(), *pair, weights, cuts=[7, 8, 20]) == 0


def test_half_precision_predictions_are_counted_in_full():
    metric = metrics.SentimentAccuracy(dtype="float32")
    ones = np.ones(3000, "float16")
    stream(metric, ones, ones)
    assert [float(keras.ops.convert_to_numpy(v)) for v in metric.variables] == [3000, 3000]
    confusion = metrics.SentimentF1()
    stream(confusion, ones, ones)
    assert keras.ops.convert_to_numpy(confusion.counts).tolist() == [[0, 0], [0, 3000]]


def test_predictions_as_scores_of_classes():
    rng = np.random.default_rng(0)
    true, logits = rng.integers(0, 4, 24), rng.normal(size=(24, 4)).astype("float32")
    found = stream(metrics.WeightedF1(4), true, logits, cuts=[5])
    assert found == pytest.approx(metrics.f1(true, logits), abs=1e-6)


def test_inside_a_compiled_model(tmp_path):
    """In `fit` and `evaluate`, jitted where the backend can, and after saving and loading."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(22, 3)).astype("float32"), scores(rng, 22)[0][:, None]
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
    followed = [make() for make, _, examples in STREAMED.values() if examples is scores]
    jit = keras.backend.backend() != "torch"
    model.compile("sgd", "mae", metrics=followed, jit_compile=jit)
    history = model.fit(x, y, batch_size=8, verbose=0).history
    assert set(history) == {"loss", *(m.name for m in followed)}
    model.save(tmp_path / "model.keras")
    pred = model.predict(x, verbose=0)
    for tested in (model, keras.saving.load_model(tmp_path / "model.keras")):
        found = tested.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
        for metric in followed:
            expected = STREAMED[metric.name][1](y, pred)
            assert found[metric.name] == pytest.approx(expected, abs=1e-5), metric.name


def test_log_loss_is_the_mean_of_the_true_class():
    logits = np.array([[2.0, 0.0, -1.0], [0.0, 1000.0, 0.0]])
    p = np.exp(logits[0]) / np.exp(logits[0]).sum()
    assert metrics.log_loss([1, 1], logits) == pytest.approx(-np.log(p[1]) / 2)
    assert metrics.classification_metrics([0, 1], logits)["log_loss"] == metrics.log_loss([0, 1], logits)  # fmt: skip
    with pytest.raises(ValueError, match="classes below the 3"):
        metrics.log_loss([0, 3], logits)
