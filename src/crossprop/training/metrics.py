"""Error measures of predictions; pure functions of arrays.

All take values of shape (n_samples,) in the property's unit, and raise :class:`~crossprop.errors.ShapeMismatchError`
where shapes differ, are not one-dimensional, or hold no sample.
"""

import numpy as np

from crossprop.errors import ShapeMismatchError


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
