"""Conformal intervals: as wide as the out-of-fold residuals of similar predictions say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from crossprop.serving.neighbourhood import Neighbourhood

COVERAGE: Final = 0.9
NEIGHBOURS: Final = 10
"""Nearest training compositions whose residuals count."""
LEAST_COMPOSITIONS: Final = 100
"""Fewer cannot tell where the model errs more: the interval is then equally wide for all."""
_LEAST_GAIN: Final = 0.9
"""A mean of folds that share most of their rows is never better than single ones by more than this."""
_POWER: Final = 0.6
_OFFSET: Final = 0.1
_WINDOW_SHARE: Final = 0.005
GROWTH: Final = 1.25
"""How fast errors grow with the distance to the nearest training composition, counted in radii of the domain."""
_LEAST_WINDOW: Final = 25


def conformal_half_width(residuals: np.ndarray, coverage: float = COVERAGE) -> float:
    """Half width of the interval that covers ``coverage`` of new rows, from out-of-fold absolute residuals.

    The rank is the one of split conformal prediction: ``ceil((n + 1) * coverage)`` of n residuals.

    Source: Lei et al. 2018, doi:10.1080/01621459.2017.1307116.
    """
    ordered = np.sort(np.abs(residuals))
    rank = min(int(np.ceil((len(ordered) + 1) * coverage)), len(ordered))
    return float(ordered[rank - 1])


def ensemble_gain(single: np.ndarray, ensemble: np.ndarray, scores: np.ndarray) -> float:
    """How much smaller the errors of the ensemble's mean are than those of one fold model, as a factor from 0.9 to 1.

    Out-of-fold residuals are those of single fold models; what is served is their mean. By the ambiguity
    decomposition its mean squared error is theirs less the mean squared distance of a member from the mean, which
    takes no reference values to measure.

    Args:
        single: Predictions of one fold model for rows that no fold learnt from, divided by their difficulty.
        ensemble: Predictions of the mean, likewise.
        scores: Out-of-fold residuals, divided by their difficulty.

    Source: Krogh and Vedelsby 1995, Neural network ensembles, cross validation, and active learning.
    """
    whole = float(np.mean(np.square(scores)))
    if not len(single) or whole == 0:
        return 1.0
    return max(float(np.sqrt(max(1 - np.mean((single - ensemble) ** 2) / whole, 0.0))), _LEAST_GAIN)


def growth_with_distance(
    distances: np.ndarray, radius: float | None, growth: float
) -> NDArray[np.float64] | float:
    """By what factor intervals are wider for the distance to what was learnt: 1 at none, a straight line far away.

    Measured errors follow it within the domain and beyond, on rows that were held out at random and on whole clusters
    of compositions (``benchmarks/held_out_chemistry.py``).

    Args:
        distances: To the nearest training composition, shape (n,).
        radius: That of the domain.
        growth: How fast, as :data:`GROWTH`; 0 for not at all.

    Returns:
        Shape (n,), or 1 where nothing grows.
    """
    if radius is None or growth == 0:
        return 1.0
    factors: NDArray[np.float64] = np.hypot(1.0, growth * np.asarray(distances) / radius)
    return factors


@dataclass(frozen=True)
class Difficulty:
    """How large an error is to be expected, before it is scaled to the wanted coverage.

    Two means of absolute out-of-fold residuals are multiplied: that of the nearest training compositions, and that
    of the rows with the nearest predictions. Both are divided by the mean of all and lifted by a tenth, so that a few
    lucky rows do not promise certainty; the power keeps the product from counting twice what both say.

    Attributes:
        predictions: Out-of-fold predictions, ascending, shape (n,).
        cumulated: Sums of the absolute residuals of the rows before each, shape (n + 1,).
        residuals: Mean absolute residual of each training composition, shape (n_compositions,).
        rows: Number of rows of each.

    Source: the normalised nonconformity of Papadopoulos et al. 2011, doi:10.1613/jair.3198.
    """

    predictions: NDArray[np.float64]
    cumulated: NDArray[np.float64]
    residuals: NDArray[np.float64]
    rows: NDArray[np.float64]

    @classmethod
    def of(cls, y_true: np.ndarray, y_pred: np.ndarray, around: Neighbourhood) -> Self:
        """Keep the residuals of the training rows, shape (n,) each."""
        order = np.argsort(y_pred, kind="stable")
        residuals = np.abs(y_true - y_pred)[order]
        cumulated = np.concatenate([[0.0], np.cumsum(residuals)])
        own = around.compositions
        return cls(y_pred[order], cumulated, own["residual"].to_numpy(), own["rows"].to_numpy(float))

    def estimate(self, values: np.ndarray, positions: np.ndarray) -> NDArray[np.float64]:
        """Difficulty of new predictions.

        Args:
            values: Predicted values, shape (n,).
            positions: Nearest training compositions of each, shape (n, k).

        Returns:
            Shape (n,); 1 where the model errs as it does on the whole.
        """
        place = np.searchsorted(self.predictions, values)
        low, high = self._window(place, place)
        by_value = (self.cumulated[high] - self.cumulated[low]) / (high - low)
        return self._combined(by_value, positions)

    def estimate_left_out(self, y_pred: np.ndarray, positions: np.ndarray) -> NDArray[np.float64]:
        """Difficulty of the training rows themselves, from the residuals of all others.

        Args:
            y_pred: Their out-of-fold predictions in the order in which they were given, shape (n,).
            positions: Nearest other training compositions of each, shape (n, k).
        """
        order = np.argsort(y_pred, kind="stable")
        place = np.empty(len(order), dtype=np.intp)
        place[order] = np.arange(len(order))
        low, high = self._window(place, place + 1)
        own = self.cumulated[place + 1] - self.cumulated[place]
        by_value = (self.cumulated[high] - self.cumulated[low] - own) / np.maximum(high - low - 1, 1)
        return self._combined(by_value, positions)

    def _window(self, first: np.ndarray, behind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows with predictions just below ``first`` and from ``behind`` on."""
        n = len(self.predictions)
        half = max(_LEAST_WINDOW, int(n * _WINDOW_SHARE))
        return np.maximum(first - half, 0), np.minimum(behind + half, n)

    def _combined(self, by_value: np.ndarray, positions: np.ndarray) -> NDArray[np.float64]:
        mean = max(self.cumulated[-1] / len(self.predictions), np.finfo(float).tiny)
        rows = self.rows[positions]
        by_place = (self.residuals[positions] * rows).sum(axis=1) / rows.sum(axis=1)
        combined: NDArray[np.float64] = ((by_place / mean + _OFFSET) * (by_value / mean + _OFFSET)) ** _POWER
        return combined
