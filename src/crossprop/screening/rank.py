"""The best of the survivors, whatever their number: one pass, bounded memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from crossprop.errors import ScreeningError
from crossprop.screening.conditions import INTERVAL_NAMES, Expression
from crossprop.screening.pipeline import schema
from crossprop.screening.properties import PropertyModel
from crossprop.screening.request import Ranking

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


_LARGEST_FRONT = 100_000
_SYMBOL = re.compile("[A-Z][a-z]?")


@dataclass(frozen=True)
class Ranker:
    """Ranks survivors by one quantity, by expected improvement, or keeps the Pareto front of several.

    Attributes:
        kind: Which of these.
        objectives: Quantities, and whether more is better.
        properties: Models of the properties.
        top: Rows to keep.
        best: Value to beat, for the expected improvement.
        per_system: Most rows of one chemical system, i.e. of the same elements; ``None`` for no limit.
    """

    kind: Ranking
    objectives: tuple[tuple[Expression, bool], ...]
    properties: tuple[PropertyModel, ...]
    top: int
    best: float | None = None
    per_system: int | None = None

    def __post_init__(self) -> None:
        if self.kind == "ei" and self.best is None:
            raise ScreeningError("Expected improvement needs a value to improve on. Give it with --best.")
        if self.kind == "ei" and self._property is None:
            raise ScreeningError(
                f"Expected improvement ranks by a property, not by {self.objectives[0][0].text!r}: only a property "
                "has an interval. Name one, or leave out --rank ei."
            )

    def rank(self, batches: Iterable[pa.RecordBatch]) -> pd.DataFrame:
        """The ranked table: survivors with a column ``rank``, the quantities, and the expected improvement.

        Args:
            batches: The survivors in the order of their positions, which decides between equals.

        Raises:
            ScreeningError: The Pareto front has more than 100,000 members.
        """
        best = pd.DataFrame()
        for frame in self._scored(batches):
            best = self._selected(pd.concat([best, frame], ignore_index=True) if len(best) else frame)
        if not len(best):
            best = schema(self.properties).empty_table().to_pandas()
        ranked = best.iloc[self._order(best)].head(self.top).reset_index(drop=True)
        ranked.insert(0, "rank", np.arange(1, len(ranked) + 1))
        return ranked

    @property
    def _property(self) -> PropertyModel | None:
        return next((m for m in self.properties if m.name == self.objectives[0][0].text), None)

    def _scored(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            frame = batch.to_pandas()
            if not len(frame):
                continue
            values = _values(frame, self.properties, self.objectives)
            for expression, _ in self.objectives:
                if expression.text not in {m.name for m in self.properties}:
                    frame[expression.text] = np.broadcast_to(expression(values), len(frame))
            if self.kind == "ei":
                self._improvement(frame)
            yield frame

    def _improvement(self, frame: pd.DataFrame) -> None:
        model, more = self._property, self.objectives[0][1]
        assert model is not None
        assert self.best is not None
        deviation = deviation_of_interval(
            frame[f"{model.column}_lower"].to_numpy(),
            frame[f"{model.column}_upper"].to_numpy(),
            model.coverage,
        )
        sign = 1 if more else -1
        log = log_expected_improvement(sign * frame[model.column].to_numpy(), deviation, sign * self.best)
        frame["expected_improvement"] = np.exp(log)
        frame["log_expected_improvement"] = log

    def _keys(self, frame: pd.DataFrame) -> list[NDArray[np.float64]]:
        """What to rank by, more is better; what is no number comes last."""
        if self.kind == "ei":
            return [frame["log_expected_improvement"].to_numpy(np.float64)]
        columns = {m.name: m.column for m in self.properties}
        keys = []
        for expression, more in self.objectives:
            values = frame[columns.get(expression.text, expression.text)].to_numpy(np.float64)
            keys.append(np.where(np.isnan(values), -np.inf, values if more else -values))
        return keys

    def _order(self, frame: pd.DataFrame) -> NDArray[np.intp]:
        """Rows from the best on; equals in the order of their positions."""
        keys = self._keys(frame)
        return np.lexsort([frame["position"].to_numpy(), *(-key for key in keys[::-1])])

    def _selected(self, frame: pd.DataFrame) -> pd.DataFrame:
        if self.kind != "pareto":
            order = self._order(frame)
            if self.per_system is not None:
                # The best of a system stay its best whatever comes later, so its others can go at once.
                systems = frame["formula"].map(system_of).iloc[order]
                order = order[(systems.groupby(systems).cumcount() < self.per_system).to_numpy()]
            return frame.iloc[np.sort(order[: self.top])]
        front = frame[pareto_front(np.column_stack(self._keys(frame)))]
        if len(front) > _LARGEST_FRONT:
            raise ScreeningError(
                f"The Pareto front has more than {_LARGEST_FRONT:,} members: nearly nothing is better than anything "
                "else. Rank by fewer quantities; the survivors are kept."
            )
        return front


def system_of(formula: str) -> str:
    """Elements of a formula in alphabetical order, e.g. ``'Al-Fe'``."""
    return "-".join(sorted(set(_SYMBOL.findall(formula))))


def pareto_front(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of n points no other one beats: as good everywhere and better somewhere. More is better.

    Args:
        points: Shape (n, n_quantities).

    Returns:
        Shape (n,), bool; equal points are all in the front or all out of it.
    """
    order = np.lexsort(-points.T[::-1])
    ranked = points[order]
    alive = np.ones(len(ranked), dtype=bool)
    for i in range(len(ranked)):
        if alive[i]:
            # What stands later cannot beat this one: it is no better in the first quantity that differs.
            rest = slice(i + 1, None)
            beaten = (ranked[rest] <= ranked[i]).all(axis=1) & (ranked[rest] < ranked[i]).any(axis=1)
            alive[rest] &= ~beaten
    front = np.zeros(len(points), dtype=bool)
    front[order[alive]] = True
    return front


def _values(
    frame: pd.DataFrame,
    properties: tuple[PropertyModel, ...],
    objectives: tuple[tuple[Expression, bool], ...],
) -> Mapping[str, np.ndarray]:
    values = {"n_elements": frame["n_elements"].to_numpy()}
    for model in properties:
        values[model.name] = frame[model.column].to_numpy()
        for ending in INTERVAL_NAMES:
            values[f"{model.name}.{ending}"] = frame[f"{model.column}_{ending}"].to_numpy()
    elements = {name for expression, _ in objectives for name in expression.names} - set(values)
    if elements:
        from crossprop.data.compositions import ELEMENTS, fraction_matrix
        from crossprop.data.user_columns import plain_formula

        fractions = fraction_matrix(frame["formula"].map(plain_formula))
        values |= {name: fractions[:, ELEMENTS.index(name)] for name in elements}
    return values
