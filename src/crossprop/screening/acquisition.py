"""Expected improvement: how much a composition is likely to beat the best one that is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)
_HALF_LOG_HALF_PI = 0.5 * np.log(np.pi / 2)
_FAR = 1e7
"""Deviations below the best from which the asymptote is exact in double precision."""


def deviation_of_interval(
    lower: NDArray[np.float64], upper: NDArray[np.float64], coverage: float
) -> NDArray[np.float64]:
    """Standard deviation of the normal distribution whose central interval of this coverage is as wide.

    Args:
        lower: Lower ends, shape (n,).
        upper: Upper ends, shape (n,).
        coverage: Share that the interval holds, between 0 and 1.
    """
    from scipy.special import ndtri

    width: NDArray[np.float64] = (upper - lower) / (2 * ndtri((1 + coverage) / 2))
    return width


def log_expected_improvement(
    mean: NDArray[np.float64], deviation: NDArray[np.float64], best: float
) -> NDArray[np.float64]:
    """Logarithm of the expected improvement over ``best`` when more is better.

    The improvement of a normal variable is ``deviation * (phi(z) + z * Phi(z))`` with ``z = (mean - best) /
    deviation``, which is 0 in double precision for most compositions of a screening; its logarithm is not, so
    that they can still be ranked.

    Args:
        mean: Predictions, shape (n,).
        deviation: Standard deviations, shape (n,); where 0, the improvement is certain or impossible (``-inf``).
        best: Best value known, in the same unit.

    Returns:
        Shape (n,).

    Source: Ament et al. 2023, arXiv:2310.20708, equation 9.
    """
    mean, deviation = np.asarray(mean, np.float64), np.asarray(deviation, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        certain = np.log(np.maximum(mean - best, 0.0))
        z = (mean - best) / deviation
        logs = _log_h(z) + np.log(deviation)
    return np.where(deviation > 0, logs, certain)


def _log_h(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of ``phi(z) + z * Phi(z)``, without cancellation where z is far below 0."""
    from scipy.special import erfcx, ndtr

    result = np.empty_like(z)
    near, far = z > -1, z < -_FAR
    middle = ~near & ~far
    x = z[near]
    result[near] = np.log(np.exp(-0.5 * x * x - _HALF_LOG_2PI) + x * ndtr(x))
    x = z[middle]
    ratio = np.log(erfcx(-x / np.sqrt(2)) * -x) + _HALF_LOG_HALF_PI
    result[middle] = -0.5 * x * x - _HALF_LOG_2PI + _log_one_minus_exp(ratio)
    x = z[far]
    result[far] = -0.5 * x * x - _HALF_LOG_2PI - 2 * np.log(-x)
    return result


def _log_one_minus_exp(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """``log(1 - exp(x))`` for x below 0 (Mächler 2012)."""
    return np.where(x > -np.log(2), np.log(-np.expm1(x)), np.log1p(-np.exp(x)))
