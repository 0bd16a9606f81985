"""One target's cells as a state machine: screen, race, cross-validate, blend, choose, refit, hand over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from crossprop.config import Params
from crossprop.experiments.assemble import failed_outcome, finished_outcome, screened_outcome
from crossprop.experiments.blend import blend_folds
from crossprop.experiments.cells import Cell
from crossprop.experiments.chosen import ChosenModel, ModelPart, curve_table, with_strict
from crossprop.experiments.halving import Heat, after_first_fold, after_screening, heat_of, race_of
from crossprop.experiments.inputs import TargetFiles, TargetInputs
from crossprop.experiments.pool import Failure
from crossprop.experiments.progress import Progress
from crossprop.experiments.results import CellOutcome, Scalar
from crossprop.experiments.selection import Winners, best_of_method, choose_winners
from crossprop.experiments.store import CellStore
from crossprop.experiments.tasks import FoldReport, FoldTask, ScreenReport, ScreenTask
from crossprop.paths import StudyPaths
from crossprop.vocabulary import Family, Method, Protocol, Side

SCREENING = "screening"
Submit = Callable[[tuple[Cell, str], ScreenTask | FoldTask, float], None]
"""Takes (cell, piece), the task and its rough cost in seconds."""


@dataclass(frozen=True)
class TargetOutcome:
    """All cells of one target, in the order of enumeration, the chosen ones, and what goes with them.

    Attributes:
        outcomes: Every cell.
        winners: The chosen cells.
        model: What the winner's model is put together from; ``None`` where nobody won.
        curve: Learning curve; columns as in :data:`~crossprop.experiments.chosen.CURVE`.
    """

    outcomes: tuple[CellOutcome, ...]
    winners: Winners
    model: ChosenModel | None
    curve: pd.DataFrame


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
        self._record, self._progress, self._queue = record, progress, submit
        self._store = CellStore(paths)
        self._inputs = TargetInputs(files, cells[0].protocol)
        self._screened: dict[str, ScreenReport] = {}
        self._failed: dict[str, str] = {}
        self._fits: dict[str, dict[str, FoldReport]] = {cell.id: {} for cell in cells}
        self._wanted: set[tuple[str, str]] = set()
        self._heats: dict[Heat | Method, list[Cell]] = {}
        self._going: list[Cell] | None = None
        self._outcomes: dict[str, CellOutcome] = {}
        self._weights: np.ndarray | None = None
        self._parts: list[Cell] = []
        self._lost: set[tuple[str, str]] = set()

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
                self._queue((cell, SCREENING), task, self._cost(cell, screening=True) * max(cell.n_trials, 1))
        self.advance()

    def receive(self, cell: Cell, piece: str, report: ScreenReport | FoldReport | Failure) -> None:
        """Keep a finished piece and queue what it makes possible.

        Raises:
            StoreError: The piece cannot be written.
        """
        if isinstance(report, Failure):
            self._progress.failed(cell, report.reason)
            if _is_fold(piece) or piece == SCREENING:
                self._failed.setdefault(cell.id, report.reason)
            self._lost.add((cell.id, piece))
        elif isinstance(report, ScreenReport):
            self._store.keep_screening(cell, report)
            self._screened[cell.id] = report
            self._progress.screened(cell, report.val_mae)
        else:
            self._store.keep_fit(cell, piece, report)
            self._fits[cell.id][piece] = report
            self._progress.fitted(cell, piece, report.val_mae)
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
        settled = len(self._outcomes) == len(self._cells)
        return settled and all(self._has(key, piece) for key, piece in self._wanted)

    def conclude(self) -> TargetOutcome:
        """Record the validated cells and hand over; to be called once, when :attr:`finished`."""
        winners = choose_winners(o.result for o in self._outcomes.values())
        for chosen in {r.cell for r in (winners.best_sc, winners.best_tl, winners.winner) if r is not None}:
            cell = self._by_id(chosen)
            best = self._outcomes[chosen].result.best_fold
            strict = self._fits[chosen].get(_task(cell, (), best or 0, strict=True).piece)
            self._outcomes[chosen] = with_strict(self._outcomes[chosen], strict, self._inputs)
        outcomes = tuple(self._outcomes[cell.id] for cell in self._cells)
        winners = choose_winners(o.result for o in outcomes)
        for outcome in outcomes:
            if outcome.result.cv_mae is not None:
                self._record(outcome)
        curve = curve_table(winners, self._fits, self._inputs)
        return TargetOutcome(outcomes, winners, self._chosen_model(winners), curve)

    def drop_models(self, winners: Winners) -> None:
        """Free the room of all models that the winner does not need."""
        kept = {cell.id for cell in self._winning_cells(winners)}
        for cell in self._cells:
            if cell.id not in kept:
                self._store.drop_models(cell)

    def _settle_heats(self) -> bool:
        """Once a heat is screened: the best of every method that goes on is fitted on its first fold."""
        fidelity = self._params.study.fidelity
        heats: dict[Heat | Method, list[Cell]] = {}
        for cell in self._cells:
            if cell.method.side is not Side.BLEND:
                heats.setdefault(heat_of(cell) if fidelity else cell.method, []).append(cell)
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
                    reason = stopped.get(cell.id)
                    screening = self._screened[cell.id]
                    self._keep(screened_outcome(cell, screening, self._inputs, stopped=reason))
            methods = len({cell.method for cell in cells})
            self._progress.expect_fewer(cells[0].folds * (methods - len(going)))
            self._heats[heat] = going
            for cell in going:
                for fold in range(1 if fidelity else cell.folds):
                    self._fit(cell, fold)
        return len(self._heats) == len(heats)

    def _settle_races(self) -> bool:
        """Once all first folds are there: the survivors of every race get the others."""
        if self._going is not None:
            return True
        fidelity, racing = self._params.study.fidelity, [c for cells in self._heats.values() for c in cells]
        if fidelity is None:
            self._going = racing
            return True
        first = _task(racing[0], (), 0).piece if racing else ""
        if not all(self._has(cell.id, first) for cell in racing):
            return False
        survivors: list[Cell] = []
        for race in dict.fromkeys(race_of(cell) for cell in racing):
            runners = [c for c in racing if race_of(c) == race and c.id not in self._failed]
            errors = {cell.id: self._fits[cell.id][first].val_mae for cell in runners}
            going, stopped = after_first_fold(runners, errors, fidelity)
            survivors += going
            for cell in runners:
                if cell.id in stopped:
                    folds = [self._fits[cell.id][first]]
                    screening = self._screened[cell.id]
                    self._keep(
                        screened_outcome(cell, screening, self._inputs, stopped=stopped[cell.id], race=folds)
                    )
                    self._progress.expect_fewer(cell.folds - 1)
        self._going = [cell for cell in racing if cell in survivors or cell.id in self._failed]
        for cell in survivors:
            for fold in range(1, cell.folds):
                self._fit(cell, fold)
        return True

    def _settle_folds(self) -> None:
        """Put together the cells whose folds are all there, or one of whose folds failed for good."""
        for cell in self._going or []:
            if cell.id in self._outcomes:
                continue
            pieces = [_task(cell, (), fold).piece for fold in range(cell.folds)]
            if cell.id in self._failed:
                reason, screening = self._failed[cell.id], self._screened[cell.id]
                self._keep(failed_outcome(cell, reason, self._inputs, screening))
            elif all(piece in self._fits[cell.id] for piece in pieces):
                folds = [self._fits[cell.id][piece] for piece in pieces]
                self._outcomes[cell.id] = finished_outcome(cell, self._screened[cell.id], folds, self._inputs)

    def _settle_blend(self) -> bool:
        """Once every other cell is settled: blend those that were cross-validated."""
        others = [cell for cell in self._cells if cell.method.side is not Side.BLEND]
        if not all(cell.id in self._outcomes for cell in others):
            return False
        for cell in self._cells:
            if cell.method.side is not Side.BLEND or cell.id in self._outcomes:
                continue
            parts = [
                c
                for c in others
                if c.method.side is not Side.BASE and self._outcomes[c.id].result.cv_mae is not None
            ]
            if len(parts) < 2:
                reason = f"{len(parts)} cell(s) were cross-validated; a blend needs two"
                self._keep(screened_outcome(cell, None, self._inputs, stopped=reason))
                self._progress.expect_fewer(1)
                continue
            fits = [[self._fits[p.id][_task(p, (), k).piece] for k in range(p.folds)] for p in parts]
            folds, self._weights = blend_folds(fits, self._inputs.values)
            self._parts = parts
            outcome = finished_outcome(cell, None, folds, self._inputs)
            mean = self._weights.mean(axis=0).round(3)
            shares: dict[str, Scalar] = {p.label: float(w) for p, w in zip(parts, mean, strict=True) if w > 0}
            self._outcomes[cell.id] = replace(outcome, result=replace(outcome.result, hyperparameters=shares))
            self._progress.blended(cell, float(np.mean([fold.val_mae for fold in folds])))
        return True

    def _refit(self) -> None:
        """Queue what only the chosen cells get: the strict refit, the learning curve, and missing models."""
        study = self._params.study
        winners = choose_winners(o.result for o in self._outcomes.values())
        curve = study.learning_curve
        shares = curve.shares if curve is not None and self._cells[0].target in curve.targets else ()
        for result in (winners.best_sc, winners.best_tl, winners.winner):
            if result is None or result.method.side in (Side.BASE, Side.BLEND):
                continue
            cell, best = self._by_id(result.cell), result.best_fold or 0
            if study.protocol is Protocol.PUBLISHED:
                self._fit(cell, best, strict=True)
            if not result.method.ours:
                for share in shares:
                    self._fit(cell, best, share=share)
        for cell in self._winning_cells(winners):
            for fold in range(cell.folds):
                if self._store.model(cell, _task(cell, (), fold).piece) is None:
                    self._fit(cell, fold, again=True)

    def _fit(
        self, cell: Cell, fold: int, *, strict: bool = False, share: float | None = None, again: bool = False
    ) -> None:
        best = tuple(sorted(self._screened[cell.id].hyperparameters.items()))
        task = _task(cell, best, fold, strict=strict, share=share, files=self._files)
        key = (cell.id, task.piece)
        if again:
            if (cell.id, f"{task.piece} again") in self._wanted:
                return
            self._wanted.add((cell.id, f"{task.piece} again"))
            self._progress.expect_more()
        elif key in self._wanted:
            return
        else:
            self._wanted.add(key)
            if not _is_fold(task.piece):
                self._progress.expect_more()
            stored = self._store.fit(cell, task.piece)
            if stored is not None:
                self._fits[cell.id][task.piece] = stored
                self._progress.found()
                return
        plain = _is_fold(task.piece)
        folder = self._store.model_draft(cell, task.piece) if plain else None
        task = replace(task, folder=folder, always_save=again)
        self._queue((cell, task.piece), task, self._cost(cell) * (share or 1.0))

    def _has(self, cell_id: str, piece: str) -> bool:
        if piece.endswith(" again"):
            plain = piece.removesuffix(" again")
            return (
                self._store.model(self._by_id(cell_id), plain) is not None or (cell_id, plain) in self._lost
            )
        return piece in self._fits[cell_id] or (cell_id, piece) in self._lost

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
        used = np.flatnonzero(self._weights.sum(axis=0))
        return [self._parts[i] for i in used]

    def _chosen_model(self, winners: Winners) -> ChosenModel | None:
        if winners.winner is None:
            return None
        cells = self._winning_cells(winners)
        weights = np.ones((cells[0].folds, 1))
        if winners.winner.method.side is Side.BLEND:
            assert self._weights is not None
            weights = self._weights[:, [self._parts.index(cell) for cell in cells]]
        parts = tuple(
            ModelPart(
                self._outcomes[cell.id].result,
                tuple(float(w) for w in column),
                tuple(self._store.model(cell, _task(cell, (), fold).piece) for fold in range(cell.folds)),
            )
            for cell, column in zip(cells, weights.T, strict=True)
        )
        return ChosenModel(winners.winner, parts)

    def _by_id(self, cell_id: str) -> Cell:
        return next(cell for cell in self._cells if cell.id == cell_id)

    def _cost(self, cell: Cell, screening: bool = False) -> float:
        """Rough seconds of one fit, to start the long ones first."""
        rows = len(self._inputs.train)
        if screening and cell.screening_rows is not None:
            rows = min(rows, cell.screening_rows)
        if cell.method.family is Family.NETWORK and cell.recipe is not None:
            return cell.recipe.epochs * rows / 4000 + 5
        return rows / 1000 + 0.2 if cell.method.family is Family.REGRESSOR else 0.1


def _task(
    cell: Cell,
    hyperparameters: tuple[tuple[str, object], ...],
    fold: int,
    *,
    strict: bool = False,
    share: float | None = None,
    files: TargetFiles | None = None,
) -> FoldTask:
    return FoldTask(cell, files, hyperparameters, fold, strict=strict, share=share)  # type: ignore[arg-type]


def _is_fold(piece: str) -> bool:
    return piece.startswith("fold_") and "." not in piece
