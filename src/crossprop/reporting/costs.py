"""`costs.md`: what the study spent, per side, family and target; differs from run to run."""

from __future__ import annotations

from collections.abc import Sequence

from crossprop.experiments.results import CellResult
from crossprop.reporting.part import Row
from crossprop.reporting.study_info import StudyInfo
from crossprop.reporting.target_results import RunRecord, TargetResults
from crossprop.reporting.wording import markdown_table, words
from crossprop.vocabulary import Family, Method, Side

_WHY_UNEQUAL = "a failed cell, a time limit, or a share that does not divide evenly"
_FAMILIES = {Family.REGRESSOR: "regressors", Family.NETWORK: "networks"}


def costs_page(study: StudyInfo, results: Sequence[TargetResults], sources: Sequence[Row]) -> str:
    """Worker seconds of tuning and fitting by side, family and method, and the peak of memory, in Markdown.

    Args:
        study: The study.
        results: All targets.
        sources: Rows of :func:`~crossprop.reporting.supplement.source_models.source_model_rows`.
    """
    pairs = [(cell, run) for t in results for cell, run in zip(t.cells, t.runs, strict=True)]
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
            "## Both sides",
            "",
            trials_sentence(results),
            "",
            _by_side(pairs),
            "",
            "## By target",
            "",
            _by_target(results),
            "",
            "## By method",
            "",
            _by_method(pairs),
            "",
            *(["## Pretraining", "", _pretraining(sources), ""] if sources else []),
        ]
    )


def trials_sentence(results: Sequence[TargetResults]) -> str:
    """Trials of both sides per target and family, and whether they are equal, as the cells have it."""
    told = []
    for family, name in _FAMILIES.items():
        per_side = {
            side: [
                sum(c.n_trials for c in t.cells if c.method.side is side and c.method.family is family)
                for t in results
            ]
            for side in (Side.SCRATCH, Side.TRANSFER)
        }
        if not any(any(counts) for counts in per_side.values()):
            continue
        scratch, transfer = (_range(per_side[side]) for side in (Side.SCRATCH, Side.TRANSFER))
        equal = per_side[Side.SCRATCH] == per_side[Side.TRANSFER]
        verdict = "equal" if equal else f"not equal ({_WHY_UNEQUAL})"
        told.append(f"{name} SC {scratch}, TL {transfer} per target: {verdict}")
    return f"Trials that were spent: {'; '.join(told)}." if told else "No trials were spent."


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``48 s``, ``3.2 min``, ``1.4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _by_side(pairs: Sequence[tuple[CellResult, RunRecord]]) -> str:
    """What each side and family spent, the paper's methods and ours apart."""
    rows = []
    for side, name in ((Side.SCRATCH, "SC"), (Side.TRANSFER, "TL"), (Side.BLEND, "blends")):
        for family in Family:
            for ours in (False, True):
                mine = [
                    (c, r)
                    for c, r in pairs
                    if c.method.side is side and c.method.family is family and c.method.ours is ours
                ]
                if not mine:
                    continue
                rows.append(
                    [
                        name,
                        _FAMILIES.get(family, "–"),
                        "ours" if ours else "the paper's",
                        str(len(mine)),
                        str(sum(cell.n_trials for cell, _ in mine)),
                        duration(sum(run.tune_seconds for _, run in mine)),
                        duration(sum(run.fit_seconds for _, run in mine)),
                    ]
                )
    header = ["side", "family", "methods", "cells", "trials", "tuning", "fitting"]
    return markdown_table(header, rows, left=(0, 1, 2))


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


def _by_method(pairs: Sequence[tuple[CellResult, RunRecord]]) -> str:
    rows = []
    for method in Method:
        runs = [run for cell, run in pairs if cell.method is method]
        if runs:
            peak = max(run.peak_memory for run in runs) / 2**30
            tuning = duration(sum(run.tune_seconds for run in runs))
            fitting = duration(sum(run.fit_seconds for run in runs))
            name = f"{method.notation} (ours)" if method.ours else method.notation
            rows.append([name, str(len(runs)), tuning, fitting, f"{peak:.2f} GiB"])
    return markdown_table(["method", "cells", "tuning", "fitting", "peak memory"], rows)


def _pretraining(sources: Sequence[Row]) -> str:
    """One line a network; a joint one learns several sources in its time."""
    networks = {str(row["network"]): row for row in sources}
    rows = []
    for name, row in networks.items():
        seconds, memory = row["seconds"], row["peak_memory"]
        rows.append(
            [
                words(name),
                duration(float(seconds)) if isinstance(seconds, int | float) else "–",
                f"{memory / 2**30:.2f} GiB" if isinstance(memory, int | float) else "–",
            ]
        )
    return markdown_table(["network", "time", "peak memory"], rows)


def _total(runs: Sequence[RunRecord]) -> float:
    return sum(run.tune_seconds + run.fit_seconds for run in runs)


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts, default=0), max(counts, default=0)
    return str(low) if low == high else f"{low} to {high}"
