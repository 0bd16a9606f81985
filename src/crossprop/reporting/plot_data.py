"""What `dvc metrics show` and `dvc plots show` read: a metrics file per target, data of two plots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from crossprop.reporting.part import Row
from crossprop.reporting.target_results import TargetResults
from crossprop.vocabulary import Method

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
