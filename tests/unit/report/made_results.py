"""The smaller files of a study that never ran: results, trials, learning curves, source networks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd

from crossprop.experiments.results import CellResult
from crossprop.methods import EXTRACTION_LAYERS, Method, Side

_MEASURED = (
    "cv_mae", "best_fold", "test_mae", "test_mae_low", "test_mae_high", "test_q95", "test_r2", "test_mae_ensemble",
    "strict_test_mae", "strict_n_train",
)  # fmt: skip


def without_cross_validation(cell: CellResult, **changes) -> CellResult:
    """The same cell as it is when it was only screened."""
    return replace(cell, **dict.fromkeys(_MEASURED), **changes)


def halve(cells: list[CellResult], tables: list[pd.DataFrame]) -> tuple[list[CellResult], list[pd.DataFrame]]:
    """Only the best cell of a method is cross-validated; networks on activations are stopped."""
    best = {c.method: c.cell for c in sorted(cells, key=lambda c: -(c.val_mae or 0.0)) if c.failure is None}
    kept_cells, kept_tables = [], []
    for cell, table in zip(cells, tables, strict=True):
        if cell.failure is not None:
            kept = cell
        elif best[cell.method] != cell.cell:
            kept = without_cross_validation(cell)
        elif cell.method is Method.FREEZING:
            kept = without_cross_validation(cell, stopped="after screening: 61.0 % behind finetune(band_gap)")
        elif cell.method is Method.DL_FEATEXTR:
            reason = "after fold 1 of 10: 12.0 % behind ml(PA)"
            kept = without_cross_validation(cell, stopped=reason, rung_mae=(cell.cv_mae or ())[:1])
        else:
            kept = cell
        kept_cells.append(kept)
        kept_tables.append(table if kept.cv_mae else table.iloc[:0])
    return kept_cells, kept_tables


def write_results(folder: Path, cells: list[CellResult], tables: list[pd.DataFrame], rng) -> None:
    """Write cells, runs, winners and predictions; the cells in any order."""
    done = [cell for cell in cells if cell.cv_mae is not None]
    papers = [c for c in done if not c.method.extension and c.method.side is not Side.BASE]
    best = {
        role: min((c for c in papers if c.method.side is side), key=lambda c: c.cv_mae_mean)
        for role, side in (("best_sc", Side.SCRATCH), ("best_tl", Side.TRANSFER))
    }
    own = [c for c in done if c.method.extension]
    best["winner"] = min([*best.values(), *own], key=lambda c: c.cv_mae_mean)
    runs = [
        {
            "cell": c.cell,
            "run_id": rng.bytes(16).hex(),
            "tune_seconds": float(rng.uniform(5, 60)),
            "fit_seconds": float(rng.uniform(5, 90)),
            "peak_memory": int(rng.integers(5e8, 2e9)),
        }
        for c in cells
    ]
    chosen = {c.cell for c in best.values()}
    cells = [c if c.cell in chosen else replace(c, strict_test_mae=None, strict_n_train=None) for c in cells]
    shuffled = [cells[i] for i in rng.permutation(len(cells))]
    (folder / "cells.json").write_text(json.dumps([c.as_dict() for c in shuffled]), encoding="utf-8")
    (folder / "runs.json").write_text(json.dumps(runs), encoding="utf-8")
    (folder / "winners.json").write_text(json.dumps({k: c.cell for k, c in best.items()}), encoding="utf-8")
    pd.concat(tables, ignore_index=True).to_parquet(folder / "predictions.parquet")


def trials_of(cells: list[CellResult], rng) -> pd.DataFrame:
    """Four trials a cell, one of them pruned; those of extracting cells on other layers than the chosen one."""
    rows = []
    for cell in cells:
        if cell.val_mae is None or not cell.n_trials:
            continue
        extracts = cell.method in (Method.ML_FEATEXTR, Method.DL_FEATEXTR)
        layers = [cell.layer, *rng.choice(EXTRACTION_LAYERS, 3, replace=False)] if extracts else [None] * 4
        for number, layer in enumerate(layers):
            params = {"learning_rate": 0.001} | ({"layer": str(layer)} if layer else {})
            value = cell.val_mae * (1.0 if number == 0 else rng.uniform(1.01, 1.6))
            state = "PRUNED" if number == 3 else "COMPLETE"
            rows.append((cell.cell, number, state, value, 1.0, json.dumps(params)))
    return pd.DataFrame(rows, columns=["cell", "number", "state", "value", "seconds", "params"])


def curve_of(cells: list[CellResult], n_train: int) -> pd.DataFrame:
    """The best scratch and transfer cell of the paper's on three shares of the rows; nothing without cells."""
    rows = []
    for side in (Side.SCRATCH, Side.TRANSFER):
        of_side = [
            c for c in cells if c.method.side is side and not c.method.extension and c.cv_mae is not None
        ]
        if of_side:
            best = min(of_side, key=lambda c: c.cv_mae_mean)
            rows += [
                (best.cell, side.value, share, int(share * n_train), best.test_mae * share**-0.3)
                for share in (0.1, 0.5, 1.0)
            ]
    return pd.DataFrame(rows, columns=["cell", "side", "share", "n_train", "test_mae"])


def write_source(folder: Path, name: str, sources: tuple[str, ...] = ()) -> None:
    """Write the provenance of a source network; of a joint one if it has sources."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "source": name, "edition": "open", "n_train": 9000, "n_validation": 1000, "validation_mae": 0.0812,
        "validation_mae_of_median": 0.522, "seconds": 430.9, "peak_memory": 2**30, "key": f"key of {name}",
    }  # fmt: skip
    if sources:
        values |= {
            "n_train_by_source": {source: 9000 + i for i, source in enumerate(sources)},
            "validation_mae_by_source": {source: 0.07 + 0.01 * i for i, source in enumerate(sources)},
            "validation_mae_of_median_by_source": dict.fromkeys(sources, 0.5),
        }
    (folder / "provenance.json").write_text(json.dumps(values), encoding="utf-8")
