"""Conformal intervals and applicability domain of a new prediction, from a model's out-of-fold errors."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossprop.data.compositions import fraction_matrix
from crossprop.data.splits import together_in
from crossprop.errors import ModelFormatError
from crossprop.uncertainty import neighbours
from crossprop.uncertainty.neighbours import CompositionSpace, Neighbourhood

COVERAGE: Final = 0.9
NEIGHBOURS: Final = 10  # nearest training compositions whose residuals are averaged
LEAST_COMPOSITIONS: Final = 100  # with fewer the interval is equally wide for all
# Of the errors with the distance to the nearest training composition, in radii of the domain.
GROWTH: Final = 1.25
_LEAST_GAIN: Final = 0.9  # folds share most of their rows
_POWER: Final = 0.6
_OFFSET: Final = 0.1
_WINDOW_SHARE: Final = 0.005
_LEAST_WINDOW: Final = 25


def conformal_half_width(residuals: np.ndarray, coverage: float = COVERAGE) -> float:
    """Half width that covers ``coverage`` of new rows: the absolute residual of rank ``ceil((n + 1) * coverage)``.

    Source: Lei et al. 2018, doi:10.1080/01621459.2017.1307116 (split conformal prediction).
    """
    ordered = np.sort(np.abs(residuals))
    rank = min(int(np.ceil((len(ordered) + 1) * coverage)), len(ordered))
    return float(ordered[rank - 1])


def ensemble_gain(single: np.ndarray, ensemble: np.ndarray, scores: np.ndarray) -> float:
    """Errors of the ensemble's mean relative to those of one fold model, from 0.9 to 1; all divided by the difficulty.

    ``single`` and ``ensemble`` are predictions of hold-out rows, ``scores`` out-of-fold residuals of single models.

    Source: Krogh and Vedelsby 1995, Neural network ensembles, cross validation, and active learning.
    """
    whole = float(np.mean(np.square(scores)))
    if not len(single) or whole == 0:
        return 1.0
    return max(float(np.sqrt(max(1 - np.mean((single - ensemble) ** 2) / whole, 0.0))), _LEAST_GAIN)


def growth_with_distance(distances: np.ndarray, radius: float | None, growth: float) -> NDArray[np.float64]:
    """Factor by which intervals widen with the distance, shape (n,) (see ``benchmarks/held_out_chemistry.py``)."""
    return np.asarray(np.hypot(1.0, growth * distances / (np.inf if radius is None else radius)))


@dataclass(frozen=True)
class Difficulty:
    """Expected size of an error, before it is scaled to the wanted coverage.

    The product of the relative mean residuals of the nearest compositions and of the rows with the nearest predictions.

    Source: the normalised nonconformity of Papadopoulos et al. 2011, doi:10.1613/jair.3198.
    """

    predictions: NDArray[np.float64]  # out of fold, ascending, shape (n,)
    cumulated: NDArray[np.float64]  # sums of the absolute residuals of the rows before each, shape (n + 1,)
    residuals: NDArray[np.float64]  # mean of each training composition
    rows: NDArray[np.float64]  # of each training composition

    @classmethod
    def of(cls, train: pd.DataFrame, around: Neighbourhood) -> Self:
        """Keep the residuals of the training rows of the evidence."""
        y_pred = train["y_pred"].to_numpy(float)
        order = np.argsort(y_pred, kind="stable")
        residuals = np.abs(train["y_true"].to_numpy(float) - y_pred)
        cumulated = np.concatenate([[0.0], np.cumsum(residuals[order])])
        table = around.compositions
        return cls(y_pred[order], cumulated, table["residual"].to_numpy(), table["rows"].to_numpy(float))

    def estimate(self, values: np.ndarray, positions: np.ndarray) -> NDArray[np.float64]:
        """Difficulty of new predictions, shape (n,), with their nearest training compositions, shape (n, k)."""
        place = np.searchsorted(self.predictions, values)
        low, high = self._window(place, place)
        by_value = (self.cumulated[high] - self.cumulated[low]) / (high - low)
        return self._combined(by_value, positions)

    def estimate_left_out(self, y_pred: np.ndarray, keys: pd.Series, positions: np.ndarray) -> NDArray[np.float64]:
        """Difficulty of the training rows themselves, each from the rows of other keys (compositions or groups)."""
        n = len(y_pred)
        order = np.argsort(y_pred, kind="stable")
        place = np.empty(n, dtype=np.intp)
        place[order] = np.arange(n)
        low, high = self._window(place, place + 1)
        key = pd.factorize(keys)[0].astype(np.int64) * n
        tags = np.sort(key + place)  # the rows by key, those of one key by prediction
        cumulated = np.concatenate([[0.0], np.cumsum(np.diff(self.cumulated)[tags % n])])
        first, behind = np.searchsorted(tags, key + low), np.searchsorted(tags, key + high)
        others = high - low - (behind - first)
        total = self.cumulated[high] - self.cumulated[low] - (cumulated[behind] - cumulated[first])
        by_value = np.where(others > 0, total / np.maximum(others, 1), self.cumulated[-1] / n)
        return self._combined(by_value, positions)

    def _window(self, first: np.ndarray, behind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows with predictions just below ``first`` and from ``behind`` on."""
        n = len(self.predictions)
        half = max(_LEAST_WINDOW, int(n * _WINDOW_SHARE))
        return np.maximum(first - half, 0), np.minimum(behind + half, n)

    def _combined(self, by_value: np.ndarray, positions: np.ndarray) -> NDArray[np.float64]:
        mean = max(self.cumulated[-1] / len(self.predictions), np.finfo(float).tiny)
        rows = self.rows[positions]
        n = rows.sum(axis=1)  # 0 where all of them are auxiliary
        by_place = np.where(n > 0, (self.residuals[positions] * rows).sum(axis=1) / np.maximum(n, 1), mean)
        return np.asarray(((by_place / mean + _OFFSET) * (by_value / mean + _OFFSET)) ** _POWER)


@dataclass(frozen=True)
class Judgement:
    """Intervals of n predictions, and for each why it lies outside of the applicability domain, or an empty text."""

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    notes: list[str]


@dataclass(frozen=True)
class Calibration:
    """Intervals and applicability domain of one model, from its evidence."""

    around: Neighbourhood
    difficulty: Difficulty | None  # without one the interval is equally wide for all
    scale: float  # half width at difficulty 1, in the unit
    floor: float | None  # least value of a property that has one
    radius: float | None  # distance at the edge of the domain
    coverage: float = COVERAGE
    growth: float = GROWTH
    quantile: float = neighbours.QUANTILE

    @classmethod
    def fit(cls, evidence: pd.DataFrame, coverage: float = COVERAGE) -> Self:
        """Calibrate on out-of-fold predictions; hold-out rows only give the distance of a fold model from the mean."""
        compositions = neighbours.training_compositions(evidence)
        fractions = fraction_matrix(compositions["formula"])
        space = CompositionSpace.fit(fractions)
        around = Neighbourhood(space, space.points(fractions), compositions)
        train = evidence[evidence["split"] == "train"]
        enough = train["composition"].nunique() >= LEAST_COMPOSITIONS
        difficulty = Difficulty.of(train, around) if enough else None
        floor = 0.0 if enough and (train["y_true"] >= 0).all() else None
        found = cls(around, difficulty, 1.0, floor, neighbours.domain_radius(around), coverage)
        return found.at_coverage(evidence, coverage)

    def at_coverage(self, evidence: pd.DataFrame, coverage: float) -> Self:
        """The same with intervals of another coverage, from the evidence that it was calibrated on."""
        return replace(self, scale=self._scale_for(evidence, coverage), coverage=coverage)

    @classmethod
    def restore(
        cls, info: Mapping[str, Any], evidence: pd.DataFrame, space: CompositionSpace, points: np.ndarray
    ) -> Self:
        """Restore a calibration from :meth:`as_info` and the stored files."""
        around = Neighbourhood(space, points, neighbours.training_compositions(evidence))
        if len(points) != len(around.compositions):
            raise ModelFormatError(
                f"{len(points)} stored points and {len(around.compositions)} training compositions do not fit "
                "together. Fit, register or pull the model again."
            )
        interval, difficulty = info["interval"], None
        if interval["method"] == "local":
            difficulty = Difficulty.of(evidence[evidence["split"] == "train"], around)
        stored = {key: interval[key] for key in ("scale", "floor", "coverage", "growth")}
        stored |= {key: info["domain"][key] for key in ("radius", "quantile")}
        return cls(around, difficulty, **stored)

    def as_info(self) -> dict[str, Any]:
        """The sections ``interval`` and ``domain`` of ``model.json``."""
        interval = {
            "coverage": self.coverage,
            "method": "constant" if self.difficulty is None else "local",
            **{key: getattr(self, key) for key in ("scale", "growth", "floor")},
        }
        return {"interval": interval, "domain": {"quantile": self.quantile, "radius": self.radius}}

    def judge(self, values: np.ndarray, fractions: np.ndarray) -> Judgement:
        """Intervals and domain of predicted values, shape (n,), of compositions, shape (n, 86)."""
        distances, positions = self.around.nearest(fractions, NEIGHBOURS)
        half_width = self.scale * self._difficulty_of(values, distances, positions)
        lower = values - half_width
        if self.floor is not None:
            lower = np.minimum(np.maximum(lower, self.floor), values)
        notes = [""] * len(values)
        if self.radius is not None:
            for row in np.flatnonzero(distances[:, 0] > self.radius):
                nearest = self.around.compositions["formula"].iat[positions[row, 0]]
                widened = self.difficulty is not None and self.growth > 0
                then = "an extrapolation" if widened else "expect larger errors than the interval says"
                notes[row] = (
                    f"the nearest training composition, {nearest}, is farther away than {100 * self.quantile:.0f} % "
                    f"of the training compositions are from their nearest one: {then}"
                )
        return Judgement(lower, values + half_width, notes)

    def _scale_for(self, evidence: pd.DataFrame, coverage: float) -> float:
        """Half width where the difficulty is 1: the conformal quantile, less what the mean of folds gains."""
        train, held_out = (evidence[evidence["split"] == split] for split in ("train", "test"))
        y_true, y_pred = train["y_true"].to_numpy(float), train["y_pred"].to_numpy(float)
        mean, single = held_out["y_pred"].to_numpy(float), held_out["y_pred_single"].to_numpy(float)
        scores = np.abs(y_true - y_pred)
        if self.difficulty is not None:
            distances, others = self.around.nearest_others(NEIGHBOURS)
            own = self.around.compositions.index.get_indexer(pd.Index(train["composition"]))
            keys = train[together_in(train)]
            left_out = self.difficulty.estimate_left_out(y_pred, keys, others[own])
            growth = growth_with_distance(distances[own, 0], self.radius, self.growth)
            scores = scores / (left_out * growth)
            nearest = self.around.nearest(fraction_matrix(held_out["formula"]), NEIGHBOURS)
            there = self._difficulty_of(mean, *nearest)
            mean, single = mean / there, single / there
        return conformal_half_width(scores, coverage) * ensemble_gain(single, mean, scores)

    def _difficulty_of(self, values: np.ndarray, distances: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Difficulty of new predictions times the growth with the distance."""
        if self.difficulty is None:
            return np.ones(len(values))
        growth = growth_with_distance(distances[:, 0], self.radius, self.growth)
        return np.asarray(self.difficulty.estimate(values, positions) * growth)
