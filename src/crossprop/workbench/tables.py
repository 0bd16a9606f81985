"""What a fit found, as plain values: every method, the hold-out, and what transfer was worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crossprop.experiments.results import CellResult
from crossprop.training.metrics import bootstrap_interval, mean_absolute_error, r2
from crossprop.vocabulary import Side


def cv_results(results: Sequence[CellResult]) -> dict[str, list[Any]]:
    """Every cell as columns: what it is, its screening and cross-validated errors, and why it stopped."""
    return {
        "method": [str(r.method) for r in results],
        "label": [r.label for r in results],
        "side": [str(r.method.side) for r in results],
        "source": [r.source for r in results],
        "screening_mae": [r.val_mae for r in results],
        "mean_val_mae": [r.cv_mae_mean for r in results],
        "std_val_mae": [r.cv_mae_std for r in results],
        "fold_val_mae": [None if r.cv_mae is None else list(r.cv_mae) for r in results],
        "n_trials": [r.n_trials for r in results],
        "params": [dict(r.hyperparameters) for r in results],
        "note": [r.failure or r.stopped or "" for r in results],
    }


def method_rows(results: Sequence[CellResult], predictions: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
    """Every cell with its errors; on the hold-out those of the mean of its fold models, which is what is saved.

    Args:
        results: All cells.
        predictions: Columns ``cell, split, y_true, y_pred_ensemble``.
        seed: Seed of the bootstrap.

    Returns:
        One entry a cell, the cross-validated ones first, best first.
    """
    tested = dict(list(predictions[predictions["split"] == "test"].groupby("cell")))
    rows = []
    for result in results:
        row: dict[str, Any] = {
            "method": str(result.method),
            "label": result.label,
            "notation": result.method.notation,
            "side": str(result.method.side),
            "ours": result.method.ours,
            "screening_mae": result.val_mae,
            "cv_mae": result.cv_mae_mean,
            "cv_mae_std": result.cv_mae_std,
            "folds": None if result.cv_mae is None else list(result.cv_mae),
            "trials": result.n_trials,
            "hyperparameters": dict(result.hyperparameters),
            "note": result.failure or result.stopped or "",
        }
        if result.cell in tested:
            row["holdout"] = holdout_figures(tested[result.cell], seed)
        rows.append(row)
    return sorted(
        rows, key=lambda row: (row["cv_mae"] is None, row["cv_mae"] or row["screening_mae"] or np.inf)
    )


def holdout_figures(rows: pd.DataFrame, seed: int) -> dict[str, float | None]:
    """MAE with its 95 % bootstrap interval and R² of the ensemble on the hold-out."""
    y_true, y_pred = rows["y_true"].to_numpy(float), rows["y_pred_ensemble"].to_numpy(float)
    low, high = bootstrap_interval(y_true, y_pred, seed=seed)
    return {
        "mae": mean_absolute_error(y_true, y_pred),
        "mae_low": low,
        "mae_high": high,
        "r2": r2(y_true, y_pred) if np.ptp(y_true) > 0 else None,
    }


def transfer_verdict(results: Sequence[CellResult]) -> dict[str, Any] | None:
    """Whether transfer helped: the best cross-validated cell of either side, on the same folds.

    Returns:
        ``None`` where there is no cell of the transfer side; its ``text`` says it in a sentence.
    """
    if not any(r.method.side is Side.TRANSFER for r in results):
        return None
    best = {
        side: min(
            (r for r in results if r.method.side is side and r.cv_mae is not None),
            key=lambda r: r.cv_mae_mean or np.inf,
            default=None,
        )
        for side in (Side.SCRATCH, Side.TRANSFER)
    }
    scratch, transfer = best[Side.SCRATCH], best[Side.TRANSFER]
    if scratch is None or transfer is None or scratch.cv_mae is None or transfer.cv_mae is None:
        return {"helped": None, "text": "One of the sides has no cross-validated method: nothing to compare."}
    change = (transfer.cv_mae_mean or 0.0) / (scratch.cv_mae_mean or np.inf) - 1
    won = sum(t < s for t, s in zip(transfer.cv_mae, scratch.cv_mae, strict=True))
    word = "lowers" if change < 0 else "does not lower"
    text = (
        f"Transfer from {transfer.source} {word} the cross-validated MAE: {transfer.label} {transfer.cv_mae_mean:.4g}, "
        f"best from scratch {scratch.label} {scratch.cv_mae_mean:.4g} ({100 * change:+.1f} %, better in {won} of "
        f"{len(scratch.cv_mae)} folds)."
    )
    return {
        "helped": bool(change < 0),
        "change": change,
        "folds_won": won,
        "folds": len(scratch.cv_mae),
        "scratch": scratch.label,
        "transfer": transfer.label,
        "source": transfer.source,
        "text": text,
    }
