"""A target whose pieces are made up: the state machine runs, and nothing is fitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from made_cells import make_fold, make_screening

from crossprop.config import Params
from crossprop.experiments.executor import Failure
from crossprop.experiments.grid import Cell, enumerate_cells
from crossprop.experiments.inputs import TargetFiles, TargetInputs
from crossprop.experiments.progress import Progress
from crossprop.experiments.results import CellOutcome, CellResult
from crossprop.experiments.scheduler import TargetRun
from crossprop.experiments.targets import _pieces
from crossprop.experiments.tasks import FoldReport, FoldTask, ScreenTask, TogetherTask
from crossprop.experiments.winners import TargetOutcome
from crossprop.methods import Family
from crossprop.models.fitted import FittedModel
from crossprop.paths import StudyPaths

Asked = tuple[Cell, str]


class Rehearsal:
    """One target with fabricated pieces.

    ``errors`` holds by the cell's label its screening MAE and the shift of its predictions in every fold; both count
    1.0 where nothing is said. A piece named in ``failing`` by its label and name fails.
    """

    def __init__(self, params: Params, root: Path, errors: dict[str, Any] | None = None) -> None:
        self.params = params
        self.paths = StudyPaths.of(params.study, root)
        self.errors = errors or {}
        self.failing: set[tuple[str, str]] = set()
        self.asked: list[tuple[Asked, ScreenTask | FoldTask | TogetherTask]] = []
        self.log: list[str] = []
        self.recorded: list[CellOutcome] = []
        self.lines: list[str] = []
        target = params.study.targets[0]
        sources = [*params.study.sources, *params.study.joint]
        self.cells = enumerate_cells(params, target, "%", "d", {source: source for source in sources})
        self.files = TargetFiles(
            self.paths.prepared(target), self.paths.features(target), (), self.paths.activations(target)
        )
        self.inputs = TargetInputs(self.files, params.study.protocol)
        self.progress = Progress("tiny", _pieces(params, target, self.cells), self.lines.append)
        self.run = TargetRun(
            params, self.cells, self.files, self.paths, self.recorded.append, self.progress, self._submit
        )

    def start(self) -> Rehearsal:
        """Begin; what is asked for waits."""
        self.run.start()
        self.progress.begin()
        return self

    def answer(self, pieces: int | None = None) -> Rehearsal:
        """Finish so many of the pieces that were asked for, in their order; all of them unless told."""
        while self.asked and pieces != 0:
            (cell, name), task = self.asked.pop(0)
            self.run.receive(cell, name, self._report(cell, name, task))
            pieces = None if pieces is None else pieces - 1
        return self

    def finish(self) -> TargetOutcome:
        """From the beginning to the end."""
        self.start().answer()
        assert self.run.finished
        return self.run.conclude()

    def waiting(self) -> list[str]:
        """The pieces that are asked for, as ``label piece``."""
        return [f"{cell.label} {name}" for (cell, name), _ in self.asked]

    def _submit(self, key: Asked, task: ScreenTask | FoldTask | TogetherTask, cost: float) -> None:
        assert cost > 0
        self.asked.append((key, task))
        self.log.append(f"{key[0].label} {key[1]}")

    def _report(self, cell: Cell, name: str, task: Any) -> Any:
        if isinstance(task, TogetherTask):
            return tuple(self._report(cell, part.piece, part) for part in task.tasks)
        if (cell.label, name) in self.failing:
            return Failure(f"DivergedError: {name} of {cell.label}")
        screened, *shifts = self.errors.get(cell.label, [1.0])
        if isinstance(task, ScreenTask):
            return make_screening(screened, learning_rate=0.001)
        return self._fit(cell, task, shifts)

    def _fit(self, cell: Cell, task: FoldTask, shifts: list[float]) -> FoldReport:
        train, rows = self.inputs.folds(cell.folds, cell.seed)[task.fold]
        shift = shifts[task.fold] if shifts else 1.0
        n_train = round(len(train) * (task.share or 1.0)) - task.strict
        # a fit on fewer rows is worse on the hold-out
        worse = shift * (1 + task.strict + (1 - (task.share or 1.0)))
        saved = task.always_save or cell.method.family is Family.NETWORK
        if task.folder is not None and saved:
            FittedModel("base", float(task.fold)).save(task.folder)
        values = self.inputs.values
        fold = make_fold(
            rows, values[rows] + shift, np.asarray(values[self.inputs.test] + worse), values, n_train
        )
        return replace(fold, seconds=fold.seconds + 8.0 * task.always_save)  # the machine is slower by then


def results_of(outcome: TargetOutcome, cells: list[Cell]) -> dict[str, CellResult]:
    """The result of every cell by the cell's label."""
    labels = {cell.id: cell.label for cell in cells}
    return {labels[o.result.cell]: o.result for o in outcome.outcomes}


def folds_of(made: Rehearsal) -> dict[str, int]:
    """How many whole folds of every cell were asked for, by the cell's label."""
    labels = [line.split()[0] for line in made.log if line[-7:-2] == "fold_"]
    return {label: labels.count(label) for label in dict.fromkeys(labels)}
