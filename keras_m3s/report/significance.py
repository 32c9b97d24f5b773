"""Comparison of two methods over seeds: paired tests, correction for many tests, effect sizes.

Two methods are compared in pairs, on the seeds that both have, because a seed gives both the same
initial weights and order of the data:

    t           two-tailed paired t-test of the differences
    wilcoxon    signed-rank test, exact for few seeds; with n pairs, p >= 2 / 2^n
    d_z         mean difference / standard deviation of the differences (Cohen), with a bootstrap
                interval over the pairs
    holm        p-values corrected for the number of tests

Reference: M3S, section 5.5 and Table 5 has the t-tests; Holm, Scand. J. Statist. 6 (1979) 65-70.
"""

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES = 9_999
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Summary:
    """Summary of one metric over seeds.

    Attributes:
        count: Number of runs.
        mean: Mean over runs.
        sd: Standard deviation of the sample (n - 1); NaN for a single run.
    """

    count: int
    mean: float
    sd: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Comparison of two methods on their common seeds; NaN where there are too few of them.

    Attributes:
        pairs: Number of common seeds.
        difference: Mean of second - first.
        effect: Cohen's d_z. It is infinite, and `t` NaN, if all differences are equal and not 0:
            that occurs with coarse metrics on few examples, whose true spread is not 0.
        low: Lower end of the bootstrap interval of `effect`.
        high: Upper end of the bootstrap interval of `effect`.
        t: p of the paired t-test.
        wilcoxon: p of the signed-rank test.
    """

    pairs: int
    difference: float
    effect: float
    low: float
    high: float
    t: float
    wilcoxon: float


def summarize(values: Sequence[float]) -> Summary:
    """Mean and standard deviation.

    Args:
        values: A number for each run, at least one.

    Raises:
        ValueError: If there are none.
    """
    if not len(values):
        raise ValueError("`values` must hold at least one number. Received: none.")
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Summary(len(values), float(np.mean(values)), sd)


def compare(first: Mapping[int, float], second: Mapping[int, float], seed: int = 0) -> Comparison:
    """Tests whether a second method differs from a first.

    Args:
        first: Seed -> value of a metric.
        second: The same for the second method; seeds that only one of them has are ignored.
        seed: Seed of the bootstrap.

    Returns:
        `Comparison`; with fewer than two common seeds all but `pairs` and `difference` is NaN.
    """
    common = sorted(set(first) & set(second))
    differences = np.array([second[s] - first[s] for s in common], "float64")
    if not common:
        return Comparison(0, *[math.nan] * 6)
    difference = float(differences.mean())
    if len(common) < 2:
        return Comparison(1, difference, *[math.nan] * 5)
    effect = float(_effect(differences))
    if not effect:
        t = wilcoxon = 1.0
    else:
        t, wilcoxon = _p_values(differences)
        t = math.nan if math.isinf(effect) else t
    return Comparison(len(common), difference, effect, *_interval(differences, seed), t, wilcoxon)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p-values.

    Args:
        p_values: Those of all tests of one family; NaN is no test and stays NaN.

    Returns:
        Corrected p-values in the same order. Rejecting those at or below a level bounds the
        probability of any false rejection in the family by that level.
    """
    tests = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected = [math.nan] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(tests):
        largest = max(largest, min(1.0, (len(tests) - rank) * p))
        corrected[index] = largest
    return corrected


def _effect(differences: Any, axis: int = -1) -> Any:
    """Cohen's d_z along an axis: 0 if nothing differs, infinite if all differences are equal."""
    mean = differences.mean(axis)
    sd = differences.std(axis, ddof=1)
    # Equal differences leave a rounding error in the deviation.
    size = np.abs(differences).max(axis)
    sd = np.where(sd <= 1e-12 * size, 0.0, sd)
    mean = np.where(np.abs(mean) <= 1e-12 * size, 0.0, mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(mean == 0, 0.0, mean / sd)


def _p_values(differences: Any) -> tuple[float, float]:
    from scipy import stats

    with warnings.catch_warnings():
        # On equal differences, whose p-values are not used.
        warnings.simplefilter("ignore", RuntimeWarning)
        t = stats.ttest_1samp(differences, 0.0).pvalue
        wilcoxon = stats.wilcoxon(differences).pvalue
    return float(t), float(wilcoxon)


def _interval(differences: Any, seed: int) -> tuple[float, float]:
    """Percentile interval of d_z; bias-corrected intervals fail if some resamples are constant."""
    from scipy import stats

    if len(differences) < 3:
        return math.nan, math.nan
    # scipy also computes the standard error, which infinite effects do not have.
    with np.errstate(invalid="ignore"):
        drawn = stats.bootstrap(
            (differences,),
            _effect,
            n_resamples=RESAMPLES,
            method="percentile",
            vectorized=True,
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
    # Without interpolation, because a value may be infinite.
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)
