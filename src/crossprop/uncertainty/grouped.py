"""Intervals and standard errors of means whose rows come in groups: polymorphs of a composition err together.

All take values of shape (n,), in any unit, beside the group of each, shape (n,); with one row in each group they are
the usual ones of independent rows.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from crossprop.methods import DEFAULT_SEED

FEW = 20  # groups


@dataclass(frozen=True)
class MeanInterval:
    """A mean, its 95 % interval, and the two-sided p of a mean of zero; one group alone gives no interval."""

    mean: float
    low: float | None
    high: float | None
    p_value: float


def mean_interval(
    values: np.ndarray, groups: np.ndarray, *, least: float = -np.inf, n_resamples: int = 10_000
) -> MeanInterval:
    """Percentile bootstrap of the mean, drawn by groups; the smallest p is about 2 / n_resamples.

    Below :data:`FEW` groups, where a bootstrap gives too narrow an interval, it is Student's t, cut at the ``least``
    mean that is possible: 0 for errors. Of the errors on a hold-out it covers another hold-out of this size, but no
    other training set or seed.
    """
    totals, counts = _by_group(values, groups)
    mean = float(np.mean(values))
    if len(totals) < FEW:
        error = standard_error(values, groups)
        if np.isnan(error):
            return MeanInterval(mean, None, None, 1.0)
        half = float(stats.t.ppf(0.975, len(totals) - 1)) * error
        return MeanInterval(mean, max(least, mean - half), mean + half, p_against_constant(values, groups, 0.0))
    drawn = stats.bootstrap(
        (totals, counts), lambda t, n, axis: t.sum(axis=axis) / n.sum(axis=axis), paired=True, method="percentile",
        n_resamples=n_resamples, batch=max(1, 4_000_000 // len(totals)), rng=DEFAULT_SEED,
    )  # fmt: skip
    means, interval = drawn.bootstrap_distribution, drawn.confidence_interval
    smaller_tail = int(min(np.count_nonzero(means <= 0.0), np.count_nonzero(means >= 0.0)))
    p_value = min(1.0, 2.0 * (smaller_tail + 1) / (n_resamples + 1))
    return MeanInterval(mean, float(interval.low), float(interval.high), p_value)


def standard_error(values: np.ndarray, groups: np.ndarray) -> float:
    """Standard error of the mean, from the spread of the groups' sums; NaN for fewer than two groups.

    Source: Cameron and Miller 2015, J. Hum. Resour. 50, 317-372, doi:10.3368/jhr.50.2.317 (of a constant, "CR1").
    """
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        return float("nan")
    totals, _ = _by_group(values - np.mean(values), groups)
    return float(np.sqrt(n_groups / (n_groups - 1) * np.sum(totals**2)) / len(values))


def p_against_constant(values: np.ndarray, groups: np.ndarray, reference: float) -> float:
    """Two-sided p (Student's t) of "the mean is ``reference``", taken as exact; 1 for fewer than two groups."""
    error, gap = standard_error(values, groups), abs(float(np.mean(values)) - reference)
    if np.isnan(error):
        return 1.0
    if error == 0:
        return 1.0 if gap == 0 else 0.0
    return float(2 * stats.t.sf(gap / error, len(np.unique(groups)) - 1))


def _by_group(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of every group."""
    _, index = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    return np.bincount(index, weights=values), np.bincount(index)
