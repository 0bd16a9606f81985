"""One target's cells as a state machine: screen, race, cross-validate, blend, choose, refit, hand over."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from crossprop.config import Params
from crossprop.experiments.assemble import failed_outcome, finished_outcome, screened_outcome
from crossprop.experiments.blend import blend_folds
from crossprop.experiments.cache import CellStore
from crossprop.experiments.executor import Failure
from crossprop.experiments.grid import Cell, fold_name, is_fold
from crossprop.experiments.inputs import TargetFiles, TargetInputs
from crossprop.experiments.progress import Progress
from crossprop.experiments.results import CellOutcome, Scalar
from crossprop.experiments.selection import (
    Winners,
    after_first_fold,
    after_screening,
    best_of_method,
    category_of,
    choose_winners,
    heat_of,
    race_of,
)
from crossprop.experiments.tasks import (
    FoldReport,
    FoldTask,
    ScreenReport,
    ScreenTask,
    TogetherReport,
    TogetherTask,
)
from crossprop.experiments.tuning import Hyperparameters
from crossprop.experiments.winners import (
    TargetOutcome,
    chosen_model,
    curve_table,
    planned_refits,
    refits_of,
    with_strict,
)
from crossprop.methods import Family, Side
from crossprop.paths import StudyPaths
from crossprop.training.batched import worth_batching

JOINED = "+"
"""Joins the names of folds that are one piece of work."""

AGAIN = " again"

Submit = Callable[[tuple[Cell, str], ScreenTask | FoldTask | TogetherTask, float], None]
"""Takes (cell, piece), the task and its rough cost in seconds."""


class Fits:
    """Asks for fits, each once, and keeps what comes back.

    Args:
        files: Where the target's inputs lie.
        n_rows: Training rows of the target.
        store: Where finished fits are kept.
        progress: Told what was found and what is expected.
        submit: Queues a task.
    """

    def __init__(
        self, files: TargetFiles, n_rows: int, store: CellStore, progress: Progress, submit: Submit
    ) -> None:
        self._files, self._n_rows, self._store = files, n_rows, store
        self._progress, self._submit = progress, submit
        self._reports: dict[str, dict[str, FoldReport]] = {}
        self._wanted: dict[tuple[str, str], Cell] = {}
        self._lost: set[tuple[str, str]] = set()

    def of(self, cell_id: str) -> dict[str, FoldReport]:
        """Finished fits of a cell by the name of the piece."""
        return self._reports.setdefault(cell_id, {})

    def folds(self, cell: Cell) -> list[FoldReport] | None:
        """The cell's folds in their order, or ``None`` while one is missing."""
        found = [self.of(cell.id).get(fold_name(k)) for k in range(cell.folds)]
        folds = [report for report in found if report is not None]
        return folds if len(folds) == cell.folds else None

    def want_folds(self, cell: Cell, best: Hyperparameters, folds: Iterable[int]) -> None:
        """Ask for folds, as one piece of work where they are trained together and small enough to gain by it."""
        tasks = [task for k in folds if (task := self._new(self._task(cell, best, k)))]
        if cell.together and worth_batching(self._n_rows, len(tasks), device_is_gpu=True):
            name = JOINED.join(task.piece for task in tasks)
            self._submit((cell, name), TogetherTask(tuple(tasks)), self._cost(cell) * len(tasks))
            return
        for task in tasks:
            self._queue(task)

    def want_refit(self, cell: Cell, best: Hyperparameters, fold: int, share: float | None) -> None:
        """Ask for a fold on a share of its rows, or without repeated compositions where there is no share."""
        plain = self._task(cell, best, fold)
        task = self._new(replace(plain, folder=None, strict=share is None, share=share))
        if task is not None:
            self._progress.expect_more()
            self._queue(task)

    def want_models(self, cell: Cell, best: Hyperparameters) -> None:
        """Ask for the folds, to the same numbers again, whose models were not saved or were dropped."""
        for k in range(cell.folds):
            key = (cell.id, fold_name(k) + AGAIN)
            if self._store.model(cell, fold_name(k)) is None and key not in self._wanted:
                self._wanted[key] = cell
                self._progress.expect_more()
                self._queue(replace(self._task(cell, best, k), always_save=True))

    def take(self, cell: Cell, piece: str, report: FoldReport) -> None:
        """Keep a finished fit; what a fold cost is told by its first fit, not by one again for the model's sake.

        Raises:
            StoreError: It cannot be written.
        """
        first = self.of(cell.id).get(piece)
        if first is not None:
            report = replace(report, seconds=first.seconds, peak_memory=first.peak_memory)
        self._store.keep_fit(cell, piece, report)
        self.of(cell.id)[piece] = report

    def lose(self, cell: Cell, piece: str) -> None:
        """A fit failed for good."""
        self._lost.add((cell.id, piece))

    def settled(self, cell: Cell, piece: str) -> bool:
        """Whether a fit is finished or lost."""
        if piece.endswith(AGAIN):
            plain = piece.removesuffix(AGAIN)
            return self._store.model(cell, plain) is not None or (cell.id, plain) in self._lost
        return piece in self.of(cell.id) or (cell.id, piece) in self._lost

    @property
    def all_settled(self) -> bool:
        """Whether nothing that was asked for is missing."""
        return all(self.settled(cell, piece) for (_, piece), cell in self._wanted.items())

    def screening_cost(self, cell: Cell) -> float:
        """Rough seconds of a cell's screening."""
        rows = min(self._n_rows, cell.screening_rows or self._n_rows)
        return self._cost(cell, rows) * max(cell.n_trials, 1)

    def _new(self, task: FoldTask) -> FoldTask | None:
        """The task, unless it was asked for before or its outcome is stored."""
        key = (task.cell.id, task.piece)
        if key in self._wanted:
            return None
        self._wanted[key] = task.cell
        stored = self._store.fit(task.cell, task.piece)
        if stored is None:
            return task
        self.of(task.cell.id)[task.piece] = stored
        if is_fold(task.piece):
            self._progress.found()
        return None

    def _task(self, cell: Cell, best: Hyperparameters, fold: int) -> FoldTask:
        folder = self._store.model_draft(cell, fold_name(fold))
        return FoldTask(cell, self._files, tuple(sorted(best.items())), fold, folder)

    def _queue(self, task: FoldTask) -> None:
        self._submit((task.cell, task.piece), task, self._cost(task.cell) * (task.share or 1.0))

    def _cost(self, cell: Cell, n_rows: int | None = None) -> float:
        """Rough seconds of one fit, to start the long ones first."""
        rows = self._n_rows if n_rows is None else n_rows
        if cell.method.family is Family.NETWORK and cell.recipe is not None:
            return cell.recipe.epochs * rows / 4000 + 5
        return rows / 1000 + 0.2 if cell.method.family is Family.REGRESSOR else 0.1


SCREENING = "screening"


class TargetRun:
    """The state of one target's grid while a pool of workers computes it, among other targets.

    Args:
        params: Configuration.
        cells: The target's cells.
        files: Where its inputs lie.
        paths: Where the study's files lie.
        record: Called once with every cell, when nothing about it will change any more.
        progress: Told of every finished piece.
        submit: Queues a task.
    """

    def __init__(
        self,
        params: Params,
        cells: list[Cell],
        files: TargetFiles,
        paths: StudyPaths,
        record: Callable[[CellOutcome], None],
        progress: Progress,
        submit: Submit,
    ) -> None:
        self._params, self._cells, self._files, self._paths = params, cells, files, paths
        self._record, self._progress, self._submit = record, progress, submit
        self._store = CellStore(paths)
        self._inputs = TargetInputs(files, cells[0].protocol)
        self._fits = Fits(files, len(self._inputs.train), self._store, progress, submit)
        self._screened: dict[str, ScreenReport] = {}
        self._failed: dict[str, str] = {}
        self._heats: dict[Hashable, list[Cell]] = {}
        self._going: list[Cell] | None = None
        self._outcomes: dict[str, CellOutcome] = {}
        self._weights: np.ndarray | None = None
        self._parts: list[Cell] = []
        self._planned_refits = planned_refits(params.study, cells[0].target)

    def start(self) -> None:
        """Take what is stored and queue the screening of the rest."""
        for cell in self._cells:
            if cell.method.side is Side.BLEND:
                continue
            stored = self._store.screening(cell)
            if stored is not None:
                self._screened[cell.id] = stored
                self._progress.found()
            else:
                task = ScreenTask(cell, self._files, self._paths.journal(cell.target))
                self._submit((cell, SCREENING), task, self._fits.screening_cost(cell))
        self.advance()

    def receive(
        self, cell: Cell, piece: str, report: ScreenReport | FoldReport | TogetherReport | Failure
    ) -> None:
        """Keep a finished piece, or several folds in one, and queue what that makes possible.

        Raises:
            StoreError: A piece cannot be written.
        """
        pieces = piece.split(JOINED)
        reports = report if isinstance(report, tuple) else (report,) * len(pieces)
        for name, single in zip(pieces, reports, strict=True):
            self._take(cell, name, single)
        self.advance()

    def advance(self) -> None:
        """Go as far as the finished pieces allow."""
        if self._settle_heats() and self._settle_races():
            self._settle_folds()
            if self._settle_blend():
                self._refit()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to compute."""
        return len(self._outcomes) == len(self._cells) and self._fits.all_settled

    def conclude(self) -> TargetOutcome:
        """Record the validated cells and hand over; to be called once, when :attr:`finished`."""
        winners = self._winners()
        for chosen in {r.cell for r in (winners.best_sc, winners.best_tl, winners.winner) if r is not None}:
            strict = f"{fold_name(self._outcomes[chosen].result.best_fold or 0)}.strict"
            refit = self._fits.of(chosen).get(strict)
            self._outcomes[chosen] = with_strict(self._outcomes[chosen], refit, self._inputs)
        outcomes = tuple(self._outcomes[cell.id] for cell in self._cells)
        winners = choose_winners(o.result for o in outcomes)
        for outcome in outcomes:
            if outcome.result.cv_mae is not None:
                self._record(outcome)
        curve = curve_table(winners, {c.id: self._fits.of(c.id) for c in self._cells}, self._inputs)
        cells = self._winning_cells(winners)
        weights = np.ones((len(cells), self._cells[0].folds))
        if winners.winner is not None and winners.winner.method.side is Side.BLEND:
            assert self._weights is not None
            weights = self._weights[:, [self._parts.index(cell) for cell in cells]].T
        results = [self._outcomes[cell.id].result for cell in cells]
        model = chosen_model(winners, results, cells, weights, self._store)
        return TargetOutcome(outcomes, winners, model, curve)

    def drop_models(self, winners: Winners) -> None:
        """Free the room of all models that the winner does not need, and of what was derived for this run."""
        kept = {cell.id for cell in self._winning_cells(winners)}
        for cell in self._cells:
            if cell.id not in kept:
                self._store.drop_models(cell)
        shutil.rmtree(self._files.activations, ignore_errors=True)

    def _take(self, cell: Cell, piece: str, report: ScreenReport | FoldReport | Failure) -> None:
        if isinstance(report, Failure):
            self._progress.failed(cell, report.reason)
            if is_fold(piece) or piece == SCREENING:
                self._failed.setdefault(cell.id, report.reason)
            self._fits.lose(cell, piece)
        elif isinstance(report, ScreenReport):
            self._store.keep_screening(cell, report)
            self._screened[cell.id] = report
            self._progress.screened(cell, report.val_mae)
        else:
            self._fits.take(cell, piece, report)
            self._progress.fitted(cell, piece, report.val_mae)

    def _settle_heats(self) -> bool:
        """Once a heat is screened: the best of every method that goes on is fitted on its first fold."""
        fidelity = self._params.study.fidelity
        heats: dict[Hashable, list[Cell]] = {}
        for cell in self._cells:
            if cell.method.side is not Side.BLEND:
                heats.setdefault(heat_of(cell) if fidelity else category_of(cell), []).append(cell)
        for heat, cells in heats.items():
            if heat in self._heats or not all(c.id in self._screened or c.id in self._failed for c in cells):
                continue
            val_mae = {key: report.val_mae for key, report in self._screened.items()}
            best = list(best_of_method(cells, val_mae).values())
            going, stopped = after_screening(best, val_mae, fidelity)
            for cell in cells:
                if cell.id not in self._screened:
                    self._keep(failed_outcome(cell, self._failed[cell.id], self._inputs))
                elif cell not in going:
                    self._keep(self._halted(cell, stopped.get(cell.id)))
            methods = len({cell.method for cell in cells})
            self._progress.expect_fewer(cells[0].folds * (methods - len(going)))
            self._heats[heat] = going
            for cell in going:
                self._fits.want_folds(cell, self._best(cell), range(1 if fidelity else cell.folds))
        return len(self._heats) == len(heats)

    def _settle_races(self) -> bool:
        """Once all first folds are there: the survivors of every race get the others."""
        if self._going is not None:
            return True
        fidelity, going_on = (
            self._params.study.fidelity,
            {c.id for heat in self._heats.values() for c in heat},
        )
        racing = [cell for cell in self._cells if cell.id in going_on]
        if fidelity is None:
            self._going = racing
            return True
        first = fold_name(0)
        if not all(self._fits.settled(cell, first) for cell in racing):
            return False
        survivors: list[Cell] = []
        for race in dict.fromkeys(race_of(cell) for cell in racing):
            runners = [c for c in racing if race_of(c) == race and c.id not in self._failed]
            errors = {cell.id: self._fits.of(cell.id)[first].val_mae for cell in runners}
            going, stopped = after_first_fold(runners, errors, fidelity)
            survivors += going
            for cell in runners:
                if cell.id in stopped:
                    self._keep(self._halted(cell, stopped[cell.id], [self._fits.of(cell.id)[first]]))
                    self._progress.expect_fewer(cell.folds - 1)
        self._going = [cell for cell in racing if cell in survivors or cell.id in self._failed]
        self._progress.expect_fewer(sum(cell.folds - 1 for cell in racing if cell.id in self._failed))
        for cell in survivors:
            self._fits.want_folds(cell, self._best(cell), range(1, cell.folds))
        return True

    def _settle_folds(self) -> None:
        """Put together the cells whose folds are all there, or one of whose folds failed for good."""
        for cell in self._going or []:
            if cell.id in self._outcomes:
                continue
            screening, folds = self._screened[cell.id], self._fits.folds(cell)
            if cell.id in self._failed:
                self._keep(failed_outcome(cell, self._failed[cell.id], self._inputs, screening))
            elif folds is not None:
                self._outcomes[cell.id] = finished_outcome(cell, screening, folds, self._inputs)

    def _settle_blend(self) -> bool:
        """Once every other cell is settled: blend those that were cross-validated."""
        others = [cell for cell in self._cells if cell.method.side is not Side.BLEND]
        if not all(cell.id in self._outcomes for cell in others):
            return False
        learning = [cell for cell in others if cell.method.side is not Side.BASE]
        validated = [(c, f) for c in learning if (f := self._fits.folds(c)) and c.id not in self._failed]
        for cell in self._cells:
            if cell.method.side is not Side.BLEND or cell.id in self._outcomes:
                continue
            if len(validated) < 2:
                reason = f"{len(validated)} cell(s) were cross-validated; a blend needs two"
                self._keep(self._halted(cell, reason))
                self._progress.expect_fewer(1)
                continue
            self._parts = [part for part, _ in validated]
            folds, self._weights = blend_folds([fits for _, fits in validated], self._inputs.values)
            outcome = finished_outcome(cell, None, folds, self._inputs)
            mean = self._weights.mean(axis=0).round(3)
            shares: dict[str, Scalar] = {
                part.label: float(w) for part, w in zip(self._parts, mean, strict=True) if w > 0
            }
            self._outcomes[cell.id] = replace(outcome, result=replace(outcome.result, hyperparameters=shares))
            self._progress.blended(cell, float(np.mean([fold.val_mae for fold in folds])))
        return True

    def _refit(self) -> None:
        """Queue what only the chosen cells get: the strict refit, the learning curve, and missing models."""
        winners = self._winners()
        self._progress.expect_fewer(self._planned_refits)  # they are known by now, and counted one by one
        self._planned_refits = 0
        for result in filter(None, (winners.best_sc, winners.best_tl, winners.winner)):
            cell = self._by_id(result.cell)
            for share in refits_of(self._params.study, cell.target, result.method):
                self._fits.want_refit(cell, self._best(cell), result.best_fold or 0, share)
        for cell in self._winning_cells(winners):
            self._fits.want_models(cell, self._best(cell))

    def _winners(self) -> Winners:
        """Who is chosen among what is settled; of equals the earlier cell, whichever was finished first."""
        return choose_winners(self._outcomes[c.id].result for c in self._cells if c.id in self._outcomes)

    def _halted(self, cell: Cell, reason: str | None, race: Sequence[FoldReport] = ()) -> CellOutcome:
        screening = self._screened.get(cell.id)
        return screened_outcome(cell, screening, self._inputs, stopped=reason, race=race)

    def _keep(self, outcome: CellOutcome) -> None:
        """Settle a cell that no later choice can change, and record it at once."""
        self._outcomes[outcome.result.cell] = outcome
        self._record(outcome)

    def _winning_cells(self, winners: Winners) -> list[Cell]:
        """The cells whose fold models make up the winner."""
        if winners.winner is None:
            return []
        if winners.winner.method.side is not Side.BLEND:
            return [self._by_id(winners.winner.cell)]
        assert self._weights is not None
        return [self._parts[i] for i in np.flatnonzero(self._weights.sum(axis=0))]

    def _best(self, cell: Cell) -> Hyperparameters:
        return self._screened[cell.id].hyperparameters

    def _by_id(self, cell_id: str) -> Cell:
        return next(cell for cell in self._cells if cell.id == cell_id)
