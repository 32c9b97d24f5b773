"""Statistics over seeds against scipy, enumeration, closed forms; curves over rates by hand."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from keras_m3s.report.rate_summaries import RATES, auilc, mean_over_rates
from keras_m3s.report.significance import compare, holm, summarize

pytestmark = pytest.mark.once


def by_seed(values):
    return dict(enumerate(np.asarray(values, "float64").tolist()))


@pytest.mark.parametrize("size", [3, 5, 12, 40])
def test_equal_to_scipy_on_random_data(size):
    rng = np.random.default_rng(size)
    for _ in range(5):
        first, second = rng.normal(size=size), rng.normal(0.3, 1, size=size)
        result = compare(by_seed(first), by_seed(second))
        expected = scipy.stats.ttest_rel(second, first)
        assert result.t == pytest.approx(expected.pvalue, rel=1e-9)
        assert result.effect == pytest.approx(expected.statistic / math.sqrt(size), rel=1e-9)
        assert result.wilcoxon == pytest.approx(scipy.stats.wilcoxon(second, first).pvalue)
        assert result.difference == pytest.approx(np.mean(second) - np.mean(first))
        assert result.pairs == size and result.low < result.effect < result.high


def test_wilcoxon_equals_all_assignments_of_signs():
    differences = np.array([0.3, -0.1, 0.5, 0.7, -0.2, 0.9])
    ranks = np.abs(differences).argsort().argsort() + 1
    sums = np.array([np.dot(ranks, s) for s in itertools.product([0, 1], repeat=6)])
    seen = ranks[differences > 0].sum()
    expected = min(1.0, 2 * min(np.mean(sums >= seen), np.mean(sums <= seen)))
    assert compare(by_seed(np.zeros(6)), by_seed(differences)).wilcoxon == pytest.approx(expected)


def test_closed_form_of_three_pairs():
    """Differences 1, 2, 3: d_z = 2; t = 2 sqrt(3), two-tailed p with 2 df = 1 - t / sqrt(t^2 + 2)."""
    result = compare(by_seed([1, 1, 1]), by_seed([2, 3, 4]))
    t = 2 * math.sqrt(3)
    assert result.effect == pytest.approx(2)
    assert result.t == pytest.approx(1 - t / math.sqrt(t * t + 2))
    assert result.wilcoxon == pytest.approx(2 / 2**3)


def test_bootstrap_interval_is_repeatable_and_covers():
    """Of 60 samples with true d_z = 0.5 the interval holds it in about 95 %."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(60):
        x = by_seed(rng.normal(0.5, 1, 30))
        r = compare(by_seed(np.zeros(30)), x)
        held += r.low <= 0.5 <= r.high
    assert 51 <= held < 60
    assert compare(by_seed(np.zeros(30)), x) == r
    assert compare(by_seed(np.zeros(30)), x, seed=1) != r


def test_pairs_are_of_the_same_seed():
    first, second = {0: 1.0, 1: 2.0, 7: 9.0, 2: 4.0}, {2: 5.0, 1: 2.5, 0: 1.25, 8: 0.0}
    result = compare(first, second)
    assert result.pairs == 3
    assert result.t == pytest.approx(scipy.stats.ttest_rel([1.25, 2.5, 5], [1, 2, 4]).pvalue)


def test_too_few_pairs():
    none, one, two = (compare(by_seed(x), by_seed(np.add(x, y))) for x, y in (([], []), ([1], [2]), ([1, 2], [1, 2])))  # fmt: skip
    assert none.pairs == 0 and math.isnan(none.difference)
    assert one.pairs == 1 and one.difference == 2
    assert all(math.isnan(v) for v in (one.effect, one.low, one.t, one.wilcoxon))
    assert two.pairs == 2 and 0 < two.t < 1 and math.isnan(two.low)


def test_differences_all_equal():
    same = compare(by_seed([0.1, 0.2, 0.3]), by_seed([0.1, 0.2, 0.3]))
    assert (same.difference, same.effect, same.low, same.high, same.t, same.wilcoxon) == (0, 0, 0, 0, 1, 1)  # fmt: skip
    shifted = compare(by_seed([0.1, 0.2, 0.3]), by_seed([0.3, 0.4, 0.5]))
    assert shifted.effect == shifted.low == shifted.high == math.inf
    assert math.isnan(shifted.t)
    assert shifted.wilcoxon == pytest.approx(0.25)


def test_summary():
    assert summarize([1.0, 2.0, 4.0]).sd == pytest.approx(math.sqrt(7 / 3))
    assert summarize([3.0]).mean == 3 and math.isnan(summarize([3.0]).sd)
    with pytest.raises(ValueError, match="at least one number"):
        summarize([])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.02, math.nan, 0.02], [0.04, math.nan, 0.04]),
        ([], []),
    ],
)
def test_holm_by_hand(given, expected):
    assert holm(given) == pytest.approx(expected, nan_ok=True)


def test_holm_errs_no_more_than_it_may():
    """20 tests of nothing, 2000 times: one of them passes in 5 % of times, not in 64 %."""
    p = np.random.default_rng(0).random((2000, 20))
    assert np.mean([min(holm(row)) <= 0.05 for row in p]) == pytest.approx(0.05, abs=0.015)
    assert np.mean(p.min(1) <= 0.05) > 0.5


def test_auilc_and_mean():
    line = {rate: 1 - rate for rate in RATES}
    assert auilc(line) == pytest.approx(0.9 - 0.9**2 / 2)
    assert mean_over_rates(line) == pytest.approx(0.55)
    # Unequal steps, given in any order: (0.2 + 0.4)/2 * 0.5 + (0.4 + 1)/2 * 0.25
    assert auilc({0.75: 1.0, 0.0: 0.2, 0.5: 0.4}) == pytest.approx(0.15 + 0.175)


@pytest.mark.parametrize("curve", [{}, {0.1: 1.0}, {0.0: 1.0, 1.1: 0.0}])
def test_bad_curves(curve):
    with pytest.raises(ValueError, match="two or more missing rates"):
        auilc(curve)
