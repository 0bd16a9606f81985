"""Hand-made cells, results and executors, and a target whose tasks are made up: nothing is fitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.config import Params
from crossprop.experiments.executor import Executor, Failure
from crossprop.experiments.grid import Cell, enumerate_cells
from crossprop.experiments.inputs import TargetFiles, TargetInputs
from crossprop.experiments.progress import Progress
from crossprop.experiments.results import CellOutcome, CellResult
from crossprop.experiments.scheduler import TargetRun
from crossprop.experiments.tasks import FoldReport, FoldTask, ScreenReport, ScreenTask
from crossprop.experiments.winners import TargetOutcome
from crossprop.methods import Family, Method, Representation
from crossprop.models.fitted import FittedModel
from crossprop.paths import StudyPaths

HISTORY = pd.DataFrame({"epoch": [1], "loss": [0.5], "val_mae": [2.0]})


def make_cell(method: Method | str, name: str = "", **fields: Any) -> Cell:
    """A cell of a target in five folds; its id is its method and the name."""
    given: dict[str, Any] = {
        "id": f"{method}{name}", "study": "tiny", "protocol": "published", "target": "slme", "unit": "%",
        "source": None, "method": Method(method), "representation": None, "seed": 1, "n_trials": 1,
        "seconds": 1.0, "folds": 5, "recipe": None, "space": None,
    }  # fmt: skip
    if "representation" in fields:
        fields["representation"] = Representation(fields["representation"])
    return Cell(**(given | fields))


def make_screening(val_mae: float, **hyperparameters: Any) -> ScreenReport:
    """What the screening of a cell found."""
    trial = {"number": 0, "state": "COMPLETE", "value": val_mae, "seconds": 0.1}
    trials = pd.DataFrame([trial | {f"params_{name}": value for name, value in hyperparameters.items()}])
    return ScreenReport(hyperparameters, val_mae, trials, HISTORY, 1.0, 10)


def make_fold(rows: Any, val_pred: Any, test_pred: Any, values: Any, n_train: int = 9) -> FoldReport:
    """A fold with these predictions, all of them arrays; ``values`` are those of all rows."""
    error = float(np.abs(val_pred - values[rows]).mean())
    return FoldReport(error, rows, val_pred, test_pred, HISTORY, 0.5, 20, n_train)


def files_of(root: Path, *networks: tuple[str, Path]) -> TargetFiles:
    """Where the inputs of the tiny study's target are stored."""
    paths = StudyPaths("tiny", root)
    return TargetFiles(paths.prepared("slme"), paths.features("slme"), networks, paths.activations("slme"))


def flips(path: Path, times: int = 10) -> Iterator[None]:
    """Flip one bit of a file at so many places, one after the other; the file is whole again afterwards."""
    original = path.read_bytes()
    for place in np.linspace(0, len(original) - 1, times).astype(int):
        path.write_bytes(original[:place] + bytes([original[place] ^ 1]) + original[place + 1 :])
        yield
    path.write_bytes(original)


class Idle(Executor):
    """Does nothing but note what it is asked for."""

    asked: list[tuple[str, str, float]] = []  # noqa: RUF012

    def submit(self, task: Any, cost: float = 0.0) -> None:
        self.asked.append((task.cell.target, task.name, cost))

    def results(self) -> Iterator[tuple[Any, Any]]:
        return iter(())


class Rehearsal:
    """One target with made-up results.

    ``errors`` holds by the cell's label its screening MAE and the shift of its predictions in every fold; both are
    1.0 where nothing is said. A task named in ``failing`` by the cell's label and its name fails.
    """

    def __init__(self, params: Params, root: Path, errors: dict[str, Any] | None = None) -> None:
        self.params = params
        self.paths = StudyPaths.of(params.study, root)
        self.errors = errors or {}
        self.failing: set[tuple[str, str]] = set()
        self.asked: list[ScreenTask | FoldTask] = []
        self.log: list[str] = []
        self.recorded: list[CellOutcome] = []
        self.lines: list[str] = []
        sources = [*params.study.sources, *params.study.joint]
        target = params.study.targets[0]
        self.cells = enumerate_cells(params, target, "%", "d", {source: source for source in sources})
        self.files = files_of(root)
        self.inputs = TargetInputs(self.files, params.study.protocol)
        self.progress = Progress("tiny", self.lines.append)
        given = (params, self.cells, self.files, self.paths, self.recorded.append)
        self.run = TargetRun(*given, self.progress, self._submit)
        self.run._inputs.repeated = np.ones(len(self.inputs.frame), bool)  # as if the hold-out had all compositions

    def start(self) -> Rehearsal:
        """Begin; what is asked for waits."""
        self.run.advance()
        self.progress.begin()
        return self

    def answer(self, tasks: int | None = None) -> Rehearsal:
        """Finish so many of the tasks that were asked for, in their order; all of them unless told."""
        while self.asked and tasks != 0:
            task = self.asked.pop(0)
            self.run.receive(task, self._report(task))
            tasks = None if tasks is None else tasks - 1
        return self

    def finish(self) -> TargetOutcome:
        """From the beginning to the end."""
        self.start().answer()
        assert self.run.finished
        return self.run.conclude()

    def waiting(self) -> list[str]:
        """The tasks that are asked for, as ``label name``."""
        return [f"{task.cell.label} {task.name}" for task in self.asked]

    def folds(self) -> dict[str, int]:
        """How many whole folds of every cell were asked for, by the cell's label."""
        labels = [line.split()[0] for line in self.log if line[-7:-2] == "fold_"]
        return {label: labels.count(label) for label in dict.fromkeys(labels)}

    def kept_models(self) -> set[str]:
        """The cells of which a model is stored."""
        return {path.parents[1].name for path in self.paths.root.glob(".crossprop/cells/*/*/fold_*/model")}

    def results(self, outcome: TargetOutcome) -> dict[str, CellResult]:
        """The result of every cell by the cell's label."""
        labels = {cell.id: cell.label for cell in self.cells}
        return {labels[o.result.cell]: o.result for o in outcome.outcomes}

    def _submit(self, task: ScreenTask | FoldTask, cost: float) -> None:
        assert cost > 0
        self.asked.append(task)
        self.log.append(f"{task.cell.label} {task.name}")

    def _report(self, task: ScreenTask | FoldTask) -> ScreenReport | FoldReport | Failure:
        label = task.cell.label
        if (label, task.name) in self.failing:
            return Failure(f"DivergedError: {task.name} of {label}")
        screened, *shifts = self.errors.get(label, [1.0])
        if isinstance(task, ScreenTask):
            return make_screening(screened, learning_rate=0.001)
        return self._fit(task, shifts)

    def _fit(self, task: FoldTask, shifts: list[float]) -> FoldReport:
        cell = task.cell
        train, rows = self.inputs.folds(cell.folds, cell.seed)[task.fold]
        shift = shifts[task.fold] if shifts else 1.0
        n_train = round(len(train) * (task.share or 1.0)) - task.strict
        # a fit on fewer rows is worse on the hold-out
        worse = shift * (1 + task.strict + (1 - (task.share or 1.0)))
        saved = task.always_save or cell.method.family is Family.NETWORK
        if task.folder is not None and saved:
            FittedModel("base", float(task.fold)).save(task.folder)
        values = self.inputs.values
        held_out = np.asarray(values[self.inputs.test])
        fold = make_fold(rows, values[rows] + shift, held_out + worse, values, n_train)
        return replace(fold, seconds=fold.seconds + 8.0 * task.always_save)  # the machine is slower by then
