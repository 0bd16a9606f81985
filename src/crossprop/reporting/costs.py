"""`costs.md`: what the study spent, per side and target; differs from run to run."""

from __future__ import annotations

from collections.abc import Sequence

from crossprop.reporting.results_tree import RunRecord, TargetResults
from crossprop.reporting.study_info import StudyInfo
from crossprop.reporting.wording import markdown_table
from crossprop.vocabulary import Method, Side


def costs_page(study: StudyInfo, results: Sequence[TargetResults]) -> str:
    """Worker seconds of tuning and fitting by side and by method, and the peak of memory, in Markdown."""
    pairs = [(cell.method, run) for t in results for cell, run in zip(t.cells, t.runs, strict=True)]
    everything = [run for _, run in pairs]
    budget = "\n".join(f"- {line.rstrip('.')}." for line in study.budget)
    return "\n".join(
        [
            f"# What `{study.name}` spent",
            "",
            f"{duration(_total(everything))} of worker time over {len(everything)} cells: "
            f"{duration(sum(run.tune_seconds for run in everything))} tuning, "
            f"{duration(sum(run.fit_seconds for run in everything))} fitting (cross-validation and "
            "hold-out). Workers run side by side, so the wall time is shorter; pretraining is not in it. "
            "Largest memory of a worker: "
            f"{max((run.peak_memory for run in everything), default=0) / 2**30:.2f} GiB.",
            "",
            *([budget, ""] if budget else []),
            "## By target",
            "",
            _by_target(results),
            "",
            "## By method",
            "",
            _by_method(pairs),
            "",
        ]
    )


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``48 s``, ``3.2 min``, ``1.4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _by_target(results: Sequence[TargetResults]) -> str:
    rows = []
    for target in results:
        line = [target.info.label]
        for side in (Side.SCRATCH, Side.TRANSFER):
            pairs = [(c, r) for c, r in zip(target.cells, target.runs, strict=True) if c.method.side is side]
            line += [
                str(sum(cell.n_trials for cell, _ in pairs)),
                duration(sum(run.tune_seconds for _, run in pairs)),
                duration(sum(run.fit_seconds for _, run in pairs)),
            ]
        rows.append(line)
    header = ["target", "SC trials", "SC tuning", "SC fitting", "TL trials", "TL tuning", "TL fitting"]
    return markdown_table(header, rows)


def _by_method(pairs: Sequence[tuple[Method, RunRecord]]) -> str:
    rows = []
    for method in Method:
        runs = [run for m, run in pairs if m is method]
        if runs:
            peak = max(run.peak_memory for run in runs) / 2**30
            tuning = duration(sum(run.tune_seconds for run in runs))
            fitting = duration(sum(run.fit_seconds for run in runs))
            rows.append([method.notation, str(len(runs)), tuning, fitting, f"{peak:.2f} GiB"])
    return markdown_table(["method", "cells", "tuning", "fitting", "peak memory"], rows)


def _total(runs: Sequence[RunRecord]) -> float:
    return sum(run.tune_seconds + run.fit_seconds for run in runs)
