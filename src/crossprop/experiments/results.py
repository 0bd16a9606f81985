"""What a finished cell hands on to tracking, reporting and the registry."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import pandas as pd

from crossprop.vocabulary import Method, Representation

Scalar = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """The deterministic facts about one cell: two runs of a study give the same ones.

    Errors and intervals are in the target's ``unit``. The fields from ``cv_mae`` on are ``None``
    for a cell that was screened but is not the best of its method. ``stopped`` says why a cell that was the best of
    its method got no whole cross-validation, ``race_mae`` holds the folds that it had by then. ``strict_test_mae``
    is the hold-out error of the same fold model refitted on the ``strict_n_train`` rows of that fold whose
    composition is not in the hold-out; only the chosen cells have it.
    """

    cell: str
    study: str
    protocol: str
    target: str
    unit: str
    source: str | None
    method: Method
    representation: Representation | None
    layer: str | None = None
    hyperparameters: dict[str, Scalar] = field(default_factory=dict)
    n_train: int
    n_test: int
    n_trials: int = 0
    val_mae: float | None = None
    cv_mae: tuple[float, ...] | None = None
    best_fold: int | None = None
    test_mae: float | None = None
    test_mae_low: float | None = None
    test_mae_high: float | None = None
    test_q95: float | None = None
    test_r2: float | None = None
    test_mae_ensemble: float | None = None
    test_mae_median: float | None = None
    strict_test_mae: float | None = None
    strict_n_train: int | None = None
    race_mae: tuple[float, ...] | None = None
    stopped: str | None = None
    failure: str | None = None

    @property
    def cv_mae_mean(self) -> float | None:
        """Mean of the folds' validation MAE: what SC and TL are chosen by."""
        return None if self.cv_mae is None else sum(self.cv_mae) / len(self.cv_mae)

    @property
    def cv_mae_std(self) -> float | None:
        """Sample standard deviation of the folds' validation MAE (0 for one fold)."""
        if self.cv_mae is None:
            return None
        mean = sum(self.cv_mae) / len(self.cv_mae)
        return (sum((v - mean) ** 2 for v in self.cv_mae) / max(len(self.cv_mae) - 1, 1)) ** 0.5

    @property
    def label(self) -> str:
        """Short name of the cell within its target, e.g. ``ml(PA)`` or ``finetune(formation_energy)``."""
        if self.source is not None:
            where = f"{self.source}, {self.layer}" if self.layer else self.source
            return f"{self.method}({where})"
        return f"{self.method}({self.representation.short})" if self.representation else str(self.method)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CellResult:
        """Inverse of :meth:`as_dict`."""
        return cls(
            **{
                **values,
                "method": Method(values["method"]),
                "representation": Representation(values["representation"])
                if values["representation"]
                else None,
                "cv_mae": None if values["cv_mae"] is None else tuple(values["cv_mae"]),
                "race_mae": None if values["race_mae"] is None else tuple(values["race_mae"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class CellCost:
    """What a cell spent: differs from run to run, so it is kept apart from the facts."""

    tune_seconds: float = 0.0
    fit_seconds: float = 0.0
    peak_memory: int = 0
    """Peak resident memory of the process that worked on the cell, in bytes."""


@dataclass(frozen=True, kw_only=True)
class CellOutcome:
    """One cell with its tables.

    trials: columns ``number, state, value, seconds`` and one ``params_<name>`` per hyperparameter.
    history: columns ``stage`` ("screening" or "fold"), ``fold``, ``epoch``, ``loss``, ``val_mae``.
    predictions: columns ``split`` ("validation": out of fold, "test"), ``fold``, ``formula``, ``y_true``, ``y_pred``,
        ``y_pred_ensemble`` (NaN on validation rows), in the target's unit; empty for a cell without cross-validation.
    """

    result: CellResult
    cost: CellCost
    trials: pd.DataFrame
    history: pd.DataFrame
    predictions: pd.DataFrame


class CellRecorder(Protocol):
    """Receives finished cells. Implementations are idempotent: the same cell twice makes one record."""

    def record(self, outcome: CellOutcome) -> str:
        """Keep the cell and return the id of its record."""
        ...


class NullRecorder:
    """Keeps nothing; for tests and for work without tracking."""

    def record(self, outcome: CellOutcome) -> str:
        """Return an empty id."""
        return ""
