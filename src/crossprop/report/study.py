"""What a report knows of one target: its cells, where they are tracked, the chosen ones, their predictions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import numpy as np
import pandas as pd

from crossprop.config import Params
from crossprop.data.catalog import load_catalog
from crossprop.errors import StoreError
from crossprop.experiments.results import CellResult
from crossprop.experiments.targets import plan_target
from crossprop.methods import EXTRACTION_LAYERS, Family, Method, Protocol, Representation, Side
from crossprop.paths import StudyPaths


@dataclass(frozen=True, kw_only=True)
class TargetInfo:
    """One target property and the cells that the configuration enumerates for it.

    Attributes:
        key: Name of the property in the catalogue and of its folder in the results.
        label: Short name that tables and figures show.
        unit: Unit of its values; empty or ``1`` for a pure number.
        description: A few words for somebody who does not know the short name.
        cells: Ids of all cells that must be there, no more and no less.
        folds: Folds of its cross-validation.
    """

    key: str
    label: str
    unit: str
    description: str
    cells: tuple[str, ...]
    folds: int | None = None


@dataclass(frozen=True, kw_only=True)
class StudyInfo:
    """Title, protocol and data of a study.

    Attributes:
        name: Name of the study and of its folders.
        title: Headline of its report.
        protocol: Which training rows the targets keep.
        edition: Edition of the source data sets; empty where there is only one.
        seed: Seed of splits, tuning and training.
        targets: Target properties in the order of the report.
        sources: Keys of the source properties, in order.
        tier: Which tier of the study was run; empty where it has none.
        elemnets: Sources with an ElemNet of their own.
        joint: Sources of each network that learns several at once, by its name.
        units: Unit of every source property.
        budget: What the configuration grants each side, one line each, as the report shows it.
        notes: Further lines of its own for the report's limits.
    """

    name: str
    title: str
    protocol: Protocol
    edition: str
    seed: int
    targets: tuple[TargetInfo, ...]
    sources: tuple[str, ...]
    tier: str = ""
    elemnets: tuple[str, ...] = ()
    joint: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    budget: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class PaperFigures(Interface):
    """Mean absolute errors of one target in Gupta et al. 2021, Tables 2 to 5; None where there is none."""

    @property
    def base_mae(self) -> float | None:
        """Error of the mean of the training values."""

    @property
    def sc_ef_mae_table2(self) -> float | None:
        """Best scratch model on elemental fractions; None for the experimental sets of Table 5."""

    @property
    def tl_mae_table2(self) -> float | None:
        """Best transfer model, source formation energy."""

    @property
    def tl_mae_table3_or_5(self) -> float | None:
        """Best transfer model, best of six sources (Table 3), or of the experimental sets (Table 5)."""

    @property
    def sc_mae_table4_or_5(self) -> float | None:
        """Best scratch model on elemental fractions or physical attributes."""

    @property
    def lowest_mae(self) -> float | None:
        """Lowest error of the target anywhere in the paper."""


PaperTable = Mapping[str, PaperFigures | None]
"""The paper's errors by target key."""


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
        return best_validated(cell for cell in self.cells if cell.method.extension)

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


def study_info(params: Params, paths: StudyPaths) -> StudyInfo:
    """What the report of a study must know, with the ids of all cells that the configuration enumerates.

    Raises:
        ModelFormatError: A source network has not been trained.
    """
    study, catalog = params.study, load_catalog()
    targets = []
    for name in study.targets:
        entry = catalog.property(name)
        cells = plan_target(params, name, paths)[0]
        targets.append(
            TargetInfo(
                key=name,
                label=entry.label,
                unit=entry.unit,
                description=entry.description,
                cells=tuple(cell.id for cell in cells),
                folds=study.folds_of(name),
            )
        )
    return StudyInfo(
        name=study.name,
        title=study.title,
        protocol=study.protocol,
        edition=study.edition,
        seed=study.seed,
        targets=tuple(targets),
        sources=study.sources,
        tier=study.tier,
        elemnets=study.elemnet_sources,
        joint=study.joint,
        units={source: catalog.property(source).unit for source in study.sources},
        budget=_budget(params),
    )


def _budget(params: Params) -> tuple[str, ...]:
    study = params.study
    lines = []
    for side, name in ((Side.SCRATCH, "Scratch"), (Side.TRANSFER, "Transfer")):
        regressors, networks = (
            study.count_cells(side, family) for family in (Family.REGRESSOR, Family.NETWORK)
        )
        lines.append(
            f"{name}: {study.budget.ml_trials} trials on regressors shared by {regressors} cells, "
            f"{study.budget.dl_trials} trials on networks shared by {networks} cells, "
            f"at most {study.budget.seconds:g} worker seconds for each target"
        )
    lines.append(f"Cross-validation of the best cell of each method: {_folds(params)}")
    if study.fidelity is not None:
        given = study.fidelity
        lines.append(
            f"Multi-fidelity: screening learns from at most {given.rows:,} rows, networks for at most "
            f"{given.steps} steps; {given.after_screening} methods of each side and family are "
            "cross-validated (the paper's and ours apart); after the first fold those stop that are more than "
            f"{100 * given.margin:g} % behind the best of their side, and at most {given.after_first_fold} of "
            "each side go on"
        )
    lines.append(
        f"Epochs: {study.pretrain.epochs} for sources, {study.scratch.epochs} for networks from random weights, "
        f"{study.transfer.epochs} for fine-tuning"
    )
    return tuple(lines)


def _folds(params: Params) -> str:
    """How many folds how many targets get."""
    counted = Counter(params.study.folds_of(target) for target in params.study.targets)
    if len(counted) == 1:
        return f"{next(iter(counted))} folds"
    return ", ".join(
        f"{folds} folds on {n} {'target' if n == 1 else 'targets'}" for folds, n in sorted(counted.items())
    )
