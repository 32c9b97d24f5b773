"""One number for a curve of a metric over missing rates.

Two are in use: P1's mean over the rates 0, 0.1 ... 0.9 (LNLN and its followers), and P2's area
under the lines between the points, AUILC (TFR-Net, EMT-DLFR).
"""

from collections.abc import Mapping

import numpy as np

RATES: tuple[float, ...] = tuple(i / 10 for i in range(10))
"""P1's test rates: 0 to 0.9 in steps of 0.1."""


def auilc(curve: Mapping[float, float]) -> float:
    """Area under the curve of a metric over the missing rate, by the trapezoidal rule.

    The area is not divided by the width of the rates, so only curves over the same rates compare.
    For a metric of which less is better (MAE), less area is better.

    Args:
        curve: Missing rate -> value, at two rates or more.

    Raises:
        ValueError: If there are fewer than two rates, or one lies outside [0, 1].

    Reference: Yuan et al., TFR-Net, ACM MM 2021, section 4.3 (AUILC).
    """
    rates, values = _sorted(curve)
    from scipy import integrate

    return float(integrate.trapezoid(values, rates))


def mean_over_rates(curve: Mapping[float, float]) -> float:
    """Mean of a metric over missing rates, each counting the same; arguments as for `auilc`."""
    return float(_sorted(curve)[1].mean())


def _sorted(curve: Mapping[float, float]) -> tuple[np.ndarray, np.ndarray]:
    rates = np.array(sorted(curve), "float64")
    if len(rates) < 2 or rates[0] < 0 or rates[-1] > 1:
        raise ValueError(
            "`curve` must hold values at two or more missing rates within [0, 1]. "
            f"Received: rates {tuple(curve)}."
        )
    return rates, np.array([curve[rate] for rate in sorted(curve)], "float64")
