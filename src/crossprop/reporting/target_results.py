"""What a report knows of one target: its cells, where they are tracked, the chosen ones, their predictions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crossprop.errors import StoreError
from crossprop.experiments.results import CellResult
from crossprop.reporting.study_info import TargetInfo
from crossprop.vocabulary import Method

HOLD_OUT_COLUMNS = ["formula", "y_true", "y_pred", "y_pred_ensemble"]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Where a cell is tracked and what it spent; differs from run to run."""

    cell: str
    run_id: str
    tune_seconds: float
    fit_seconds: float
    peak_memory: int


@dataclass(frozen=True, kw_only=True)
class TargetResults:
    """Everything a report needs of one target.

    ``cells`` and ``runs`` share one order: method, source, representation, layer, id. ``best_sc`` and
    ``best_tl`` are of the paper's methods; the chosen cells are None where none came through.

    Attributes:
        predictions: Rows of the hold-out alone, columns ``cell, fold`` and those of the hold-out.
        trials: Columns ``cell, state, value, params`` (JSON).
        learning_curve: Columns ``cell, side, share, n_train, test_mae``; may be empty.
        prepared: The target's rows, columns ``formula, composition, value, split``.
    """

    info: TargetInfo
    cells: tuple[CellResult, ...]
    runs: tuple[RunRecord, ...]
    best_sc: CellResult | None
    best_tl: CellResult | None
    winner: CellResult | None
    predictions: pd.DataFrame
    trials: pd.DataFrame
    learning_curve: pd.DataFrame
    prepared: pd.DataFrame

    @property
    def base(self) -> CellResult | None:
        """The cell that predicts the mean of the training values."""
        return next((c for c in self.cells if c.method is Method.BASE and c.failure is None), None)

    @property
    def base_mae(self) -> float | None:
        """Hold-out error of :attr:`base`, in the target's unit."""
        return self.base.test_mae if self.base else None

    @property
    def transfer_ratio(self) -> float | None:
        """Hold-out MAE of the best TL over that of the best SC; None without either, or for an SC of 0."""
        if self.best_sc is None or self.best_tl is None or self.best_tl.test_mae is None:
            return None
        return self.best_tl.test_mae / self.best_sc.test_mae if self.best_sc.test_mae else None

    @property
    def paper_winner(self) -> CellResult | None:
        """The better of best SC and best TL by cross-validation: what the paper's methods alone give."""
        return best_validated(cell for cell in (self.best_sc, self.best_tl) if cell is not None)

    @property
    def best_own(self) -> CellResult | None:
        """The best cell of our own methods by cross-validation."""
        return best_validated(cell for cell in self.cells if cell.method.ours)

    def run_id(self, cell: CellResult | None) -> str:
        """Where a cell is tracked; empty for none."""
        if cell is None:
            return ""
        return next((run.run_id for run in self.runs if run.cell == cell.cell), "")

    def hold_out(self, cell: CellResult) -> pd.DataFrame:
        """Hold-out rows of a cell's best fold model: formula, y_true, y_pred, y_pred_ensemble.

        Raises:
            StoreError: The cell has no such predictions, or they hold missing values.
        """
        table = self.predictions
        rows = table[table["cell"] == cell.cell]
        if cell.best_fold is not None and rows["fold"].nunique() > 1:
            rows = rows[rows["fold"] == cell.best_fold]
        if rows.empty or not np.isfinite(rows[["y_true", "y_pred"]].to_numpy(dtype=float)).all():
            raise StoreError(
                f"predictions.parquet of target '{self.info.key}' holds {len(rows)} hold-out rows of cell "
                f"'{cell.cell}', where finite predictions of its best fold are needed. "
                "Run the stage `transfer` of this target again."
            )
        return rows[HOLD_OUT_COLUMNS].reset_index(drop=True)


def best_validated(cells: Iterable[CellResult]) -> CellResult | None:
    """The cell with the least mean validation MAE of the cross-validation; the first of equals.

    Cells that failed, were stopped or were screened only take no part.
    """
    validated = [
        (cell.cv_mae_mean, cell)
        for cell in cells
        if cell.failure is None and cell.cv_mae_mean is not None and cell.test_mae is not None
    ]
    return min(validated, key=lambda pair: pair[0])[1] if validated else None
