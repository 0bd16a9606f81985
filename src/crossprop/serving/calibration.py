"""What a model's own errors say about a new prediction: the interval around it, and whether the model may know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossprop.data.compositions import fraction_matrix
from crossprop.errors import ModelFormatError
from crossprop.serving.domain import QUANTILE, distance_note, domain_radius
from crossprop.serving.intervals import (
    COVERAGE,
    GROWTH,
    LEAST_COMPOSITIONS,
    NEIGHBOURS,
    Difficulty,
    conformal_half_width,
    ensemble_gain,
    growth_with_distance,
)
from crossprop.serving.neighbourhood import Neighbourhood, training_compositions
from crossprop.serving.space import CompositionSpace


@dataclass(frozen=True)
class Judgement:
    """Intervals of n predictions, and why the model may not know.

    Attributes:
        lower: Lower ends, in the property's unit, shape (n,).
        upper: Upper ends, shape (n,).
        notes: Why a composition is too far from what was learnt, or an empty text; n of them.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    notes: list[str]


@dataclass(frozen=True)
class Calibration:
    """Intervals and domain of one model, from the evidence that lies with it.

    Attributes:
        around: The training compositions.
        difficulty: Where the model errs more; ``None`` where the interval is equally wide for all.
        scale: Half width of the interval where the difficulty is 1, in the property's unit.
        floor: Least value that the property takes, if it has a natural one.
        radius: Distance to the nearest training composition beyond which the model does not know.
        coverage: Share of new values that the intervals hold.
        growth: How fast the interval widens with that distance; 0 for models calibrated before it did.
        quantile: Share of the training compositions that lie within the radius of another one.
    """

    around: Neighbourhood
    difficulty: Difficulty | None
    scale: float
    floor: float | None
    radius: float | None
    coverage: float = COVERAGE
    growth: float = GROWTH
    quantile: float = QUANTILE

    @classmethod
    def fit(cls, evidence: pd.DataFrame, coverage: float = COVERAGE) -> Self:
        """Calibrate on the out-of-fold predictions of the training rows.

        The reference values of the hold-out have no say: of its rows only the distance of a fold model from the mean
        of all is looked at.

        Args:
            evidence: As it is stored with a model.
            coverage: Share of new values that the intervals shall hold, between 0 and 1.
        """
        compositions = training_compositions(evidence)
        fractions = fraction_matrix(compositions["formula"])
        space = CompositionSpace.fit(fractions)
        around = Neighbourhood(space, space.points(fractions), compositions)
        train = evidence[evidence["split"] == "train"]
        y_true, y_pred = train["y_true"].to_numpy(float), train["y_pred"].to_numpy(float)
        enough = len(compositions) >= LEAST_COMPOSITIONS
        difficulty = Difficulty.of(y_true, y_pred, around) if enough else None
        floor = 0.0 if enough and (y_true >= 0).all() else None
        found = cls(around, difficulty, 1.0, floor, domain_radius(around), coverage)
        return found.at_coverage(evidence, coverage)

    def at_coverage(self, evidence: pd.DataFrame, coverage: float) -> Self:
        """The same with intervals of another coverage.

        Args:
            evidence: What it was calibrated on.
            coverage: Share of new values that the intervals shall hold, between 0 and 1.
        """
        return replace(self, scale=self._scale_for(evidence, coverage), coverage=coverage)

    @classmethod
    def restore(
        cls,
        info: Mapping[str, Any],
        evidence: pd.DataFrame,
        space: CompositionSpace,
        points: NDArray[np.float32],
    ) -> Self:
        """Put together again what :meth:`fit` found, from what was stored of it.

        Raises:
            ModelFormatError: The points are not those of the evidence.
        """
        around = Neighbourhood(space, points, training_compositions(evidence))
        if len(points) != len(around.compositions):
            raise ModelFormatError(
                f"{len(points)} stored points and {len(around.compositions)} training compositions do not fit "
                "together. Register or pull the model again."
            )
        interval, difficulty = info["interval"], None
        if interval["method"] == "local":
            rows = evidence[evidence["split"] == "train"]
            difficulty = Difficulty.of(rows["y_true"].to_numpy(float), rows["y_pred"].to_numpy(float), around)
        return cls(
            around,
            difficulty,
            scale=interval["scale"],
            floor=interval["floor"],
            radius=info["domain"]["radius"],
            coverage=interval["coverage"],
            growth=interval.get("growth", 0.0),
            quantile=info["domain"]["quantile"],
        )

    def as_info(self) -> dict[str, Any]:
        """What ``model.json`` says about it: entries for its sections ``interval`` and ``domain``."""
        method = "constant" if self.difficulty is None else "local"
        return {
            "interval": {
                "coverage": self.coverage,
                "method": method,
                "scale": self.scale,
                "growth": self.growth,
                "floor": self.floor,
            },
            "domain": {"quantile": self.quantile, "radius": self.radius},
        }

    def judge(self, values: np.ndarray, fractions: np.ndarray) -> Judgement:
        """What is to be said about predictions.

        Args:
            values: Predicted values, shape (n,).
            fractions: The compositions, shape (n, 86).
        """
        distances, positions = self.around.nearest(fractions, NEIGHBOURS)
        half_width = self.scale * self._difficulty_of(values, distances, positions)
        lower = values - half_width
        if self.floor is not None:
            lower = np.minimum(np.maximum(lower, self.floor), values)
        notes = [""] * len(values)
        if self.radius is not None:
            for row in np.flatnonzero(distances[:, 0] > self.radius):
                nearest = str(self.around.compositions["formula"].iat[positions[row, 0]])
                widened = self.difficulty is not None and self.growth > 0
                notes[row] = distance_note(nearest, self.quantile, widened=widened)
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
            left_out = self.difficulty.estimate_left_out(y_pred, others[own])
            scores = scores / (left_out * self._growth_at(distances[own, 0]))
            there = self._difficulty_of(
                mean, *self.around.nearest(fraction_matrix(held_out["formula"]), NEIGHBOURS)
            )
            mean, single = mean / there, single / there
        return conformal_half_width(scores, coverage) * ensemble_gain(single, mean, scores)

    def _difficulty_of(
        self, values: np.ndarray, distances: np.ndarray, positions: np.ndarray
    ) -> NDArray[np.float64]:
        """Difficulty of new predictions: what near and like ones say, times the growth with the distance."""
        if self.difficulty is None:
            return np.ones(len(values))
        found: NDArray[np.float64] = self.difficulty.estimate(values, positions) * self._growth_at(
            distances[:, 0]
        )
        return found

    def _growth_at(self, distances: np.ndarray) -> NDArray[np.float64] | float:
        return growth_with_distance(distances, self.radius, self.growth)
