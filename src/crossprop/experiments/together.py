"""The folds of one cell as one piece of work: trained together as one batched network."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from crossprop.errors import DivergedError
from crossprop.experiments.inputs import target_inputs
from crossprop.experiments.pieces import FoldReport, FoldTask, ScreenReport, ScreenTask
from crossprop.experiments.pool import Failure
from crossprop.experiments.tasks import fold_report, fold_rows, network_job, run_task
from crossprop.training.batched import fit_together


@dataclass(frozen=True)
class TogetherTask:
    """Several folds of one cell of a network."""

    tasks: tuple[FoldTask, ...]


TogetherReport = tuple[FoldReport | Failure, ...]
"""What became of every fold."""


def run_work(
    work: ScreenTask | FoldTask | TogetherTask,
) -> ScreenReport | FoldReport | TogetherReport:
    """Do one piece of work in this process."""
    return fit_folds(work) if isinstance(work, TogetherTask) else run_task(work)


def fit_folds(work: TogetherTask) -> TogetherReport:
    """Fit folds together; one that diverges does not hold up the others.

    Returns:
        In the order of the tasks what :func:`~crossprop.experiments.tasks.fit_fold` would have reported, each with an
        even share of the time, or the reason why the fold failed.
    """
    started = perf_counter()
    cell = work.tasks[0].cell
    inputs = target_inputs(work.tasks[0].files, cell.protocol)
    jobs = []
    for task in work.tasks:
        train, validation = fold_rows(task, inputs)
        seed = cell.seed_for("fold", task.fold)
        jobs.append(network_job(cell, inputs, dict(task.hyperparameters), train, validation, seed))
    outcomes = fit_together(jobs)
    fitted = (perf_counter() - started) / len(jobs)
    reports: list[FoldReport | Failure] = []
    for task, outcome in zip(work.tasks, outcomes, strict=True):
        if isinstance(outcome, DivergedError):
            reports.append(Failure(f"DivergedError: {outcome}"))
        else:
            model, history = outcome
            reports.append(fold_report(task, inputs, model, history, perf_counter() - fitted))
    return tuple(reports)
