"""`cells.csv`, `targets.csv`, `runs.csv`; the first two are equal byte for byte when a study runs twice."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossprop.methods import Method
from crossprop.report.paper import best_transfer
from crossprop.report.part import Row, status
from crossprop.report.study import PaperFigures, PaperTable, StudyInfo, TargetResults

_CELL_COLUMNS = (
    "study",
    "protocol",
    "target",
    "unit",
    "source",
    "method",
    "representation",
    "layer",
    "n_train",
    "n_test",
    "val_mae",
    "cv_mae_mean",
    "cv_mae_std",
    "test_mae",
    "test_mae_low",
    "test_mae_high",
    "test_q95",
    "test_mae_ensemble",
)


def cell_rows(results: Sequence[TargetResults]) -> list[Row]:
    """One row per cell: targets in the study's order, cells in the order of the methods."""
    return [{column: getattr(cell, column) for column in _CELL_COLUMNS} for t in results for cell in t.cells]


def target_rows(study: StudyInfo, results: Sequence[TargetResults], paper: PaperTable) -> list[Row]:
    """One row per target: the best cell of each side (by cross-validation) beside the paper's errors."""
    return [_target_row(study, target, paper.get(target.info.key)) for target in results]


def run_rows(results: Sequence[TargetResults]) -> list[Row]:
    """One row per cell: where it is tracked, what it is and what it spent (seconds, bytes)."""
    columns = ("run_id", "tune_seconds", "fit_seconds", "peak_memory")
    return [
        {
            "cell": run.cell,
            **{column: getattr(run, column) for column in columns},
            "target": cell.target,
            "name": cell.label,
            "status": status(cell).split(":")[0],
        }
        for target in results
        for cell, run in zip(target.cells, target.runs, strict=True)
    ]


def write_rows(path: Path, rows: Sequence[Row], columns: Sequence[str] = ()) -> None:
    """Write rows as CSV: six significant digits, nothing for what is missing, lines end in a line feed.

    Args:
        path: File to write.
        rows: Rows with the same columns.
        columns: Header where there may be no row; left out, those of the first row.
    """
    header = tuple(columns) or tuple(rows[0])
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_text(row[column]) for column in header] for row in rows)


def _target_row(study: StudyInfo, target: TargetResults, paper: PaperFigures | None) -> Row:
    best_sc, best_tl = target.best_sc, target.best_tl
    sc_mae = best_sc.test_mae if best_sc else None
    tl_mae = best_tl.test_mae if best_tl else None
    return {
        "study": study.name,
        "protocol": study.protocol.value,
        "target": target.info.key,
        "unit": target.info.unit,
        "n_train": target.cells[0].n_train,
        "n_test": target.cells[0].n_test,
        "base_mae": target.base_mae,
        "best_sc": best_sc.label if best_sc else None,
        "best_sc_test_mae": sc_mae,
        "best_tl": best_tl.label if best_tl else None,
        "best_tl_test_mae": tl_mae,
        "tl_beats_sc": None if sc_mae is None or tl_mae is None else tl_mae < sc_mae,
        **paper_columns(paper),
        "base_mae_of_median": target.base.test_mae_median if target.base else None,
        "winner": target.winner.label if target.winner else None,
        "winner_test_mae": target.winner.test_mae if target.winner else None,
        "winner_test_mae_ensemble": target.winner.test_mae_ensemble if target.winner else None,
        "winner_is_ours": target.winner.method.extension if target.winner else None,
    }


def paper_columns(paper: PaperFigures | None) -> dict[str, float | None]:
    """The paper's SC (Table 4 or 5), TL (the lower of Tables 2 and 3, or Table 5) and lowest error."""
    if paper is None:
        return dict.fromkeys(("paper_sc_mae", "paper_tl_mae", "paper_lowest_mae"))
    return {
        "paper_sc_mae": paper.sc_mae_table4_or_5,
        "paper_tl_mae": best_transfer(paper),
        "paper_lowest_mae": paper.lowest_mae,
    }


def _text(value: Any) -> str:
    """One table entry; enums by their value, numbers with six significant digits."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


_MOST_POINTS = 300
"""Points of a target in the parity plot; more make the page heavy and the plot no clearer."""


def target_metrics(target: TargetResults) -> Mapping[str, float | str | None]:
    """The figures of a target that one wants to compare between revisions; errors in its unit."""
    sc, tl, winner = target.best_sc, target.best_tl, target.winner
    return {
        "base_mae": _short(target.base_mae),
        "best_sc_test_mae": _short(sc.test_mae if sc else None),
        "best_tl_test_mae": _short(tl.test_mae if tl else None),
        "tl_over_sc": _short(target.transfer_ratio),
        "winner_cv_mae": _short(winner.cv_mae_mean if winner else None),
        "winner": winner.label if winner else None,
    }


def method_rows(results: Sequence[TargetResults]) -> list[Row]:
    """Cross-validated MAE of every method (its best cell), divided by that of the base method."""
    rows: list[Row] = []
    for target in results:
        base = target.base.cv_mae_mean if target.base and target.base.cv_mae_mean else target.base_mae
        for method in Method:
            means = [c.cv_mae_mean for c in target.cells if c.method is method and c.failure is None]
            known = [mean for mean in means if mean is not None]
            if known and base:
                relative = min(known) / base
                rows.append(
                    {"target": target.info.label, "method": method.notation, "cv_mae_relative": relative}
                )
    return rows


def parity_rows(results: Sequence[TargetResults]) -> list[Row]:
    """Hold-out values and the winner's predictions, minus the median value, in units of the base MAE."""
    rows: list[Row] = []
    for target in results:
        if target.winner is None or not target.base_mae:
            continue
        table = target.hold_out(target.winner)
        keep = np.unique(np.linspace(0, len(table) - 1, min(len(table), _MOST_POINTS)).round().astype(int))
        values = table[["y_true", "y_pred"]].to_numpy(dtype=float)
        scaled = (values[keep] - np.median(values[:, 0])) / target.base_mae
        rows += [{"target": target.info.label, "y_true": float(t), "y_pred": float(p)} for t, p in scaled]
    return rows


def write_metrics(folder: Path, results: Sequence[TargetResults]) -> None:
    """Write ``<folder>/<target>.json`` for every target and remove those of targets that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {f"{target.info.key}.json" for target in results}
    for stale in folder.glob("*.json"):
        if stale.name not in kept:
            stale.unlink()
    for target in results:
        text = json.dumps(target_metrics(target), indent=2)
        (folder / f"{target.info.key}.json").write_text(text + "\n", encoding="utf-8")


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
