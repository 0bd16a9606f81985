"""Reads the results of a study's targets and holds them against the cells that the configuration enumerates."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from crossprop.errors import StoreError
from crossprop.experiments.results import CellResult
from crossprop.paths import StudyPaths
from crossprop.reporting.study_info import StudyInfo, TargetInfo
from crossprop.reporting.target_results import HOLD_OUT_COLUMNS, RunRecord, TargetResults
from crossprop.vocabulary import EXTRACTION_LAYERS, Method, Representation

_AGAIN = "Run the stage `transfer` of this target again."
_FIRST = "Run the stage `transfer` of this target first."


def load_study_results(study: StudyInfo, paths: StudyPaths) -> tuple[TargetResults, ...]:
    """Results of all targets of a study, in the study's order.

    Args:
        study: The study; its targets name the cells that must be there.
        paths: Where the study's files lie.

    Raises:
        StoreError: A file is missing or damaged, a cell is missing, extra, double or of another study, or
            a chosen cell does not exist.
    """
    results = tuple(_load_target(study, info, paths) for info in study.targets)
    seen = Counter(cell.cell for target in results for cell in target.cells)
    if double := [cell for cell, count in seen.items() if count > 1]:
        raise StoreError(
            f"Study '{study.name}': cell ids {_listed(double)} stand in more than one target. "
            "Give each target its own."
        )
    return results


def _load_target(study: StudyInfo, info: TargetInfo, paths: StudyPaths) -> TargetResults:
    folder = paths.results(info.key)
    cells = [_cell(values, folder) for values in _read_json(folder / "cells.json")]
    _hold_against_plan(study, info, cells, folder)
    cells.sort(key=lambda cell: _order(cell, study.sources))
    by_id = {cell.cell: cell for cell in cells}
    winners = _read_json(folder / "winners.json")
    hold_out = ["cell", "split", "fold", *HOLD_OUT_COLUMNS]
    return TargetResults(
        info=info,
        cells=tuple(cells),
        runs=_runs(_read_json(folder / "runs.json"), by_id, folder),
        best_sc=_chosen(winners, "best_sc", by_id, folder),
        best_tl=_chosen(winners, "best_tl", by_id, folder),
        winner=_chosen(winners, "winner", by_id, folder),
        predictions=_read_table(
            folder / "predictions.parquet", hold_out, _FIRST, [("split", "==", "test")]
        ).astype({"cell": "category"}),
        trials=_read_table(folder / "trials.parquet", ["cell", "state", "value", "params"], _FIRST),
        learning_curve=_read_table(
            folder / "learning_curve.parquet", ["cell", "side", "share", "n_train", "test_mae"], _FIRST
        ),
        prepared=_read_table(
            paths.prepared(info.key),
            ["formula", "composition", "value", "split"],
            "Run the stage `prepare` (dvc repro prepare).",
        ),
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
        raise StoreError(f"{path} is not there. {_FIRST}") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}). {_AGAIN}") from error


def _read_table(
    path: Path, columns: Sequence[str], advice: str, rows: list[tuple[str, str, str]] | None = None
) -> pd.DataFrame:
    """Columns of a parquet file, of the rows that satisfy all conditions."""
    try:
        return pd.read_parquet(path, columns=list(columns), filters=rows)
    except FileNotFoundError as error:
        raise StoreError(f"{path} is not there. {advice}") from error
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"{path} cannot be read with columns {', '.join(columns)}: {error}. {advice.replace('first', 'again')}"
        ) from error


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
