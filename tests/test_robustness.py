"""What a model withstands: numbers worked out by hand, the same holes for all, any structure."""

import csv
import itertools
import warnings
from typing import ClassVar

import keras
import numpy as np
import pytest
from keras import ops

import keras_m3s as m3s
from keras_m3s.evaluation.holes import HoledInputs
from keras_m3s.evaluation.plot import draw_tables
from keras_m3s.evaluation.robustness import combinations
from keras_m3s.missing import apply, fixed_draws

ROWS = 48


def data(rows=ROWS, steps=10):
    rng = np.random.default_rng(0)
    x = {m: rng.normal(1.0, 1.0, size=(rows, steps, 2)).astype("float32") for m in ("acc", "gyro")}
    return x, sum(v.mean((1, 2)) for v in x.values())[:, None]


@keras.saving.register_keras_serializable(package="tests")
class Means(keras.layers.Layer):
    """The sum of the means of its inputs: what it predicts is known by hand."""

    def call(self, inputs):
        return sum(ops.mean(v, axis=(1, 2)) for v in inputs)[:, None]


def sum_of_means(kind="dict", steps=10):
    inputs = {m: keras.Input((steps, 2), name=m) for m in ("acc", "gyro")}
    out = Means()(list(inputs.values()))
    model = keras.Model(inputs if kind == "dict" else list(inputs.values()), out)
    model.compile(loss="mse", metrics=[keras.metrics.MeanAbsoluteError(name="mae")])
    return model


def test_the_numbers_are_those_of_the_same_holes_by_hand():
    x, y = data()
    table = m3s.robustness(
        sum_of_means(), x, y, rates=(0, 0.5), patterns=("span",), draws=3, seed=4
    )
    assert table.complete["mae"] == pytest.approx(0, abs=1e-6)
    draws = [r for r in table.results if r.rate == 0.5]
    assert [r.draw for r in draws] == [0, 1, 2]
    for result in draws:
        holed = apply(
            {m: ops.convert_to_tensor(v) for m, v in x.items()},
            fixed_draws(ROWS, 2, seed=4 + result.draw),
            {"acc": (0.5, 0.5), "gyro": (0.5, 0.5)},
        )
        predicted = sum(ops.convert_to_numpy(v).mean((1, 2)) for v in holed.values())
        assert result.metrics["mae"] == pytest.approx(np.abs(predicted - y[:, 0]).mean(), rel=1e-5)
    row = next(r for r in table.rows() if r["rate"] == 0.5)
    values = [r.metrics["mae"] for r in draws]
    assert row["mae"] == pytest.approx(np.mean(values))
    assert row["mae_sd"] == pytest.approx(np.std(values, ddof=1))
    gone = next(r for r in table.results if r.absent == ("gyro",))
    assert gone.metrics["mae"] == pytest.approx(np.abs(x["gyro"].mean((1, 2))).mean(), rel=1e-5)


@pytest.mark.once
def test_a_wrapper_does_not_warn_of_holes_that_are_cut_already():
    x, y = data()
    wrapped = m3s.WithMissing(sum_of_means(), m3s.MissingModality((0.4, 0.6), seed=0))
    wrapped.compile()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Without `draws`")
        m3s.robustness(wrapped, x, y, rates=(0.5,), patterns=("span",), draws=1, absent=False)


def test_every_structure_meets_the_same_holes():
    x, y = data()
    joined = np.concatenate(list(x.values()), -1)
    one_input = keras.Input((10, 4))
    one = keras.Model(one_input, Means()([one_input[..., :2], one_input[..., 2:]]))
    one.compile(loss="mse", metrics=[keras.metrics.MeanAbsoluteError(name="mae")])
    settings = {"rates": (0.4,), "patterns": ("span", "modality"), "draws": 2}
    tables = [
        m3s.robustness(sum_of_means(), x, y, **settings),
        m3s.robustness(sum_of_means("list"), list(x.values()), y, **settings),
        m3s.robustness(one, joined, y, modalities={"acc": slice(0, 2), "gyro": slice(2, 4)}, **settings),
    ]  # fmt: skip
    for other in tables[1:]:
        for a, b in zip(tables[0].results, other.results, strict=True):
            assert a[:4] == b[:4] and a.metrics["mae"] == pytest.approx(b.metrics["mae"], rel=1e-5)


def test_one_program_serves_all_rates():
    traced = []

    class Counted(Means):
        def call(self, inputs):
            traced.append(1)
            return super().call(inputs)

    inputs = {m: keras.Input((10, 2), name=m) for m in ("acc", "gyro")}
    model = keras.Model(inputs, Counted()(list(inputs.values())))
    model.compile(loss="mse")
    x, y = data()
    m3s.robustness(model, x, y, rates=(0,), patterns=("span",), absent=False)
    before = len(traced)
    m3s.robustness(model, x, y, rates=(0.2, 0.5, 0.9), patterns=("span", "frames"), draws=2)
    if keras.backend.backend() != "torch":
        assert len(traced) == before


def test_recorded_nan_and_models_that_take_it():
    """A plain model gets 0 for what was never measured, one with the layer inside gets NaN."""
    x, y = data()
    x["acc"][::2, 3:6] = np.nan
    plain = m3s.robustness(sum_of_means(), x, y, rates=(0, 0.5), patterns=("span",), draws=1)
    assert all(np.isfinite(r.metrics["mae"]) for r in plain.results)
    assert np.isnan(HoledInputs(x, as_nan=True).at(1.0, "span", 0)["gyro"]).all()
    inputs = {m: keras.Input((10, 2), name=m) for m in ("acc", "gyro")}
    filled = m3s.MissingModality(0.5, modalities=("acc", "gyro"), fill=1.0)(inputs)
    model = keras.Model(inputs, Means()(list(filled.values())))
    model.compile(loss="mse", metrics=[keras.metrics.MeanAbsoluteError(name="mae")])
    table = m3s.robustness(model, x, y, rates=(1.0,), patterns=("span",), draws=1)
    whole = next(r for r in table.results if r.rate == 1.0)
    assert whole.metrics["mae"] == pytest.approx(np.nanmean(np.abs(2 - y)), rel=1e-5)


def test_it_prints_keeps_and_draws(tmp_path):
    x, y = data()
    table = m3s.robustness(sum_of_means(), x, y, rates=(0, 0.5), draws=2)
    text = str(table)
    assert text.splitlines()[2].split()[0] == "nothing" and "span 50%" in text
    assert "without acc" in text and "±" in text and "mae" in text.splitlines()[0]
    table.to_csv(tmp_path / "all.csv")
    rows = list(csv.DictReader((tmp_path / "all.csv").open()))
    assert len(rows) == len(table.results) == 2 * (1 + 2) + 2
    assert rows[-1]["absent"] == "gyro" and float(rows[0]["mae"]) == table.complete["mae"]
    table.plot(tmp_path / "table.png")
    assert (tmp_path / "table.png").stat().st_size > 10_000


class MadeUp:
    """A table of six modalities and three patterns."""

    patterns = ("span", "frames", "modality")
    complete: ClassVar = {"mae": 1.0}

    def __init__(self, most_absent):
        self.sets = [s for n in range(most_absent) for s in itertools.combinations("abcdef", n + 1)]

    def curve(self, metric, pattern):
        return [(rate, 1 + rate, 0.1) for rate in (0.0, 0.5)]

    def rows(self):
        return [{"absent": one, "mae": 1.0} for one in [None, *self.sets]]


@pytest.mark.once
@pytest.mark.parametrize(("most_absent", "models"), [(0, 1), (0, 3), (2, 1), (2, 3)])
def test_a_picture_is_no_wider_than_a_page(most_absent, models):
    figure = draw_tables({str(n): [MadeUp(most_absent)] for n in range(models)}, "mae")
    assert figure.get_size_inches()[0] <= 9.2
    if most_absent:
        figure.draw_without_rendering()
        bars = figure.axes[-1]
        boxes = [label.get_window_extent() for label in bars.get_yticklabels()]
        assert len(boxes) == 6 + 15
        assert all(low.y0 > high.y1 for low, high in itertools.pairwise(boxes)), "apart"


def test_comparisons_are_paired(tmp_path):
    x, y = data()
    good = sum_of_means()
    inputs = {m: keras.Input((10, 2), name=m) for m in ("acc", "gyro")}
    half = keras.Model(inputs, Means()([inputs["acc"], inputs["acc"]]))
    half.compile(loss="mse", metrics=[keras.metrics.MeanAbsoluteError(name="mae")])
    found = m3s.compare({"good": good, "half": half}, x, y, rates=(0.5,), patterns=("span",), draws=4)  # fmt: skip
    row = next(r for r in found.rows("mae") if r["condition"] == "span 50%")
    a, b = (
        [r.metrics["mae"] for r in found.tables[name][0].results if r.rate == 0.5]
        for name in ("good", "half")
    )
    difference = np.array(b) - np.array(a)
    assert (row["pairs"], row["over"]) == (4, "draws")
    assert row["difference"] == pytest.approx(difference.mean())
    t = 3.182446  # of 3 degrees of freedom, two-sided 95 %
    half_width = t * difference.std(ddof=1) / 2
    assert row["high"] - row["low"] == pytest.approx(2 * half_width, rel=1e-5)
    seeds = m3s.compare({"a": [good, half], "b": [half, good]}, x, y, rates=(0.5,), draws=1)
    assert {r["over"] for r in seeds.rows("mae")} == {"seeds"}
    assert "paired over seeds" in str(seeds)
    seeds.plot(tmp_path / "seeds.png")
    with pytest.raises(ValueError, match="as many seeds"):
        m3s.compare({"a": [good], "b": [half, good]}, x, y, rates=(0.5,)).rows("mae")


def test_the_callback_logs_what_robustness_finds():
    x, y = data()
    model = sum_of_means()
    model.compile(
        optimizer="sgd", loss="mse", metrics=[keras.metrics.MeanAbsoluteError(name="mae")]
    )
    tested = m3s.RobustnessCallback(x, y, rates=(0.0, 0.5), draws=2)
    inputs = {m: keras.Input((10, 2), name=m) for m in ("acc", "gyro")}
    scaled = keras.Model(inputs, keras.layers.Dense(1)(Means()(list(inputs.values()))))
    scaled.compile(keras.optimizers.SGD(0.01), loss="mse", metrics=["mae"])
    history = scaled.fit(x, y, epochs=2, callbacks=[tested], verbose=0).history
    assert {"val_mae@0", "val_mae@0.5", "val_loss@0.5"} <= set(history)
    table = m3s.robustness(scaled, x, y, rates=(0.5,), patterns=("span",), draws=2, absent=False)
    assert history["val_mae@0.5"][-1] == pytest.approx(table.rows()[0]["mae"], rel=1e-5)


def test_bad_arguments():
    x, y = data()
    model = sum_of_means()
    with pytest.raises(ValueError, match="`rates` must be within"):
        m3s.robustness(model, x, y, rates=(1.5,))
    with pytest.raises(ValueError, match="`patterns` must be one of"):
        m3s.robustness(model, x, y, patterns=("blocks",))
    with pytest.raises(ValueError, match="must be compiled"):
        m3s.robustness(keras.Model(model.inputs, model.outputs), x, y)
    assert len(combinations([("a",), ("b",), ("c",), ("d",)])) == 14
    assert len(combinations([(str(i),) for i in range(6)])) == 6 + 15
