"""The report of one fit: ``report.json`` for programs, ``report.md`` and a table for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.data.user_rows import OwnTable
from crossprop.estimator.decision import Settings
from crossprop.estimator.learn import Outcome
from crossprop.experiments.results import CellResult
from crossprop.methods import Side
from crossprop.training.metrics import bootstrap_interval, mean_absolute_error, r2
from crossprop.uncertainty.evidence import Coverage


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
            "ours": result.method.extension,
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


REPORT_JSON, REPORT_PAGE = "report.json", "report.md"
COLUMNS = ("method", "CV MAE", "hold-out MAE", "95 % interval", "R²", "trials", "remark")


def report_of(
    path: Path,
    table: OwnTable,
    settings: Settings,
    outcome: Outcome,
    coverage: Coverage | None,
    seconds: float,
) -> dict[str, Any]:
    """Everything about a fit as plain values."""
    learnt, task = outcome.learnt, outcome.task
    predictions = pd.read_parquet(learnt.folder / "predictions.parquet")
    methods = method_rows(learnt.results, predictions, task.seed)
    networks = outcome.networks
    best = next(row for row in methods if row["label"] == learnt.winner.label)
    return {
        "target": task.target,
        "unit": task.unit,
        "file": path.name,
        "rows": {
            "read": table.n_read,
            "used": len(table.rows),
            "compositions": int(table.rows["composition"].nunique()),
            "training": learnt.winner.n_train,
            "holdout": learnt.winner.n_test,
            "groups": len(set(table.together)) if table.group_column is not None else None,
            "left_out": [{"line": p.line, "reason": p.reason, "text": p.text} for p in table.problems],
        },
        "columns": {"formula": table.formula_column, "value": table.value_column}
        | ({"group": table.group_column} if table.group_column is not None else {}),
        "budget": {
            "minutes": settings.minutes,
            "took_minutes": round(seconds / 60, 2),
            "effort": task.plan.effort.name,
            "folds": task.plan.folds,
            "seed": task.seed,
        },
        "winner": best,
        "coverage": None
        if coverage is None or coverage.share is None
        else {
            "stated": coverage.stated,
            "measured": coverage.share,
            "rows": coverage.n,
            "outside_domain": coverage.flagged,
        },
        "transfer": transfer_verdict(learnt.results),
        "sources": None
        if networks is None
        else {
            "recipe": networks.recipe,
            "sources": list(networks.sources),
            "elemnets": list(networks.elemnets),
            "compositions": len(networks.seen),
        },
        "methods": methods,
        "notes": [*table.notes, *outcome.notes],
    }


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write both files into a folder."""
    text = json.dumps(report, indent=1, allow_nan=False) + "\n"
    (folder / REPORT_JSON).write_text(text, encoding="utf-8")
    (folder / REPORT_PAGE).write_text(page(report), encoding="utf-8")


def page(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    unit = f" ({report['unit']})" if report["unit"] else ""
    lines = [
        f"# {report['target']}{unit}",
        "",
        *(f"- {line}" for line in summary_lines(report)),
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---|" + "---:|" * (len(COLUMNS) - 2) + "---|",
        *("| " + " | ".join(row) + " |" for row in table_rows(report)),
        "",
        "CV MAE is what chose the winner; the hold-out had no say. Hold-out errors are those of the mean of a method's "
        "fold models, which is what the folder holds of the winner.",
        "",
        *(f"- {note}" for note in report["notes"]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def summary_lines(report: dict[str, Any]) -> list[str]:
    """What matters, in a few sentences."""
    winner, rows, unit = report["winner"], report["rows"], report["unit"]
    lines = [
        f"{rows['used']:,} of {rows['read']:,} rows of {report['file']}, {rows['compositions']:,} compositions"
        + (f" in {rows['groups']:,} groups that stay together" if rows["groups"] is not None else "")
        + ": "
        f"{rows['training']:,} to learn from, {rows['holdout']:,} held out",
        f"winner: {winner['label']} ({winner['notation']}), cross-validated MAE {winner['cv_mae']:.4g} {unit}".rstrip(),
    ]
    if figures := winner.get("holdout"):
        base = next((row.get("holdout") for row in report["methods"] if row["method"] == "base"), None)
        beside = f"; the mean of the training values: {base['mae']:.4g}" if base else ""
        lines.append(
            f"hold-out MAE {figures['mae']:.4g} (95 % bootstrap interval {figures['mae_low']:.4g} to "
            f"{figures['mae_high']:.4g}){beside}"
        )
    if coverage := report["coverage"]:
        lines.append(
            f"{100 * coverage['stated']:.0f} % intervals hold {100 * coverage['measured']:.0f} % of the "
            f"{coverage['rows']} hold-out values"
        )
    lines.append(
        report["transfer"]["text"] if report["transfer"] else "No transfer: learnt from these rows alone."
    )
    lines.append(f"{report['budget']['took_minutes']:g} minutes, effort {report['budget']['effort']!r}")
    return lines


def table_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table of methods as texts."""
    return [_texts(row, row["label"] == report["winner"]["label"]) for row in report["methods"]]


def text_table(report: dict[str, Any]) -> str:
    """The table of methods for a screen, as wide as it has to be."""
    rows = [COLUMNS, *table_rows(report)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS) - 1)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [text.rjust(width) for text, width in zip(row[1:-1], widths[1:], strict=True)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(["", lines[0], "-" * len(lines[0]), *lines[1:], ""])


def _texts(row: dict[str, Any], won: bool) -> tuple[str, ...]:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.4g}"

    figures = row.get("holdout") or {}
    interval = f"{figures['mae_low']:.3g} to {figures['mae_high']:.3g}" if figures else "–"
    remark = "winner" if won else row["note"]
    return (
        row["label"],
        number(row["cv_mae"]) if row["cv_mae"] is None else f"{row['cv_mae']:.4g} ± {row['cv_mae_std']:.2g}",
        number(figures.get("mae")),
        interval,
        "–" if figures.get("r2") is None else f"{figures['r2']:.2f}",
        str(row["trials"]),
        remark,
    )
