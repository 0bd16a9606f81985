"""`README.md` of a report: the study as a person reads it; equal results give an equal page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from crossprop.experiments.results import CellResult
from crossprop.methods import Family, Method, Protocol, Side
from crossprop.report.part import (
    Part,
    Row,
    cell_name,
    interval,
    markdown_table,
    number,
    p_value,
    unit_name,
    words,
)
from crossprop.report.statistics import (
    SIGNIFICANCE,
    Gain,
    SignTest,
    geometric_mean,
    modified_against_plain,
    transfer_against_scratch,
)
from crossprop.report.study import RunRecord, StudyInfo, TargetResults

_WHY_UNEQUAL = "a failed cell, a time limit, or a share that does not divide evenly"
_FAMILIES = {Family.REGRESSOR: "regressors", Family.NETWORK: "networks"}


def costs_page(study: StudyInfo, results: Sequence[TargetResults], sources: Sequence[Row]) -> str:
    """Worker seconds of tuning and fitting by side, family and method, and the peak of memory, in Markdown.

    Args:
        study: The study.
        results: All targets.
        sources: Rows of :func:`~crossprop.report.supplement.networks.source_model_rows`.
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
                    if c.method.side is side and c.method.family is family and c.method.extension is ours
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
            name = f"{method.notation} (ours)" if method.extension else method.notation
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


_PROTOCOLS = {
    Protocol.PUBLISHED: "the published split as it is, so that errors stand beside the paper's",
    Protocol.STRICT: "training rows whose composition also stands in the hold-out are dropped",
}


def study_page(
    study: StudyInfo,
    results: Sequence[TargetResults],
    findings: Sequence[str],
    parts: Sequence[Part],
    tests_page: str,
) -> str:
    """The page in Markdown.

    Args:
        study: What the results do not say.
        results: All targets.
        findings: What the statistics say, a sentence or two each.
        parts: The sections between the findings and the explanations, in order.
        tests_page: The page with the corrected sign tests.
    """
    sections = [
        f"# {study.title}",
        _what_it_is(study, results),
        "## In short\n\n" + "\n".join(f"- {line}" for line in findings),
        *(part.markdown() for part in parts),
        _how_it_was_done(study, results),
        _how_to_read(study, tests_page),
    ]
    return "\n\n".join(section.strip() for section in sections if section.strip()) + "\n"


def linked_page(title: str, introduction: str, parts: Sequence[Part]) -> str:
    """A page that the main one links to, in Markdown; empty without a part that has a headline."""
    sections = [part.markdown() for part in parts if part.title]
    if not sections:
        return ""
    return "\n\n".join([f"# {title}", introduction, *sections]).strip() + "\n"


def targets_part(results: Sequence[TargetResults], gains: Sequence[Gain]) -> Part:
    """Every target: base, best SC, best TL, and the winner where methods of ours take part."""
    gain_of = {gain.target: gain for gain in gains}
    own = any(cell.method.extension for target in results for cell in target.cells)
    winner = ["winner of all"] if own else []
    header = [
        "target",
        "unit",
        "train",
        "hold-out",
        "base",
        "best SC",
        "best TL",
        "TL / SC",
        "beyond noise?",
        *winner,
    ]
    rows = [_target_line(target, gain_of.get(target.info.key), own=own) for target in results]
    legend = (
        "MAE on the hold-out with its 95 % bootstrap interval; below it that of the mean of all fold "
        "models (“ens.”) and the cell. **Bold**: the model that cross-validation chose, which is the one "
        "offered in the registry; it need not be the one with the lower hold-out MAE. “Base” predicts the "
        "mean of the training values, and below it their median; “train” and “hold-out” count rows. “Beyond noise?”: "
        "paired bootstrap of the two on the same hold-out rows, Holm-corrected over the targets, level 0.05."
    )
    if own:
        legend += " Best SC and best TL are of the paper's methods, “winner of all” is chosen among ours too."
    described = [f"{t.info.label}: {t.info.description.rstrip('.')}" for t in results if t.info.description]
    glossary = f"\n\nThe targets. {'; '.join(described)}." if described else ""
    table = markdown_table(header, rows, left=(0, 1, 5, 6, 8, 9))
    return Part(title="Every target", text=f"{table}\n\n{legend}{glossary}")


def _what_it_is(study: StudyInfo, results: Sequence[TargetResults]) -> str:
    n_cells = sum(len(target.cells) for target in results)
    tier = f", tier `{study.tier}`" if study.tier else ""
    return (
        f"Study `{study.name}`{tier}: scratch (SC) against cross-property transfer (TL) models on "
        f"{len(results)} target {'property' if len(results) == 1 else 'properties'}, {n_cells} cells "
        "(target × source × method × representation)."
    )


def _how_it_was_done(study: StudyInfo, results: Sequence[TargetResults]) -> str:
    edition = f" (edition `{study.edition}`)" if study.edition else ""
    lines = [f"- **Sources**: {', '.join(words(source) for source in study.sources) or 'none'}{edition}."]
    if set(study.elemnets) != set(study.sources):
        learnt = ", ".join(words(source) for source in study.elemnets) or "none of them"
        lines.append(f"- **ElemNets** were pretrained on {learnt}.")
    for name, sources in study.joint.items():
        lines.append(
            f"- **Joint network** {words(name)} (ours): {', '.join(words(source) for source in sources)}."
        )
    lines += [
        f"- **Protocol** `{study.protocol}`: {_PROTOCOLS[study.protocol]}. Every cell is tuned on one "
        "validation split; the best cells are cross-validated, the best of each side is chosen by the "
        "mean validation MAE, and the fold model with the least validation error is measured on the "
        "hold-out.",
        f"- **Folds**: {_folds(study)}.",
        f"- **Seed** {study.seed}.",
        *(f"- **Budget**: {line.rstrip('.')}." for line in study.budget),
        f"- **Spent**: {trials_sentence(results)} Seconds and memory stand in [costs.md](costs.md): they differ "
        "from run to run, this page does not.",
    ]
    return "## How it was done\n\n" + "\n".join(lines)


def _folds(study: StudyInfo) -> str:
    """Folds of every target, the most common number without names."""
    by_count: dict[int, list[str]] = {}
    for target in study.targets:
        if target.folds is not None:
            by_count.setdefault(target.folds, []).append(target.label)
    if not by_count:
        return "as configured"
    common = max(by_count, key=lambda count: len(by_count[count]))
    rest = [f"{count} for {', '.join(names)}" for count, names in sorted(by_count.items()) if count != common]
    return "; ".join([str(common), *rest])


def _target_line(target: TargetResults, gain: Gain | None, *, own: bool) -> list[str]:
    sc, tl, base = target.best_sc, target.best_tl, target.base
    median = f"<br>{number(base.test_mae_median)}" if base and base.test_mae_median is not None else ""
    line = [
        target.info.label,
        unit_name(target.info.unit),
        str(target.cells[0].n_train),
        str(target.cells[0].n_test),
        number(target.base_mae) + median,
        _measured(sc, target.winner),
        _measured(tl, target.winner),
        number(target.transfer_ratio, 3),
        gain.verdict if gain else "–",
    ]
    return [*line, _measured(target.winner, target.winner)] if own else line


def _measured(cell: CellResult | None, winner: CellResult | None) -> str:
    if cell is None:
        return "none came through"
    mae = number(cell.test_mae)
    value = f"**{mae}**" if winner is not None and winner.cell == cell.cell else mae
    bounds = interval(cell.test_mae, cell.test_mae_low, cell.test_mae_high)
    ensemble = f"ens. {number(cell.test_mae_ensemble)}, " if cell.test_mae_ensemble is not None else ""
    return f"{value} {bounds}<br>{ensemble}{cell_name(cell)}"


def _how_to_read(study: StudyInfo, tests_page: str) -> str:
    return "\n".join(
        [
            "## Trace a number",
            "",
            "Every table under `tables/` gives the run of each of our numbers in its `run_id` columns. "
            "`targets.csv` names the best cells of a target; `cells.csv` has every cell, one row each in "
            "the order of `runs.csv`, which gives each cell's run in MLflow (experiment "
            f"`{study.name}/<target>`) with its trials, folds, predictions and resolved configuration. All "
            "figures and tables here are drawn from these and from `predictions.parquet` of each target.",
            "",
            "## Limits",
            "",
            "- The intervals are those of the hold-out rows: another draw of rows of this size. They do "
            "not cover another training split, another seed of a network or another run of the tuning.",
            "- The sign tests treat targets as independent; properties of the same materials are not "
            "quite, nor are the sources of one target.",
            "- Each sign test above stands for itself, at the level 0.05; corrected over all of them they are "
            f"in [{tests_page}]({tests_page}).",
            "- “Within noise” is no proof of equality: a small hold-out sees only large differences.",
            *(f"- {note}" for note in study.notes),
        ]
    )


def findings(results: Sequence[TargetResults], gains: Sequence[Gain]) -> list[str]:
    """One sentence or two per question, in Markdown."""
    mae = transfer_against_scratch(results, "test_mae")
    lines = [_sides("the lower hold-out MAE", mae, "TL", "SC")]
    if mae.n:
        lines += [_size_of_gain(results), _beyond_noise(results, gains)]
    tails = transfer_against_scratch(results, "test_q95")
    lines.append(_sides("the lower 95th percentile of the error (Q95)", tails, "TL", "SC"))
    ensembles = transfer_against_scratch(results, "test_mae_ensemble")
    if ensembles.n:
        lines.append(_sides("the lower hold-out MAE as the mean of all fold models", ensembles, "TL", "SC"))
    tuned = modified_against_plain(results)
    if tuned.n + tuned.ties:
        lines.append(
            "Over target × source, "
            + _sides(
                "the lower validation MAE", tuned, "modified fine-tuning", "plain fine-tuning", of="pairs"
            )
        )
    lines.append(_chosen(results))
    return [line for line in lines if line]


def _chosen(results: Sequence[TargetResults]) -> str:
    of_paper = [target.paper_winner.method.side for target in results if target.paper_winner]
    told = (
        f"Cross-validation chose TL for {of_paper.count(Side.TRANSFER)} and SC for "
        f"{of_paper.count(Side.SCRATCH)} of {len(results)} targets"
    )
    winners = [target.winner.method for target in results if target.winner]
    if not any(method.extension for method in winners):
        return f"{told}."
    counts = Counter(method.notation for method in winners)
    named = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    return f"Of the paper's methods c{told[1:]}; among all methods, ours included, it chose {named}."


def _sides(what: str, test: SignTest, first: str, second: str, of: str = "targets") -> str:
    if test.n == 0:
        return f"No {of} on which {first} and {second} can be compared by {what}."
    ties = f", {test.ties} tied and left out" if test.ties else ""
    counted = f"{first} has {what} than {second} on **{test.wins} of {test.n}** {of}{ties}"
    if 0.5**test.n >= SIGNIFICANCE:
        return f"{counted}; too few for a sign test, whose p cannot fall below {0.5**test.n:.2g} here."
    verdict = "chance alone may explain it"
    if test.p_value < SIGNIFICANCE:
        verdict = "more than chance explains"
    elif test.high < 0.5:
        verdict = f"{second} is the better one, by more than chance explains"
    share = f"share {100 * test.share:.0f} %, 95 % interval {100 * test.low:.0f} to {100 * test.high:.0f} %"
    return f"{counted} (one-tailed exact sign test {p_value(test.p_value)}; {share}): {verdict}."


def _size_of_gain(results: Sequence[TargetResults]) -> str:
    ratios = [target.transfer_ratio for target in results if target.transfer_ratio]
    if not ratios:
        return ""
    mean = geometric_mean(ratios)
    way = "lower" if mean < 1 else "higher"
    return (
        f"The hold-out MAE of the best TL is {number(mean, 3)} times that of the best SC in the geometric "
        f"mean ({100 * abs(1 - mean):.1f} % {way}; from {number(min(ratios), 3)} to "
        f"{number(max(ratios), 3)})."
    )


def _beyond_noise(results: Sequence[TargetResults], gains: Sequence[Gain]) -> str:
    labels = {target.info.key: target.info.label for target in results}
    by_verdict = {
        verdict: [labels[gain.target] for gain in gains if gain.verdict == verdict]
        for verdict in ("TL better", "SC better", "within noise")
    }
    better = "; ".join(
        f"{verdict} on {len(names)} ({', '.join(names)})"
        for verdict, names in by_verdict.items()
        if names and verdict != "within noise"
    )
    rest = by_verdict["within noise"]
    return (
        f"Target by target (paired bootstrap, Holm-corrected): {better or 'no difference beyond noise'}"
        + (f"; the other {len(rest)} lie within the noise of their hold-outs." if rest and better else ".")
    )
