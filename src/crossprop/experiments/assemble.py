"""From finished tasks to one cell's outcome: facts, cost and tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crossprop.experiments.grid import Cell
from crossprop.experiments.inputs import TargetInputs
from crossprop.experiments.results import CellCost, CellOutcome, CellResult
from crossprop.experiments.tasks import FoldReport, ScreenReport, layer_of
from crossprop.experiments.tuning import algorithm_arguments
from crossprop.methods import Method
from crossprop.training.metrics import mean_absolute_error, mean_absolute_error_q95, r2
from crossprop.uncertainty.grouped import mean_interval

HISTORY = ["stage", "fold", "epoch", "loss", "val_mae"]
PREDICTIONS = ["split", "fold", "formula", "y_true", "y_pred", "y_pred_ensemble"]


def finished_outcome(
    cell: Cell, screening: ScreenReport | None, folds: Sequence[FoldReport], inputs: TargetInputs
) -> CellOutcome:
    """A cross-validated cell: the fold model with the least validation MAE is measured on the hold-out, if any."""
    cv_mae = tuple(fold.val_mae for fold in folds)
    best = int(np.argmin(cv_mae))
    y_true, y_pred = inputs.values[inputs.test], folds[best].test_pred
    ensemble = np.mean([fold.test_pred for fold in folds], axis=0)
    measured: dict[str, Any] = {}
    if len(y_true):
        errors, together = np.abs(y_true - y_pred), inputs.together[inputs.test]
        mae = mean_interval(errors, together, least=0.0, n_resamples=2_000)
        measured = {
            "test_mae": mae.mean,
            "test_mae_low": mae.low,
            "test_mae_high": mae.high,
            "test_q95": mean_absolute_error_q95(y_true, y_pred),
            "test_r2": r2(y_true, y_pred) if np.ptp(y_true) > 0 else None,
            "test_mae_ensemble": mean_absolute_error(y_true, ensemble),
        }
        if cell.method is Method.BASE:
            learnt = np.setdiff1d(inputs.train, folds[best].val_rows)
            median = np.full(len(y_true), np.median(inputs.values[learnt]))
            measured["test_mae_median"] = mean_absolute_error(y_true, median)
    measured |= {"cv_mae": cv_mae, "best_fold": best}
    rows = [
        ("validation", k, fold.val_rows, fold.val_pred, np.full(len(fold.val_rows), np.nan))
        for k, fold in enumerate(folds)
    ]
    rows.append(("test", best, inputs.test, y_pred, ensemble))
    formulas = inputs.frame["formula"].to_numpy()
    tables = [
        pd.DataFrame(dict(zip(PREDICTIONS, (s, k, formulas[at], inputs.values[at], one, mean), strict=True)))
        for s, k, at, one, mean in rows
    ]
    return outcome_of(cell, screening, folds, inputs, measured, pd.concat(tables, ignore_index=True))


def outcome_of(
    cell: Cell,
    screening: ScreenReport | None,
    folds: Sequence[FoldReport],
    inputs: TargetInputs,
    measured: dict[str, Any],
    predictions: pd.DataFrame | None = None,
) -> CellOutcome:
    """A cell with what was ``measured`` of it, by field of :class:`CellResult`; without a hold-out error none is."""
    best = screening.hyperparameters if screening else {}
    named = {key: value for key, value in best.items() if key != "layer" and "." not in key}
    trials = screening.trials if screening else pd.DataFrame()
    same = ("study", "protocol", "target", "unit", "source", "method", "representation")
    result = CellResult(
        cell=cell.id,
        **{name: getattr(cell, name) for name in same},
        layer=layer_of(cell, best) if screening else None,
        hyperparameters={**named, **algorithm_arguments(best)},
        n_train=len(inputs.train),
        n_test=len(inputs.test),
        n_trials=len(trials),
        val_mae=screening.val_mae if screening else None,
        **measured,
    )
    cost = CellCost(
        tune_seconds=screening.seconds if screening else 0.0,
        fit_seconds=sum(fold.seconds for fold in folds),
        peak_memory=max([task.peak_memory for task in (screening, *folds) if task], default=0),
    )
    histories = [screening.history.assign(stage="screening", fold=-1)] if screening else []
    if result.cv_mae is not None:
        histories += [fold.history.assign(stage="fold", fold=k) for k, fold in enumerate(folds)]
    histories = [history for history in histories if len(history)] or [pd.DataFrame(columns=HISTORY)]
    history = pd.concat(histories, ignore_index=True)[HISTORY]
    predictions = pd.DataFrame(columns=PREDICTIONS) if predictions is None else predictions
    return CellOutcome(result=result, cost=cost, trials=trials, history=history, predictions=predictions)
