"""One target's cells as a state machine: screen, prune, cross-validate, blend, choose, refit."""

import shutil
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from crossprop.config import Fidelity, Params
from crossprop.experiments.assemble import finished_outcome, outcome_of
from crossprop.experiments.blend import blend_folds
from crossprop.experiments.cache import SCREENING, CellStore
from crossprop.experiments.executor import Failure
from crossprop.experiments.grid import Cell, fold_name
from crossprop.experiments.inputs import TargetFiles, TargetInputs
from crossprop.experiments.progress import Progress
from crossprop.experiments.results import CellOutcome
from crossprop.experiments.selection import Winners, best_of, category_of, choose_winners, going_on
from crossprop.experiments.tasks import FoldReport, FoldTask, ScreenReport, ScreenTask
from crossprop.experiments.winners import (
    ModelPart,
    TargetOutcome,
    curve_table,
    planned_refits,
    refits_of,
    with_refits,
)
from crossprop.methods import Family, Method, Side
from crossprop.paths import StudyPaths

Result = ScreenReport | FoldReport | Failure | None
"""Of a task that was asked for; ``None`` while it is not finished."""

PLAIN_FIRST = 1e5  # seconds by which the plain models come before the other tasks of their target
PLAIN_MEMBER_ROWS = 5_000  # most training rows with which the plain median is a member of the blend
AGAIN = " again"  # marks the fit of a fold whose figures are known, for the sake of its model


class TargetRun:
    """The state of one target's grid while an executor computes it, among other targets.

    All that happens follows from the results of the tasks: :meth:`advance` goes through the protocol from its
    beginning and asks for every task that it meets, each once. ``record`` is called once with every cell, at its end.
    """

    def __init__(
        self,
        params: Params,
        cells: list[Cell],
        files: TargetFiles,
        paths: StudyPaths,
        record: Callable[[CellOutcome], None],
        progress: Progress,
        submit: Callable[[ScreenTask | FoldTask, float], None],
    ) -> None:
        self._params, self._cells, self._files, self._paths = params, cells, files, paths
        self._record, self._progress, self._submit = record, progress, submit
        self._store = CellStore(paths)
        self._inputs = TargetInputs(files, cells[0].protocol)
        self._by_id = {cell.id: cell for cell in cells}
        plain = {cell.method: cell for cell in cells if cell.method.side is Side.PLAIN}
        self._median, self._baseline = plain.get(Method.PLAIN_MEDIAN), plain.get(Method.PLAIN_BASELINE)
        self._results: dict[tuple[str, str], Result] = {}
        self._outcomes: dict[str, CellOutcome] = {}
        # weights of the parts of the blend by cell, each of shape (n_folds,)
        self._blended: dict[str, np.ndarray] = {}

    def receive(self, task: ScreenTask | FoldTask, report: ScreenReport | FoldReport | Failure) -> None:
        """Keep a finished task and queue what that makes possible."""
        cell, beside = task.cell, self._baseline
        waits = beside is not None and self._results.get((beside.id, task.name), task) is None
        if beside is not None and waits and self._median is not None and cell.id == self._median.id:
            # a fold of the plain baseline comes, or fails, together with that of the plain median
            found = report.baseline if isinstance(report, FoldReport) else report
            if isinstance(found, FoldReport):
                self._keep_fold(beside, task.name, found)
            self._results[beside.id, task.name] = found
        if isinstance(report, Failure):
            self._progress.step(cell, f"FAILED {cell.label}: {report.reason}")
        elif isinstance(report, ScreenReport):
            self._store.keep(cell, SCREENING, report)
            self._progress.step(cell, f"screened {cell.label}", report.val_mae)
        else:
            first = self._results.get((cell.id, task.name))
            if isinstance(first, FoldReport):  # what a fold cost is what its first fit cost
                report = replace(report, seconds=first.seconds, peak_memory=first.peak_memory)
            self._keep_fold(cell, task.name, report)
        self._results[_key(task)] = report
        self.advance()

    def _keep_fold(self, cell: Cell, name: str, report: FoldReport) -> None:
        self._store.keep(cell, name, report)
        self._progress.step(cell, f"{name} of {cell.label}", report.val_mae)

    def advance(self) -> None:
        """Go through the protocol as far as the finished tasks allow: at the start, those that are stored."""
        study = self._params.study
        learning = [cell for cell in self._cells if cell.method.side is not Side.BLEND]
        for cell in (self._median, self._baseline):
            if cell is not None:
                self._cross_validate(cell)
        tuned = [cell for cell in learning if cell.method.side is not Side.PLAIN]
        n_folds = self._cells[0].folds
        n_first = 1 if study.fidelity else n_folds
        remaining: list[Cell] = []
        expected = 0  # tasks that may be asked for later
        for bracket in _grouped(tuned, _bracket if study.fidelity else category_of):
            journal = self._paths.journal(bracket[0].target)
            if None in [self._want(ScreenTask(cell, self._files, journal)) for cell in bracket]:
                expected += n_folds * len({cell.method for cell in bracket})
                continue
            going = self._after_screening(bracket)
            for cell in going:
                self._folds(cell, range(n_first))
            remaining += going
        if study.fidelity:
            complete = not expected and None not in [self._result(cell, fold_name(0)) for cell in remaining]
            expected += 0 if complete else (n_folds - 1) * len(remaining)
            remaining = self._after_first_fold(remaining, study.fidelity) if complete else []
        for cell in remaining:
            self._cross_validate(cell)
        target = self._cells[0].target
        expected += len(self._cells) - len(learning) + planned_refits(study, target)
        self._progress.expect(target, len(self._results) + expected)
        if all(cell.id in self._outcomes for cell in learning):
            self._blend(learning)
            self._refit()
            self._progress.expect(target, len(self._results) + bool(self._blended))

    @property
    def finished(self) -> bool:
        """Whether nothing is left to compute."""
        return len(self._outcomes) == len(self._cells) and None not in self._results.values()

    def conclude(self) -> TargetOutcome:
        """Record the validated cells and choose the winners; to be called once, when :attr:`finished`."""
        for chosen in _chosen(self._winners()):
            fold = fold_name(self._best_fold(chosen))
            refits = {
                name: report
                for (cell, name), report in self._results.items()
                if cell == chosen and name.startswith(f"{fold}.") and isinstance(report, FoldReport)
            }
            self._outcomes[chosen] = with_refits(self._outcomes[chosen], refits, self._inputs)
        outcomes = tuple(self._outcomes[cell.id] for cell in self._cells)
        winners = self._winners()
        for outcome in outcomes:
            if outcome.result.cv_mae is not None:
                self._record(outcome)
        fits = {key: report for key, report in self._results.items() if isinstance(report, FoldReport)}
        blend = winners.winner is not None and winners.winner.method.side is Side.BLEND
        parts = tuple(
            ModelPart(
                self._outcomes[cell.id].result,
                tuple(self._blended[cell.id].tolist()) if blend else (1.0,) * cell.folds,
                tuple(self._store.model(cell, fold_name(k)) for k in range(cell.folds)),
            )
            for cell in self._winning_cells(winners)
        )
        return TargetOutcome(outcomes, winners, parts, curve_table(winners, fits, self._inputs))

    def drop_models(self, winners: Winners) -> None:
        """Free the disk space of all models that the winner does not need, and of derived matrices."""
        kept = {cell.id for cell in self._winning_cells(winners)}
        for cell in self._cells:
            if cell.id not in kept:
                self._store.drop_models(cell)
        shutil.rmtree(self._files.activations, ignore_errors=True)

    def _after_screening(self, bracket: Sequence[Cell]) -> list[Cell]:
        """The best cells of a screened bracket; the others are settled."""
        fidelity = self._params.study.fidelity
        reports = {cell.id: self._result(cell, SCREENING) for cell in bracket}
        val_mae = {key: report.val_mae for key, report in reports.items() if isinstance(report, ScreenReport)}
        best = list(best_of(bracket, val_mae, lambda cell: cell.method))
        places = fidelity.after_screening if fidelity else len(best)
        going, stopped = going_on(best, val_mae, "after screening", places)
        if fidelity:
            going += [cell for cell in best_of(bracket, val_mae, self._column) if cell not in going]
        for cell in bracket:
            if isinstance(failure := reports[cell.id], Failure):
                self._settle(cell, failure)
            elif cell not in going:
                self._settle(cell, stopped.get(cell.id))
        return going

    def _after_first_fold(self, remaining: Sequence[Cell], fidelity: Fidelity) -> list[Cell]:
        """The cells that get the other folds; the others are settled."""
        survivors: list[Cell] = []
        for bracket in _grouped(remaining, lambda cell: (cell.method.side, cell.method.extension)):
            first: dict[str, FoldReport] = {}
            for cell in bracket:
                report = self._result(cell, fold_name(0))
                if isinstance(report, FoldReport):
                    first[cell.id] = report
                elif isinstance(report, Failure):
                    self._settle(cell, report)
            runners = [cell for cell in bracket if cell.id in first]
            errors = {key: report.val_mae for key, report in first.items()}
            when = f"after fold 1 of {bracket[0].folds}"
            going, stopped = going_on(runners, errors, when, fidelity.after_first_fold, fidelity.margin)
            going += best_of(runners, errors, self._column)
            for cell in runners:
                if cell not in going:
                    self._settle(cell, stopped[cell.id], [first[cell.id]])
            survivors += going
        return [cell for cell in remaining if cell in survivors]

    def _column(self, cell: Cell) -> Hashable:
        """Column of the paper's Tables 2 to 5: scratch by representation, transfer from the first source or another.

        Pruning leaves the best cell of every column. The extension methods are one column.
        """
        if cell.method.extension:
            return None
        scratch = cell.method.side is Side.SCRATCH
        return cell.representation if scratch else cell.source in self._params.study.sources[:1]

    def _cross_validate(self, cell: Cell) -> None:
        """Ask for all folds of a cell, and settle it once they are there or one of them failed for good."""
        folds = self._folds(cell, range(cell.folds))
        if cell.id in self._outcomes:
            return
        failures = [report for report in folds if isinstance(report, Failure)]
        if failures:
            self._settle(cell, failures[0])
        elif None not in folds:
            done = [report for report in folds if isinstance(report, FoldReport)]
            self._outcomes[cell.id] = finished_outcome(cell, self._screened(cell), done, self._inputs)

    def _blend(self, learning: Sequence[Cell]) -> None:
        """Blend the cells that were cross-validated; the base and the plain baseline are there for comparison only.

        On many rows the plain median is, too: its 300 full trees a fold would make the blend slow and large.
        """
        compared = [Method.BASE, Method.PLAIN_BASELINE]
        if len(self._inputs.train) > PLAIN_MEMBER_ROWS:
            compared.append(Method.PLAIN_MEDIAN)
        validated = [
            cell
            for cell in learning
            if cell.method not in compared and self._outcomes[cell.id].result.cv_mae is not None
        ]
        simple = next((i for i, cell in enumerate(validated) if cell.method is Method.PLAIN_MEDIAN), None)
        for blend in self._cells:
            if blend.method.side is not Side.BLEND or blend.id in self._outcomes:
                continue
            if len(validated) < 2:
                self._settle(blend, f"{len(validated)} cell(s) were cross-validated; a blend needs two")
                continue
            parts = [
                [report for report in self._folds(cell, range(cell.folds)) if isinstance(report, FoldReport)]
                for cell in validated
            ]
            folds, weights = blend_folds(parts, self._inputs.values, self._inputs.together, simple)
            self._blended = {cell.id: column for cell, column in zip(validated, weights.T, strict=True)}
            means = {cell.label: round(float(self._blended[cell.id].mean()), 3) for cell in validated}
            outcome = finished_outcome(blend, None, folds, self._inputs)
            result = replace(outcome.result, hyperparameters={k: w for k, w in means.items() if w > 0})
            self._outcomes[blend.id] = replace(outcome, result=result)
            self._progress.step(blend, blend.label, float(np.mean([fold.val_mae for fold in folds])))

    def _refit(self) -> None:
        """Ask for what only the chosen cells get: the strict refit, the learning curve, and missing models."""
        winners = self._winners()
        for chosen in _chosen(winners):
            cell = self._by_id[chosen]
            for share in refits_of(self._params.study, cell.target, cell.method):
                if share is None and not self._inputs.repeated[self._inputs.train].any():
                    continue  # the strict one would be the same
                plain = self._fold_task(cell, self._best_fold(chosen))
                self._want(replace(plain, folder=None, strict=share is None, share=share))
        for cell in self._winning_cells(winners):
            for k in range(cell.folds):
                task = replace(self._fold_task(cell, k), always_save=True)
                if self._store.model(cell, task.name) is None:
                    self._want(task)

    def _folds(self, cell: Cell, folds: range) -> list[Result]:
        return [self._want(self._fold_task(cell, k)) for k in folds]

    def _fold_task(self, cell: Cell, fold: int) -> FoldTask:
        screening = self._screened(cell)
        chosen = screening.hyperparameters if screening else {}
        return FoldTask(cell, self._files, chosen, fold, self._store.model_draft(cell, fold_name(fold)))

    def _want(self, task: ScreenTask | FoldTask) -> Result:
        """Look a task up in the store, or queue it, unless it was asked for before; its result, if there is one."""
        key = _key(task)
        if key in self._results:
            return self._results[key]
        kind: type[Any] = ScreenReport if isinstance(task, ScreenTask) else FoldReport
        self._results[key] = self._store.find(task.cell, task.name, kind) if key[1] == task.name else None
        median = self._median if task.cell is self._baseline and key[1] == task.name else None
        if self._results[key] is not None:
            self._progress.found()
        elif median is None or self._results.get((median.id, task.name), task) is not None:
            self._submit(task, self._cost(task))
        return self._results[key]

    def _result(self, cell: Cell, name: str) -> Result:
        return self._results.get((cell.id, name))

    def _screened(self, cell: Cell) -> ScreenReport | None:
        """What the screening of a cell found; nothing for a plain model."""
        found = self._result(cell, SCREENING)
        return found if isinstance(found, ScreenReport) else None

    def _cost(self, task: ScreenTask | FoldTask) -> float:
        """Rough seconds of a task, to start the long ones first."""
        cell, rows = task.cell, len(self._inputs.train)
        fits = 1.0
        if cell.method.side is Side.PLAIN:
            return PLAIN_FIRST + rows
        if isinstance(task, ScreenTask):
            rows = min(rows, cell.screening_rows or rows)
            fits = max(cell.n_trials, 1)
        elif task.share is not None:
            fits = task.share
        if cell.recipe is not None:
            return fits * (cell.recipe.epochs * rows / 4000 + 5)
        return fits * (rows / 1000 + 0.2 if cell.method.family is Family.REGRESSOR else 0.1)

    def _settle(self, cell: Cell, reason: Failure | str | None, folds: Sequence[FoldReport] = ()) -> None:
        """Record a cell that failed or was stopped: no later choice can change it."""
        if cell.id in self._outcomes:
            return
        ended = {"failure": reason.reason} if isinstance(reason, Failure) else {"stopped": reason}
        measured = {**ended, "rung_mae": tuple(fold.val_mae for fold in folds) or None}
        outcome = outcome_of(cell, self._screened(cell), folds, self._inputs, measured)
        self._outcomes[cell.id] = outcome
        self._record(outcome)

    def _winners(self) -> Winners:
        """The winners among the settled cells; of equals the earlier cell, whichever was finished first."""
        return choose_winners(self._outcomes[c.id].result for c in self._cells if c.id in self._outcomes)

    def _winning_cells(self, winners: Winners) -> list[Cell]:
        """The cells whose fold models make up the winner."""
        if winners.winner is None:
            return []
        if winners.winner.method.side is not Side.BLEND:
            return [self._by_id[winners.winner.cell]]
        return [self._by_id[cell_id] for cell_id, weights in self._blended.items() if weights.sum() > 0]

    def _best_fold(self, cell_id: str) -> int:
        return self._outcomes[cell_id].result.best_fold or 0


def _chosen(winners: Winners) -> list[str]:
    """Ids of the chosen cells, each once."""
    chosen = (winners.best_sc, winners.best_tl, winners.winner)
    return list(dict.fromkeys(result.cell for result in chosen if result is not None))


def _bracket(cell: Cell) -> Hashable:
    """Cells with the same one are compared after the screening; after the first fold the families are, too."""
    return cell.method.side, cell.method.family, cell.method.extension


def _key(task: ScreenTask | FoldTask) -> tuple[str, str]:
    again = isinstance(task, FoldTask) and task.always_save
    return task.cell.id, task.name + (AGAIN if again else "")


def _grouped(cells: Iterable[Cell], key: Callable[[Cell], Hashable]) -> list[list[Cell]]:
    """Cells with the same key together, in the order of their first one."""
    groups: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return list(groups.values())
