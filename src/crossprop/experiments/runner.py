"""Runs all cells of one target: screen, cross-validate the best of each method, measure, choose, record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crossprop.config import Params
from crossprop.experiments.assemble import failed_outcome, finished_outcome, screened_outcome
from crossprop.experiments.cells import Cell
from crossprop.experiments.inputs import TargetFiles, TargetInputs
from crossprop.experiments.pool import Failure, WorkerPool
from crossprop.experiments.progress import Progress
from crossprop.experiments.results import CellOutcome, CellRecorder
from crossprop.experiments.selection import Winners, best_of_method, choose_winners
from crossprop.experiments.store import CellStore
from crossprop.experiments.tasks import FoldReport, FoldTask, ScreenReport, ScreenTask, run_task
from crossprop.paths import StudyPaths
from crossprop.vocabulary import Family, Method


@dataclass(frozen=True)
class TargetOutcome:
    """All cells of one target, in the order of enumeration, with the ids of their records and the chosen ones."""

    outcomes: tuple[CellOutcome, ...]
    run_ids: dict[str, str]
    winners: Winners


class TargetRun:
    """The state of one target's grid while it is computed.

    Args:
        params: Configuration.
        cells: The target's cells.
        files: Where its inputs lie.
        paths: Where the study's files lie.
        recorder: Receives every cell once it is finished.
        progress: Told of every finished piece.
    """

    def __init__(
        self,
        params: Params,
        cells: list[Cell],
        files: TargetFiles,
        paths: StudyPaths,
        recorder: CellRecorder,
        progress: Progress,
    ) -> None:
        self._params, self._cells, self._files, self._paths = params, cells, files, paths
        self._recorder, self._progress = recorder, progress
        self._store = CellStore(paths)
        self._inputs = TargetInputs(files, cells[0].protocol)
        self._screened: dict[str, ScreenReport] = {}
        self._failed: dict[str, str] = {}
        self._folds: dict[str, dict[int, FoldReport]] = {}
        self._chosen: dict[Method, Cell] = {}
        self._outcomes: dict[str, CellOutcome] = {}
        self._run_ids: dict[str, str] = {}

    def run(self) -> TargetOutcome:
        """Compute whatever is not stored yet.

        Raises:
            StoreError: Results cannot be written; what is finished is kept.
        """
        compute = self._params.compute
        pool = WorkerPool(run_task, workers=compute.workers, backend=compute.backend, retries=compute.retries)
        with pool:
            for cell in self._cells:
                stored = self._store.screening(cell)
                if stored is not None:
                    self._screened[cell.id] = stored
                    self._progress.found()
                else:
                    task = ScreenTask(cell, self._files, self._paths.journal(cell.target))
                    pool.submit((cell, None), task, _cost(cell, self._inputs) * max(cell.n_trials, 1))
            for method in self._params.study.methods:
                self._advance(method, pool)
            self._progress.begin()
            self._consume(pool)
            winner = choose_winners(outcome.result for outcome in self._outcomes.values()).winner
            if winner is not None:
                self._ensure_models(winner.cell, pool)
                self._consume(pool)
        return self._conclude()

    def _consume(self, pool: WorkerPool) -> None:
        for (cell, fold), report in pool.results():
            if isinstance(report, Failure):
                self._failed.setdefault(cell.id, report.reason)
                self._progress.failed(cell, report.reason)
                if fold is not None:
                    self._finish_if_complete(cell)
            elif isinstance(report, ScreenReport):
                self._store.keep_screening(cell, report)
                self._screened[cell.id] = report
                self._progress.screened(cell, report.val_mae)
            else:
                self._store.keep_fold(cell, fold, report)
                self._folds[cell.id][fold] = report
                self._progress.fitted(cell, fold, report.val_mae)
                self._finish_if_complete(cell)
            if fold is None:
                self._advance(cell.method, pool)

    def _advance(self, method: Method, pool: WorkerPool) -> None:
        """Once all cells of a method are screened: record the others, cross-validate the best."""
        cells = [cell for cell in self._cells if cell.method is method]
        settled = all(cell.id in self._screened or cell.id in self._failed for cell in cells)
        if not settled or method in self._chosen:
            return
        best = best_of_method(cells, {key: report.val_mae for key, report in self._screened.items()})
        for cell in cells:
            if cell.id in self._screened and cell is not best.get(method):
                self._keep(screened_outcome(cell, self._screened[cell.id], self._inputs))
            elif cell.id not in self._screened:
                self._keep(failed_outcome(cell, self._failed[cell.id], self._inputs))
        if method not in best:
            self._progress.skipped(cells[0])
            return
        cell = self._chosen[method] = best[method]
        self._folds[cell.id] = {}
        for fold in range(cell.folds):
            stored = self._store.fold(cell, fold)
            if stored is not None:
                self._folds[cell.id][fold] = stored
                self._progress.found()
            else:
                # A regressor is fitted in less time than it is saved: only the winner's are, in the end.
                self._submit_fold(cell, fold, pool, save=method.family is Family.NETWORK)
        self._finish_if_complete(cell)

    def _submit_fold(self, cell: Cell, fold: int, pool: WorkerPool, *, save: bool) -> None:
        best = self._screened[cell.id].hyperparameters
        folder = self._store.model_draft(cell, fold) if save else None
        task = FoldTask(cell, self._files, tuple(sorted(best.items())), fold, folder)
        pool.submit((cell, fold), task, _cost(cell, self._inputs))

    def _finish_if_complete(self, cell: Cell) -> None:
        if cell.id in self._outcomes:
            return
        if cell.id in self._failed:
            self._keep(failed_outcome(cell, self._failed[cell.id], self._inputs, self._screened[cell.id]))
        elif len(self._folds[cell.id]) == cell.folds:
            folds = [self._folds[cell.id][fold] for fold in range(cell.folds)]
            self._keep(finished_outcome(cell, self._screened[cell.id], folds, self._inputs))

    def _keep(self, outcome: CellOutcome) -> None:
        if outcome.result.cell not in self._outcomes:
            self._outcomes[outcome.result.cell] = outcome
            self._run_ids[outcome.result.cell] = self._recorder.record(outcome)

    def _ensure_models(self, cell_id: str, pool: WorkerPool) -> None:
        """Fit the winner's folds again, to the same numbers, where their models were not saved or were dropped."""
        cell = next(cell for cell in self._cells if cell.id == cell_id)
        for fold in range(cell.folds):
            if self._store.model(cell, fold) is None:
                self._progress.expect_more()
                self._submit_fold(cell, fold, pool, save=True)

    def _conclude(self) -> TargetOutcome:
        outcomes = tuple(self._outcomes[cell.id] for cell in self._cells)
        return TargetOutcome(outcomes, self._run_ids, choose_winners(outcome.result for outcome in outcomes))


def _cost(cell: Cell, inputs: TargetInputs) -> float:
    """Rough seconds of one fit, to start the long ones first and to tell the time left."""
    if cell.method.family is Family.NETWORK and cell.recipe is not None:
        return cell.recipe.epochs * len(inputs.train) / 2500 + 1
    return len(inputs.train) / 1000 + 0.2 if cell.method.family is Family.REGRESSOR else 0.1


def fold_models(outcome: TargetOutcome, cells: list[Cell], paths: StudyPaths) -> list[Path | None]:
    """Folders of the winner's fold models, in the order of folds; empty where nobody won."""
    winner = outcome.winners.winner
    if winner is None:
        return []
    cell = next(cell for cell in cells if cell.id == winner.cell)
    store = CellStore(paths)
    return [store.model(cell, fold) for fold in range(cell.folds)]
