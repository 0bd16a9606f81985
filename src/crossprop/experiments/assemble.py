"""From finished tasks to one cell's outcome: facts, cost and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from crossprop.experiments.grid import Cell
from crossprop.experiments.inputs import TargetInputs
from crossprop.experiments.results import CellCost, CellOutcome, CellResult
from crossprop.experiments.tasks import FoldReport, ScreenReport, layer_of
from crossprop.experiments.tuning import algorithm_arguments
from crossprop.methods import Method
from crossprop.training.metrics import bootstrap_interval, mean_absolute_error, mean_absolute_error_q95, r2

HISTORY = ["stage", "fold", "epoch", "loss", "val_mae"]
PREDICTIONS = ["split", "fold", "formula", "y_true", "y_pred", "y_pred_ensemble"]


def screened_outcome(
    cell: Cell,
    screening: ScreenReport | None,
    inputs: TargetInputs,
    *,
    stopped: str | None = None,
    folds: Sequence[FoldReport] = (),
) -> CellOutcome:
    """A cell without a whole cross-validation, and so without a hold-out error; ``folds`` are those that it had.

    ``stopped`` says why the best cell of its method did not go on; it is ``None`` for one that is not the best.
    """
    measured = {"stopped": stopped, "rung_mae": tuple(fold.val_mae for fold in folds) or None}
    outcome = _outcome(cell, screening, [], inputs, measured)
    spent = sum(fold.seconds for fold in folds)
    return replace(outcome, cost=replace(outcome.cost, fit_seconds=spent))


def failed_outcome(
    cell: Cell, reason: str, inputs: TargetInputs, screening: ScreenReport | None = None
) -> CellOutcome:
    """A cell that failed, with its reason."""
    return _outcome(cell, screening, [], inputs, {"failure": reason})


def finished_outcome(
    cell: Cell, screening: ScreenReport | None, folds: Sequence[FoldReport], inputs: TargetInputs
) -> CellOutcome:
    """A cross-validated cell: the fold model with the least validation MAE is measured on the hold-out, if any."""
    cv_mae = tuple(fold.val_mae for fold in folds)
    best = int(np.argmin(cv_mae))
    if not len(inputs.test):
        return _outcome(cell, screening, folds, inputs, {"cv_mae": cv_mae, "best_fold": best})
    y_true, y_pred = inputs.values[inputs.test], folds[best].test_pred
    ensemble = np.mean([fold.test_pred for fold in folds], axis=0)
    low, high = bootstrap_interval(y_true, y_pred, seed=cell.seed)
    measured: dict[str, Any] = {
        "cv_mae": cv_mae,
        "best_fold": best,
        "test_mae": mean_absolute_error(y_true, y_pred),
        "test_mae_low": low,
        "test_mae_high": high,
        "test_q95": mean_absolute_error_q95(y_true, y_pred),
        "test_r2": r2(y_true, y_pred) if np.ptp(y_true) > 0 else None,
        "test_mae_ensemble": mean_absolute_error(y_true, ensemble),
    }
    if cell.method is Method.BASE:
        median = np.full(len(y_true), np.median(inputs.values[inputs.train]))
        measured["test_mae_median"] = mean_absolute_error(y_true, median)
    return _outcome(cell, screening, folds, inputs, measured)


def _outcome(
    cell: Cell,
    screening: ScreenReport | None,
    folds: Sequence[FoldReport],
    inputs: TargetInputs,
    measured: dict[str, Any],
) -> CellOutcome:
    best = screening.hyperparameters if screening else {}
    named = {key: value for key, value in best.items() if key != "layer" and "." not in key}
    result = CellResult(
        cell=cell.id,
        study=cell.study,
        protocol=cell.protocol,
        target=cell.target,
        unit=cell.unit,
        source=cell.source,
        method=cell.method,
        representation=cell.representation,
        layer=layer_of(cell, best) if screening else None,
        hyperparameters={**named, **algorithm_arguments(best)},
        n_train=len(inputs.train),
        n_test=len(inputs.test),
        n_trials=len(screening.trials) if screening else 0,
        val_mae=screening.val_mae if screening else None,
        **measured,
    )
    cost = CellCost(
        tune_seconds=screening.seconds if screening else 0.0,
        fit_seconds=sum(fold.seconds for fold in folds),
        peak_memory=max([screening.peak_memory if screening else 0, *(fold.peak_memory for fold in folds)]),
    )
    trials = screening.trials if screening else pd.DataFrame()
    return CellOutcome(
        result=result,
        cost=cost,
        trials=trials,
        history=_history(screening, folds),
        predictions=_predictions(folds, result.best_fold, inputs),
    )


def _history(screening: ScreenReport | None, folds: Sequence[FoldReport]) -> pd.DataFrame:
    parts = [screening.history.assign(stage="screening", fold=-1)] if screening else []
    parts += [fold.history.assign(stage="fold", fold=i) for i, fold in enumerate(folds)]
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True)[HISTORY] if parts else pd.DataFrame(columns=HISTORY)


def _predictions(folds: Sequence[FoldReport], best: int | None, inputs: TargetInputs) -> pd.DataFrame:
    if best is None:
        return pd.DataFrame(columns=PREDICTIONS)
    formulas = inputs.frame["formula"].to_numpy()
    parts = [
        pd.DataFrame(
            {
                "split": "validation",
                "fold": i,
                "formula": formulas[fold.val_rows],
                "y_true": inputs.values[fold.val_rows],
                "y_pred": fold.val_pred,
                "y_pred_ensemble": np.nan,
            }
        )
        for i, fold in enumerate(folds)
    ]
    parts.append(
        pd.DataFrame(
            {
                "split": "test",
                "fold": best,
                "formula": formulas[inputs.test],
                "y_true": inputs.values[inputs.test],
                "y_pred": folds[best].test_pred,
                "y_pred_ensemble": np.mean([fold.test_pred for fold in folds], axis=0),
            }
        )
    )
    return pd.concat(parts, ignore_index=True)[PREDICTIONS]
