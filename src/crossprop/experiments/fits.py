"""The fits of one target: which are wanted, stored, under way or lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from crossprop.experiments.cells import Cell
from crossprop.experiments.inputs import TargetFiles
from crossprop.experiments.pieces import FoldReport, FoldTask, ScreenTask
from crossprop.experiments.progress import Progress
from crossprop.experiments.store import CellStore
from crossprop.experiments.together import TogetherTask
from crossprop.training.batched import worth_batching
from crossprop.tuning.search_spaces import Hyperparameters
from crossprop.vocabulary import Family

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


def fold_name(fold: int) -> str:
    """Name of the piece that is a whole fold."""
    return f"fold_{fold:02d}"


def is_fold(piece: str) -> bool:
    """Whether a piece is a whole fold, as the cross-validation needs it."""
    return piece.startswith("fold_") and "." not in piece
