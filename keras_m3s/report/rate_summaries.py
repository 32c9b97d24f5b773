"""Scalar summaries of a metric over missing rates: the mean and the area under the curve.

Protocol P1 reports the mean over the rates 0, 0.1 ... 0.9 (LNLN and its followers), protocol P2 the
area under the curve, AUILC (TFR-Net, EMT-DLFR).
"""

from collections.abc import Mapping

import numpy as np

RATES: tuple[float, ...] = tuple(i / 10 for i in range(10))
"""Test rates of P1."""


def auilc(curve: Mapping[float, float]) -> float:
    """Area under the curve of a metric over the missing rate, by the trapezoidal rule.

    The area is not divided by the range of rates, so only curves over the same rates compare. Lower
    is better if it is for the metric (MAE).

    Args:
        curve: Missing rate in [0, 1] -> value of the metric, for two rates or more.

    Raises:
        ValueError: If there are fewer than two rates, or one lies outside [0, 1].

    Reference: Yuan et al., TFR-Net, ACM MM 2021, section 4.3 (AUILC).
    """
    rates, values = _sorted(curve)
    from scipy import integrate

    return float(integrate.trapezoid(values, rates))


def mean_over_rates(curve: Mapping[float, float]) -> float:
    """Unweighted mean of a metric over missing rates.

    Args:
        curve: As for `auilc`.

    Raises:
        ValueError: As for `auilc`.
    """
    return float(_sorted(curve)[1].mean())


def mean_over_conditions(values: Mapping[float, float]) -> float:
    """Unweighted mean of a metric over the conditions of a protocol, whatever they are.

    Args:
        values: Rate or number of a condition -> value of the metric.
    """
    return float(np.mean(list(values.values())))


def _sorted(curve: Mapping[float, float]) -> tuple[np.ndarray, np.ndarray]:
    rates = np.array(sorted(curve), "float64")
    if len(rates) < 2 or rates[0] < 0 or rates[-1] > 1:
        raise ValueError(
            "`curve` must hold values at two or more missing rates within [0, 1]. "
            f"Received: rates {tuple(curve)}."
        )
    return rates, np.array([curve[rate] for rate in sorted(curve)], "float64")
