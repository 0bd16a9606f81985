"""Error measures of predictions and their bootstrap intervals; pure functions of arrays.

All take values of shape (n_samples,) in the property's unit, and raise :class:`~crossprop.errors.ShapeMismatchError`
where shapes differ, are not one-dimensional, or hold no sample.
"""

from dataclasses import dataclass

import numpy as np

from crossprop.errors import ShapeMismatchError
from crossprop.methods import DEFAULT_SEED

_BLOCK_ENTRIES = 4_000_000  # resampled entries held at a time: 32 MB of indices


@dataclass(frozen=True)
class PairedDifference:
    """MAE of one model minus that of another, its interval, and the two-sided bootstrap p of no difference."""

    difference: float
    low: float
    high: float
    p_value: float


def mean_absolute_error(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Mean of the absolute error, in the property's unit; NaN if any value is NaN.

    Source: Gupta et al. 2021, Methods, doi:10.1038/s41467-021-26921-5.
    """
    return float(_absolute_errors(y_true, y_pred).mean())


def mean_absolute_error_q95(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """95th percentile of the absolute error, in the property's unit.

    Source: Gupta et al. 2021, Discussion ("Q95"), doi:10.1038/s41467-021-26921-5.
    """
    return float(np.quantile(_absolute_errors(y_true, y_pred), 0.95))


def r2(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Coefficient of determination: 1 for perfect predictions, 0 for the mean, negative for worse.

    For constant reference values it is 1 for perfect predictions, else 0 (as in scikit-learn).
    """
    true, pred = _matching(y_true, y_pred)
    residual = float(np.sum((true - pred) ** 2))
    total = float(np.sum((true - true.mean()) ** 2))
    if total == 0.0:
        return 1.0 if residual == 0.0 else 0.0
    return 1.0 - residual / total


def bootstrap_interval(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    *,
    coverage: float = 0.95,
    n_resamples: int = 2_000,
    seed: int = DEFAULT_SEED,
) -> tuple[float, float]:
    """Percentile bootstrap interval (lower and upper end) of the mean absolute error, in the property's unit.

    It covers another hold-out of this size, but no other training set or seed of the network.
    """
    means = _resampled_means(_absolute_errors(y_true, y_pred), n_resamples, seed)
    low, high = np.quantile(means, ((1.0 - coverage) / 2.0, (1.0 + coverage) / 2.0))
    return float(low), float(high)


def paired_bootstrap_difference(
    y_true: np.ndarray,
    y_pred_first: np.ndarray,
    y_pred_second: np.ndarray,
    *,
    coverage: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = DEFAULT_SEED,
) -> PairedDifference:
    """First minus second mean absolute error, with rows drawn in pairs; the smallest p is about 2 / n_resamples."""
    gaps = _absolute_errors(y_true, y_pred_first) - _absolute_errors(y_true, y_pred_second)
    means = _resampled_means(gaps, n_resamples, seed)
    low, high = np.quantile(means, ((1.0 - coverage) / 2.0, (1.0 + coverage) / 2.0))
    smaller_tail = int(min(np.count_nonzero(means <= 0.0), np.count_nonzero(means >= 0.0)))
    p_value = min(1.0, 2.0 * (smaller_tail + 1) / (n_resamples + 1))
    return PairedDifference(float(gaps.mean()), float(low), float(high), p_value)


def _matching(y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    true, pred = np.asarray(y_true, dtype=np.float64), np.asarray(y_pred, dtype=np.float64)
    if true.shape != pred.shape or true.ndim != 1 or true.size == 0:
        raise ShapeMismatchError(
            f"y_true has shape {true.shape} and y_pred {pred.shape}; give two equal shapes (n_samples,) with at "
            "least one sample, and flatten a column (n, 1)."
        )
    return true, pred


def _absolute_errors(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    true, pred = _matching(y_true, y_pred)
    return np.asarray(np.abs(true - pred), dtype=np.float64)


def _resampled_means(values: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """Means of ``n_resamples`` draws with replacement from ``values``, shape (n_resamples,)."""
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK_ENTRIES // values.size)
    sizes = [min(rows, n_resamples - start) for start in range(0, n_resamples, rows)]
    draws = (values[rng.integers(0, values.size, size=(size, values.size))] for size in sizes)
    return np.concatenate([draw.mean(axis=1) for draw in draws])
