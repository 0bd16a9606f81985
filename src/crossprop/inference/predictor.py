"""A saved model in use: values with conformal intervals, applicability domain, and nearest neighbours."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from crossprop.data.compositions import ELEMENTS, formula_warnings, fraction_matrix
from crossprop.errors import FormulaError, ModelFormatError
from crossprop.models.ensemble import Ensemble
from crossprop.models.saved import load_predictor
from crossprop.uncertainty.conformal import Calibration
from crossprop.uncertainty.evidence import Coverage, KnownValues, judge, measured_coverage, read_evidence


@dataclass(frozen=True)
class Predictions:
    """Predictions of n compositions; all but ``value`` are ``None`` where no intervals were asked for."""

    value: np.ndarray  #: in the property's unit, shape (n,)
    lower: np.ndarray | None = None  #: lower end of the interval, shape (n,)
    upper: np.ndarray | None = None  #: upper end of the interval, shape (n,)
    in_domain: np.ndarray | None = None  #: whether it lies in the applicability domain, shape (n,), bool
    note: list[str] | None = None  #: why not, and whether the value lies beyond all known ones


@dataclass(frozen=True)
class Neighbour:
    """A training composition near another one."""

    formula: str  #: as it stands in the data
    y_true: float  #: in the property's unit; the median of its rows
    distance: float | None  #: 0 for the same composition, 1 at the edge of the domain; ``None`` where it has no edge


@dataclass(frozen=True)
class ServedModel:
    """A saved ensemble with its evidence; immutable, so that threads may share it."""

    predictor: Ensemble  #: gives the values
    evidence: pd.DataFrame  #: columns as in ``crossprop.uncertainty.evidence.COLUMNS``
    calibration: Calibration  #: gives the intervals

    @classmethod
    def load(cls, folder: Path | str, *, threads: int | None = None) -> Self:
        """Load a saved model with its evidence, with a thread for each core by default; ModelFormatError if damaged."""
        return cls(load_predictor(folder, threads), *read_evidence(Path(folder)))

    @property
    def info(self) -> Mapping[str, Any]:
        """Content of ``model.json``."""
        return self.predictor.info

    @property
    def holdout_mae(self) -> float | None:
        """Mean absolute error of the ensemble on the hold-out, in the property's unit; ``None`` without one."""
        rows = self.evidence[self.evidence["split"] == "test"]
        return float((rows["y_true"] - rows["y_pred"]).abs().mean()) if len(rows) else None

    def predict(self, fractions: np.ndarray, *, intervals: bool = True) -> Predictions:
        """Predict from fractions of shape (n, 86), else ShapeMismatchError; ModelFormatError if it gives no number."""
        value = self._checked(self.predictor.predict(fractions))
        return self.judged(fractions, value) if intervals else Predictions(value)

    def judged(self, fractions: np.ndarray, value: np.ndarray) -> Predictions:
        """Intervals, domain and notes of compositions of shape (n, 86), whose values are known."""
        said = judge(self.info, self.calibration, value, fractions)
        in_domain = np.array([not note for note in said.notes], dtype=bool)
        beyond = KnownValues.of(self.evidence).notes(value, self.info["unit"])
        notes = ["; ".join(filter(None, both)) for both in zip(said.notes, beyond, strict=True)]
        return Predictions(value, said.lower, said.upper, in_domain, notes)

    def predict_within(self, fractions: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the rows whose value may lie within a range, and their values; the others cost less work."""
        if low == -np.inf and high == np.inf:
            return np.arange(len(fractions)), self._checked(self.predictor.predict(fractions))
        left, values = self.predictor.predict_within(fractions, low, high)
        return left, self._checked(values)

    def nearest(self, fractions: np.ndarray, k: int = 3) -> list[list[Neighbour]]:
        """The k nearest training compositions of every row, nearest first."""
        if k < 1:
            return [[] for _ in fractions]
        around, radius = self.calibration.around, self.calibration.radius
        distances, at = around.nearest(np.asarray(fractions, np.float64), k)
        relative = distances / radius if radius else np.where(distances == 0, 0.0, None)  # type: ignore[call-overload]
        formulas, values = (around.compositions[name].to_numpy()[at] for name in ("formula", "value"))
        rows = zip(formulas.tolist(), values.tolist(), relative.tolist(), strict=True)
        return [[Neighbour(*one) for one in zip(*row, strict=True)] for row in rows]

    def with_coverage(self, coverage: float) -> Self:
        """The same model with intervals of another coverage, between 0 and 1."""
        return replace(self, calibration=self.calibration.at_coverage(self.evidence, coverage))

    def coverage(self) -> Coverage:
        """Coverage of the interval measured on the hold-out."""
        return measured_coverage(self.info, self.evidence, self.calibration)

    def _checked(self, values: np.ndarray) -> np.ndarray:
        target = self.info.get("target")
        if tuple(self.info["elements"]) != ELEMENTS:
            raise ModelFormatError(
                f"The model of {target!r} knows {len(self.info['elements'])} elements, not those of this version of "
                "crossprop. Fit it again."
            )
        if len(bad := np.flatnonzero(~np.isfinite(values))):
            raise ModelFormatError(
                f"The model of {target!r} gave no number for row {bad[0]}. Do not use this version of it."
            )
        return values


OUTPUT_COLUMNS = ("value", "lower", "upper", "in_domain", "note")


def table_of(made: Predictions, formulas: Sequence[object]) -> pd.DataFrame:
    """Predictions with intervals as a table of :data:`OUTPUT_COLUMNS`, doubts about the formulas among the notes."""
    notes = [
        "; ".join(filter(None, (*formula_warnings(formula), note)))
        for formula, note in zip(formulas, made.note or [], strict=True)
    ]
    return pd.DataFrame({column: getattr(made, column) for column in OUTPUT_COLUMNS} | {"note": notes})


def predict_formulas(model: ServedModel, formulas: Iterable[object]) -> pd.DataFrame:
    """Predict compositions, at least one, as rows of :data:`OUTPUT_COLUMNS` in the unit; an error names the row.

    Those of a series keep its index, by which pandas assigns them to the rows of its table.
    """
    rows = list(formulas)
    if not rows:
        raise FormulaError("The input holds no rows. Give at least one formula, such as 'NaCl'.")
    table = table_of(model.predict(fraction_matrix(rows, where="the input")), rows)
    return table.set_axis(formulas.index) if isinstance(formulas, pd.Series) else table
