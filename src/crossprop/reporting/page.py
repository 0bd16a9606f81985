"""`README.md` of a report: the study as a person reads it; equal results give an equal page."""

from __future__ import annotations

from collections.abc import Sequence

from crossprop.experiments.results import CellResult
from crossprop.reporting.comparisons import Gain
from crossprop.reporting.costs import trials_sentence
from crossprop.reporting.part import Part
from crossprop.reporting.study_info import StudyInfo
from crossprop.reporting.target_results import TargetResults
from crossprop.reporting.wording import cell_name, interval, markdown_table, number, unit_name, words
from crossprop.vocabulary import Protocol

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
    own = any(cell.method.ours for target in results for cell in target.cells)
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
