"""Ranking of the kept compositions: one pass, bounded memory."""

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from crossprop.data.compositions import fraction_matrix, plain_formula
from crossprop.errors import ScreeningError
from crossprop.screening.conditions import INTERVAL_NAMES, Expression, composition_values
from crossprop.screening.pipeline import schema
from crossprop.screening.properties import PropertyModel
from crossprop.screening.request import ScreenRequest

_FAR = -1e4  # deviations from which the asymptotic series is as exact as double precision
_LARGEST_FRONT = 100_000
_SYMBOL = re.compile("[A-Z][a-z]?")


def log_expected_improvement(
    mean: NDArray[np.float64], deviation: NDArray[np.float64], best: float
) -> NDArray[np.float64]:
    """Logarithm of the expected improvement over ``best``, more is better (Ament 2023, arXiv:2310.20708, eq. 9)."""
    from scipy.special import erfcx, ndtr

    with np.errstate(all="ignore"):  # every branch is computed for every row
        certain = np.log(np.maximum(mean - best, 0.0))
        z = (mean - best) / deviation
        log_density = -0.5 * z * z - 0.5 * np.log(2 * np.pi)
        near = np.log(np.exp(log_density) + z * ndtr(z))
        middle = log_density + np.log1p(z * np.sqrt(np.pi / 2) * erfcx(-z / np.sqrt(2)))
        far = log_density - 2 * np.log(-z)
        logs = np.select([z > -1, z > _FAR], [near, middle], far) + np.log(deviation)
    return np.where(deviation > 0, logs, certain)


class Ranker:
    """Ranks by one quantity, by expected improvement, or by Pareto front; an objective says whether more is better."""

    def __init__(
        self,
        request: ScreenRequest,
        objectives: tuple[tuple[Expression, bool], ...],
        properties: tuple[PropertyModel, ...],
    ) -> None:
        self.kind, self.per_system = request.ranking, request.per_system
        self.top = request.top
        self.objectives, self.properties, self.best = objectives, properties, None
        self._by_text = {model.name: model for model in properties}
        if self.kind == "ei":
            quantity, more = objectives[0]
            if (model := self._by_text.get(quantity.text)) is None:
                raise ScreeningError(
                    f"Expected improvement needs an interval, which only a property has, not {quantity.text!r}. "
                    "Leave out --rank ei."
                )
            known = model.most if more else model.least
            self.best = known if request.best is None else request.best

    def rank(self, batches: Iterable[pa.RecordBatch]) -> pd.DataFrame:
        """The ranked table of batches in the order of their positions, with ``rank`` and what is ranked by."""
        best = self._scored(schema(self.properties).empty_table().to_pandas())
        for batch in batches:
            frame = self._scored(batch.to_pandas())
            best = self._selected(pd.concat([best, frame], ignore_index=True) if len(best) else frame)
        ranked = best.reset_index(drop=True)
        ranked.insert(0, "rank", np.arange(1, len(ranked) + 1))
        return ranked

    def _scored(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with columns of what is ranked by."""
        values = {"n_elements": frame["n_elements"].to_numpy(np.float64)}
        for name, model in self._by_text.items():
            values[name] = frame[model.column].to_numpy()
            values |= {f"{name}.{end}": frame[f"{model.column}_{end}"].to_numpy() for end in INTERVAL_NAMES}
        if not {name for expression, _ in self.objectives for name in expression.names} <= set(values):
            values |= composition_values(fraction_matrix(frame["formula"].map(plain_formula)))
        for expression, _ in self.objectives:
            if expression.text not in self._by_text:
                frame[expression.text] = np.broadcast_to(expression(values), len(frame))
        if self.best is not None:
            from scipy.special import ndtri

            expression, more = self.objectives[0]
            name, sign = expression.text, 1 if more else -1
            coverage = self._by_text[name].coverage
            # Of the normal distribution with this central interval; the lower end may have been cut off at 0.
            deviation = (values[f"{name}.upper"] - values[name]) / ndtri((1 + coverage) / 2)
            logs = log_expected_improvement(sign * values[name], deviation, sign * self.best)
            frame["expected_improvement"], frame["log_expected_improvement"] = np.exp(logs), logs
        return frame

    def _selected(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows that may still be in the ranked table when more follow, the best first, equals by position."""
        goals = [(getattr(self._by_text.get(q.text), "column", q.text), more) for q, more in self.objectives]
        if self.kind == "ei":
            goals = [("log_expected_improvement", True)]
        columns, more_is_better = map(list, zip(*goals, strict=True))
        ascending = [*(not more for more in more_is_better), True]
        frame = frame.sort_values([*columns, "position"], ascending=ascending)  # NaN comes last
        if self.kind == "pareto":
            points = frame[columns].to_numpy(np.float64) * np.where(more_is_better, 1, -1)
            frame = frame[pareto_front(np.where(np.isnan(points), -np.inf, points))]
            if len(frame) > _LARGEST_FRONT:
                raise ScreeningError(
                    f"The Pareto front has more than {_LARGEST_FRONT:,} members. Rank by fewer quantities; the kept "
                    "compositions are not lost."
                )
            return frame
        if self.per_system is not None:
            frame = frame.groupby(frame["formula"].map(system_of)).head(self.per_system)
        return frame.head(self.top)


def system_of(formula: str) -> str:
    """Elements of a formula in alphabetical order, e.g. ``'Al-Fe'``."""
    return "-".join(sorted(set(_SYMBOL.findall(formula))))


def pareto_front(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of n points, shape (n, n_quantities), no other one dominates; more is better, and equals stand together."""
    order = np.lexsort(-points.T[::-1])
    ranked = points[order]
    alive = np.ones(len(ranked), dtype=bool)
    for i in range(len(ranked)):
        if alive[i]:
            # A later point cannot dominate this one: it is no better in the first quantity that differs.
            rest = slice(i + 1, None)
            dominated = (ranked[rest] <= ranked[i]).all(axis=1) & (ranked[rest] < ranked[i]).any(axis=1)
            alive[rest] &= ~dominated
    front = np.zeros(len(points), dtype=bool)
    front[order[alive]] = True
    return front
