"""What a report reads: the cells that a study plans and the results of every target."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.config import StudyConfig
from crossprop.data.catalog import PaperFigures, PropertyEntry, load_catalog
from crossprop.data.splits import together_in
from crossprop.errors import StoreError
from crossprop.experiments.results import CellResult
from crossprop.io import read_json
from crossprop.methods import Method
from crossprop.paths import StudyPaths

_RUN = ("run_id", "tune_seconds", "fit_seconds", "peak_memory")
_HOLD_OUT_COLUMNS = ["formula", "y_true", "y_pred", "y_pred_ensemble"]
_FIRST = "Run the stage `transfer` of this target first."
_AGAIN = "Run the stage `transfer` of this target again."


@dataclass(frozen=True, kw_only=True)
class TargetResults:
    """Everything a report needs of one target; no best cell where none finished."""

    info: PropertyEntry
    folds: int
    cells: tuple[CellResult, ...]
    runs: Mapping[str, Mapping[str, Any]]  # by cell: ``run_id`` and what it cost, as ``runs.json`` has them
    best_sc: CellResult | None  # of the paper's methods, as is best_tl
    best_tl: CellResult | None
    winner: CellResult | None  # of all methods
    predictions: pd.DataFrame
    trials: pd.DataFrame
    learning_curve: pd.DataFrame
    prepared: pd.DataFrame

    @property
    def paper(self) -> PaperFigures | None:
        """The paper's errors of this target; None where it has none."""
        return self.info.paper if self.info.paper.lowest_mae else None

    @property
    def described(self) -> dict[str, str]:
        """The first columns of every table with one row per target."""
        return {"target": self.info.key, "label": self.info.label, "unit": self.info.unit}

    @property
    def base(self) -> CellResult | None:
        """The cell that predicts the mean of the training values."""
        return next((c for c in self.cells if c.method is Method.BASE and c.failure is None), None)

    @property
    def base_mae(self) -> float | None:
        """Hold-out error of :attr:`base`, in the target's unit."""
        return self.base.test_mae if self.base else None

    @property
    def base_mae_of_median(self) -> float | None:
        """Hold-out error of predicting the median of the training values, in the target's unit."""
        return self.base.test_mae_median if self.base else None

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
    def chosen(self) -> dict[str, CellResult]:
        """The chosen cells by role, without the roles that no cell has."""
        roles = {"best SC": self.best_sc, "best TL": self.best_tl, "winner": self.winner}
        return {role: cell for role, cell in roles.items() if cell is not None}

    def run_id(self, cell: CellResult | None) -> str:
        """Where a cell is tracked; empty for none."""
        return "" if cell is None else str(self.runs[cell.cell]["run_id"])

    def hold_out(self, cell: CellResult) -> pd.DataFrame:
        """Hold-out rows of a cell's best fold model, in the order of the prepared table.

        Columns: formula, composition, together (what a bootstrap draws), y_true, y_pred, y_pred_ensemble.
        """
        rows = self.predictions[self.predictions["cell"] == cell.cell]
        if cell.best_fold is not None and rows["fold"].nunique() > 1:
            rows = rows[rows["fold"] == cell.best_fold]
        if rows.empty or not np.isfinite(rows[["y_true", "y_pred"]].to_numpy(dtype=float)).all():
            raise StoreError(
                f"predictions.parquet of target '{self.info.key}' holds {len(rows)} hold-out rows of cell "
                f"'{cell.cell}', where finite predictions of its best fold are needed. {_AGAIN}"
            )
        rows, held = rows.reset_index(drop=True), self.prepared[self.prepared["split"] == "test"]
        measured, stated = rows[["formula", "y_true"]], held[["formula", "value"]]
        if measured.to_numpy().tolist() != stated.to_numpy().tolist():
            raise StoreError(
                f"The hold-out of target '{self.info.key}' is not the one that cell '{cell.cell}' was measured on. "
                "Run the stages `prepare` and `transfer` of this target again."
            )
        together = held[together_in(held)].to_numpy()
        return rows[_HOLD_OUT_COLUMNS].assign(composition=held["composition"].to_numpy(), together=together)


def best_transfer(figures: PaperFigures) -> float | None:
    """The paper's lower TL error of Tables 2 and 3, or that of Table 5."""
    known = [mae for mae in (figures.tl_mae_table2, figures.tl_mae_table3_or_5) if mae is not None]
    return min(known, default=None)


def best_validated(cells: Iterable[CellResult]) -> CellResult | None:
    """The cell with the least mean validation MAE of a whole cross-validation; the first of equals."""
    validated = [c for c in cells if c.failure is None and None not in (c.cv_mae_mean, c.test_mae)]
    return min(validated, key=lambda cell: cell.cv_mae_mean or 0.0, default=None)


def load_study_results(study: StudyConfig, paths: StudyPaths) -> tuple[TargetResults, ...]:
    """Results of all targets of a study, in the study's order."""
    catalog = load_catalog()
    return tuple(_load_target(study, catalog.property(name), paths) for name in study.targets)


def _load_target(study: StudyConfig, info: PropertyEntry, paths: StudyPaths) -> TargetResults:
    folder = paths.results(info.key)
    cells = _read(folder / "cells.json", lambda path: [CellResult.from_dict(row) for row in read_json(path)])
    planned = [(method, *point) for method in Method if method in study.methods for point in study.points(method)]
    _check_against_plan(study, info.key, cells, set(planned), folder / "cells.json")
    cells.sort(key=lambda cell: planned.index((cell.method, cell.source, cell.representation)))
    by_id = {cell.cell: cell for cell in cells}
    runs = _read(folder / "runs.json", lambda path: {row["cell"]: {k: row[k] for k in _RUN} for row in read_json(path)})
    best = _read(
        folder / "winners.json",
        lambda path: {role: cell and by_id[cell] for role, cell in read_json(path).items()},
    )
    read = ["cell", "fold", *_HOLD_OUT_COLUMNS]
    predictions = _read_table(folder / "predictions.parquet", read, filters=[("split", "==", "test")])
    curve = ["cell", "side", "share", "n_train", "test_mae"]
    prepare = "Run the stage `prepare` (dvc repro prepare)."
    return TargetResults(
        info=info,
        folds=study.folds_of(info.key),
        cells=tuple(cells),
        runs=runs,
        **best,
        predictions=predictions.astype({"cell": "category"}),
        trials=_read_table(folder / "trials.parquet", ["cell", "state", "value", "params"]),
        learning_curve=_read_table(folder / "learning_curve.parquet", curve),
        prepared=_read_table(paths.prepared(info.key), None, advice=prepare),
    )


def _check_against_plan(
    study: StudyConfig, target: str, cells: Sequence[CellResult], planned: set[Any], path: Path
) -> None:
    """Refuse results that are not those of the cells that the configuration enumerates (StoreError)."""
    found = Counter((cell.method, cell.source, cell.representation) for cell in cells)
    problems = {
        "missing": planned - set(found),
        "not in the configuration": set(found) - planned,
        "there more than once": {point for point, count in found.items() if count > 1},
    }
    listed = {what: [":".join(filter(None, point)) for point in points] for what, points in problems.items()}
    listed["of another study, protocol or target"] = [
        c.cell for c in cells if (c.study, c.protocol, c.target) != (study.name, study.protocol, target)
    ]
    told = "; ".join(f"{len(names)} {what}: {_listed(sorted(names))}" for what, names in listed.items() if names)
    if told:
        raise StoreError(
            f"{path} does not match study '{study.name}' ({study.protocol}, target '{target}', "
            f"{len(planned)} cells): {told}. {_AGAIN}"
        )


def _read_table(path: Path, columns: list[str] | None, *, advice: str = _FIRST, filters: Any = None) -> Any:
    return _read(path, partial(pd.read_parquet, columns=columns, filters=filters), advice)


def _read(path: Path, read: Callable[[Path], Any], advice: str = _FIRST) -> Any:
    """What ``read`` makes of a file; an error becomes a StoreError that says which file and what to do."""
    try:
        return read(path)
    except FileNotFoundError as error:
        raise StoreError(f"{path} is not there. {advice}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} cannot be read ({type(error).__name__}: {error}): it is damaged, or another version of "
            f"crossprop wrote it. {advice.replace('first', 'again')}"
        ) from error


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more
