"""What a report reads: the configured study and the results of every target."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.config import Params
from crossprop.data.catalog import PaperFigures, load_catalog
from crossprop.errors import StoreError
from crossprop.experiments.results import CellResult
from crossprop.experiments.targets import plan_target
from crossprop.methods import EXTRACTION_LAYERS, Family, Method, Protocol, Representation, Side
from crossprop.paths import StudyPaths

PaperTable = Mapping[str, PaperFigures | None]
"""The paper's errors by target key."""


def best_transfer(figures: PaperFigures) -> float | None:
    """The paper's lower TL error of Tables 2 and 3, or that of Table 5."""
    known = [mae for mae in (figures.tl_mae_table2, figures.tl_mae_table3_or_5) if mae is not None]
    return min(known, default=None)


_HOLD_OUT_COLUMNS = ["formula", "y_true", "y_pred", "y_pred_ensemble"]
_FIRST = "Run the stage `transfer` of this target first."
_AGAIN = _FIRST.replace("first", "again")


@dataclass(frozen=True, kw_only=True)
class TargetInfo:
    """One target property: its catalogue entry, the ids of the cells that must be there, its folds."""

    key: str
    label: str
    unit: str
    description: str
    cells: tuple[str, ...]
    folds: int | None = None


@dataclass(frozen=True, kw_only=True)
class StudyInfo:
    """Title, protocol and data of a study; ``edition`` and ``tier`` are empty where there is only one.

    ``elemnets`` are the sources with an ElemNet of their own, ``joint`` the sources of each joint network by its name,
    ``units`` those of the source properties, ``budget`` what the configuration grants, in lines of text.
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
    ``best_tl`` are of the paper's methods; ``winner`` is the best of all. Each is None where no cell finished.
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
        """The better of best SC and best TL by cross-validation: the result of the paper's methods alone."""
        return best_validated(cell for cell in (self.best_sc, self.best_tl) if cell is not None)

    @property
    def best_extension(self) -> CellResult | None:
        """The best cell of the extension methods by cross-validation."""
        candidates = (c for c in self.cells if c.method.extension and c.method is not Method.PLAIN_BASELINE)
        return best_validated(candidates)

    @property
    def chosen_or_none(self) -> dict[str, CellResult | None]:
        """``best SC``, ``best TL`` and ``winner``; None for a side on which no cell finished."""
        return {"best SC": self.best_sc, "best TL": self.best_tl, "winner": self.winner}

    @property
    def chosen(self) -> dict[str, CellResult]:
        """The chosen cells by role, without the roles that no cell has."""
        return {role: cell for role, cell in self.chosen_or_none.items() if cell is not None}

    @cached_property
    def _run_ids(self) -> dict[str, str]:
        return {run.cell: run.run_id for run in self.runs}

    def run_id(self, cell: CellResult | None) -> str:
        """Where a cell is tracked; empty for none."""
        return "" if cell is None else self._run_ids.get(cell.cell, "")

    def hold_out(self, cell: CellResult) -> pd.DataFrame:
        """Hold-out rows of a cell's best fold model: formula, y_true, y_pred, y_pred_ensemble."""
        rows = self.predictions[self.predictions["cell"] == cell.cell]
        if cell.best_fold is not None and rows["fold"].nunique() > 1:
            rows = rows[rows["fold"] == cell.best_fold]
        if rows.empty or not np.isfinite(rows[["y_true", "y_pred"]].to_numpy(dtype=float)).all():
            raise StoreError(
                f"predictions.parquet of target '{self.info.key}' holds {len(rows)} hold-out rows of cell "
                f"'{cell.cell}', where finite predictions of its best fold are needed. {_AGAIN}"
            )
        return rows[_HOLD_OUT_COLUMNS].reset_index(drop=True)


def best_validated(cells: Iterable[CellResult]) -> CellResult | None:
    """The cell with the least mean validation MAE of the cross-validation; the first of equals.

    Cells that failed, were stopped or were only screened are left out.
    """
    validated = [
        (cell.cv_mae_mean, cell)
        for cell in cells
        if cell.failure is None and cell.cv_mae_mean is not None and cell.test_mae is not None
    ]
    return min(validated, key=lambda pair: pair[0])[1] if validated else None


def load_study_results(study: StudyInfo, paths: StudyPaths) -> tuple[TargetResults, ...]:
    """Results of all targets of a study, in the study's order."""
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
    cells = _read_json(folder / "cells.json", lambda rows: [CellResult.from_dict(row) for row in rows])
    _check_against_plan(study, info, cells, folder)
    cells.sort(key=lambda cell: _order(cell, study.sources))
    by_id = {cell.cell: cell for cell in cells}
    records = _read_json(folder / "runs.json", lambda rows: [RunRecord(**row) for row in rows])
    runs = {record.cell: record for record in records}
    if set(runs) != set(by_id) or len(runs) != len(records):
        odd = sorted(set(runs) ^ set(by_id)) or sorted(runs)
        raise StoreError(
            f"{folder / 'runs.json'} and cells.json beside it name different cells: {_listed(odd)}. {_AGAIN}"
        )
    winners = _read_json(folder / "winners.json")
    predictions = _read_table(
        folder / "predictions.parquet",
        ["cell", "fold", *_HOLD_OUT_COLUMNS],
        filters=[("split", "==", "test")],
    )
    curve_columns = ["cell", "side", "share", "n_train", "test_mae"]
    return TargetResults(
        info=info,
        cells=tuple(cells),
        runs=tuple(runs[cell] for cell in by_id),
        best_sc=_chosen(winners, "best_sc", by_id, folder),
        best_tl=_chosen(winners, "best_tl", by_id, folder),
        winner=_chosen(winners, "winner", by_id, folder),
        predictions=predictions.astype({"cell": "category"}),
        trials=_read_table(folder / "trials.parquet", ["cell", "state", "value", "params"]),
        learning_curve=_read_table(folder / "learning_curve.parquet", curve_columns),
        prepared=_read_table(
            paths.prepared(info.key),
            ["formula", "composition", "value", "split"],
            advice="Run the stage `prepare` (dvc repro prepare).",
        ),
    )


def _check_against_plan(
    study: StudyInfo, info: TargetInfo, cells: Sequence[CellResult], folder: Path
) -> None:
    found, planned = Counter(cell.cell for cell in cells), set(info.cells)
    problems = {
        "missing": sorted(planned - set(found)),
        "not in the configuration": sorted(set(found) - planned),
        "there more than once": sorted(cell for cell, count in found.items() if count > 1),
        "of another study, protocol or target": sorted(
            c.cell for c in cells if (c.study, c.protocol, c.target) != (study.name, study.protocol, info.key)
        ),
    }
    told = "; ".join(f"{len(ids)} {what}: {_listed(ids)}" for what, ids in problems.items() if ids)
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


@contextmanager
def _reading(path: Path, advice: str = _FIRST) -> Iterator[None]:
    """Turns an error while a file is read into a StoreError that says which file and what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise StoreError(f"{path} is not there. {advice}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} cannot be read ({type(error).__name__}: {error}): it is damaged, or another version of "
            f"crossprop wrote it. {advice.replace('first', 'again')}"
        ) from error


def _read_json(path: Path, take: Callable[[Any], Any] = lambda content: content) -> Any:
    with _reading(path):
        return take(json.loads(path.read_text(encoding="utf-8")))


def _read_table(path: Path, columns: list[str], *, advice: str = _FIRST, filters: Any = None) -> pd.DataFrame:
    with _reading(path, advice):
        return pd.read_parquet(path, columns=columns, filters=filters)


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
        targets.append(
            TargetInfo(
                key=name,
                label=entry.label,
                unit=entry.unit,
                description=entry.description,
                cells=tuple(cell.id for cell in plan_target(params, name, paths)[0]),
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
        lines.append(
            f"{name}: {study.budget.ml_trials} trials on regressors shared by "
            f"{study.count_cells(side, Family.REGRESSOR)} cells, {study.budget.dl_trials} trials on networks "
            f"shared by {study.count_cells(side, Family.NETWORK)} cells, at most {study.budget.seconds:g} worker "
            "seconds for each target"
        )
    counted = sorted(Counter(study.folds_of(target) for target in study.targets).items())
    folds = ", ".join(f"{k} folds on {n} {'target' if n == 1 else 'targets'}" for k, n in counted)
    if len(counted) == 1:
        folds = f"{counted[0][0]} folds"
    lines.append(f"Cross-validation of the best cell of each method: {folds}")
    if (rules := study.fidelity) is not None:
        lines.append(
            f"Multi-fidelity: screening learns from at most {rules.rows:,} rows, networks for at most {rules.steps} "
            f"steps; {rules.after_screening} methods of each side and family are cross-validated (the paper's and "
            f"the extension methods apart); a method stops after the first fold if it is more than "
            f"{100 * rules.margin:g} % behind the best of its side, and at most {rules.after_first_fold} of each side "
            "continue"
        )
    lines.append(
        f"Epochs: {study.pretrain.epochs} for sources, {study.scratch.epochs} for networks from random weights, "
        f"{study.transfer.epochs} for fine-tuning"
    )
    return tuple(lines)
