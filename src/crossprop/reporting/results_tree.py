"""Reads `results/<study>/<target>/` and holds it against the cells that the configuration enumerates."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.errors import StoreError
from crossprop.experiments.results import CellResult
from crossprop.reporting.study_info import StudyInfo, TargetInfo
from crossprop.vocabulary import EXTRACTION_LAYERS, Method, Representation

_AGAIN = "Run the stage `transfer` of this target again."
_HOLD_OUT_COLUMNS = ["formula", "y_true", "y_pred", "y_pred_ensemble"]


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

    ``cells`` and ``runs`` share one order: method, source, representation, layer, id. The three chosen
    cells are None where no cell of that side came through.
    """

    info: TargetInfo
    cells: tuple[CellResult, ...]
    runs: tuple[RunRecord, ...]
    best_sc: CellResult | None
    best_tl: CellResult | None
    winner: CellResult | None
    predictions: pd.DataFrame

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

    def hold_out(self, cell: CellResult) -> pd.DataFrame:
        """Hold-out rows of a cell's best fold model: formula, y_true, y_pred, y_pred_ensemble.

        Raises:
            StoreError: The cell has no such predictions, or they hold missing values.
        """
        table = self.predictions
        rows = table[(table["cell"] == cell.cell) & (table["split"] == "test")]
        if cell.best_fold is not None and rows["fold"].nunique() > 1:
            rows = rows[rows["fold"] == cell.best_fold]
        if rows.empty or not np.isfinite(rows[["y_true", "y_pred"]].to_numpy(dtype=float)).all():
            raise StoreError(
                f"predictions.parquet of target '{self.info.key}' holds {len(rows)} hold-out rows of cell "
                f"'{cell.cell}', where finite predictions of its best fold are needed. {_AGAIN}"
            )
        return rows[_HOLD_OUT_COLUMNS].reset_index(drop=True)


def load_study_results(study: StudyInfo, results_root: Path) -> tuple[TargetResults, ...]:
    """Results of all targets of a study, in the study's order.

    Args:
        study: The study; its targets name the cells that must be there.
        results_root: Folder that holds ``<study>/<target>/``.

    Raises:
        StoreError: A file is missing or damaged, a cell is missing, extra, double or of another study, or
            a chosen cell does not exist.
    """
    results = tuple(_load_target(study, info, results_root / study.name / info.key) for info in study.targets)
    seen = Counter(cell.cell for target in results for cell in target.cells)
    if double := [cell for cell, count in seen.items() if count > 1]:
        raise StoreError(
            f"Study '{study.name}': cell ids {_listed(double)} stand in more than one target. "
            "Give each target its own."
        )
    return results


def _load_target(study: StudyInfo, info: TargetInfo, folder: Path) -> TargetResults:
    cells = [_cell(values, folder) for values in _read_json(folder / "cells.json")]
    _hold_against_plan(study, info, cells, folder)
    cells.sort(key=lambda cell: _order(cell, study.sources))
    by_id = {cell.cell: cell for cell in cells}
    winners = _read_json(folder / "winners.json")
    return TargetResults(
        info=info,
        cells=tuple(cells),
        runs=_runs(_read_json(folder / "runs.json"), by_id, folder),
        best_sc=_chosen(winners, "best_sc", by_id, folder),
        best_tl=_chosen(winners, "best_tl", by_id, folder),
        winner=_chosen(winners, "winner", by_id, folder),
        predictions=_read_predictions(folder / "predictions.parquet"),
    )


def _hold_against_plan(study: StudyInfo, info: TargetInfo, cells: Sequence[CellResult], folder: Path) -> None:
    found, planned = Counter(cell.cell for cell in cells), set(info.cells)
    troubles = {
        "missing": sorted(planned - set(found)),
        "not in the configuration": sorted(set(found) - planned),
        "there more than once": sorted(cell for cell, count in found.items() if count > 1),
        "of another study, protocol or target": sorted(
            c.cell for c in cells if (c.study, c.protocol, c.target) != (study.name, study.protocol, info.key)
        ),
    }
    told = "; ".join(f"{len(ids)} {what}: {_listed(ids)}" for what, ids in troubles.items() if ids)
    if told:
        raise StoreError(
            f"{folder / 'cells.json'} does not match study '{study.name}' ({study.protocol}, "
            f"target '{info.key}', {len(planned)} cells): {told}. {_AGAIN}"
        )


def _order(cell: CellResult, sources: Sequence[str]) -> tuple[int, int, int, int, str]:
    """Method, then source, representation, layer and id."""
    return (
        list(Method).index(cell.method),
        sources.index(cell.source) if cell.source in sources else len(sources),
        list(Representation).index(cell.representation) if cell.representation else -1,
        EXTRACTION_LAYERS.index(cell.layer) if cell.layer in EXTRACTION_LAYERS else -1,
        cell.cell,
    )


def _runs(
    records: Sequence[Mapping[str, Any]], cells: Mapping[str, CellResult], folder: Path
) -> tuple[RunRecord, ...]:
    try:
        runs = {record["cell"]: RunRecord(**record) for record in records}
    except (KeyError, TypeError) as error:
        raise StoreError(f"{folder / 'runs.json'}: {error}. {_AGAIN}") from error
    if set(runs) != set(cells) or len(runs) != len(records):
        odd = sorted(set(runs) ^ set(cells)) or sorted({r["cell"] for r in records})
        raise StoreError(
            f"{folder / 'runs.json'} and cells.json beside it name different cells: {_listed(odd)}. {_AGAIN}"
        )
    return tuple(runs[cell] for cell in cells)


def _chosen(
    winners: Mapping[str, Any], role: str, cells: Mapping[str, CellResult], folder: Path
) -> CellResult | None:
    name = winners.get(role)
    if name is None:
        return None
    cell = cells.get(name)
    if cell is None or cell.failure is not None or cell.test_mae is None:
        why = "is no cell of this target" if cell is None else "has no hold-out error"
        raise StoreError(f"{folder / 'winners.json'}: {role} = '{name}' {why}. {_AGAIN}")
    return cell


def _cell(values: dict[str, Any], folder: Path) -> CellResult:
    try:
        return CellResult.from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{folder / 'cells.json'}: a cell cannot be read ({type(error).__name__}: {error}); it was "
            f"written by another version of crossprop or by hand. {_AGAIN}"
        ) from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(f"{path} is not there. Run the stage `transfer` of this target first.") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}). {_AGAIN}") from error


def _read_predictions(path: Path) -> pd.DataFrame:
    needed = ["cell", "split", "fold", *_HOLD_OUT_COLUMNS]
    try:
        return pd.read_parquet(path, columns=needed)
    except FileNotFoundError as error:
        raise StoreError(f"{path} is not there. Run the stage `transfer` of this target first.") from error
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"{path} cannot be read with columns {', '.join(needed)}: {error}. {_AGAIN}"
        ) from error


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
