"""`README.md` of a report: the study as a person reads it; equal results give an equal page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crossprop.experiments.results import CellResult
from crossprop.reporting.comparisons import TransferGain
from crossprop.reporting.findings import findings, spent_trials
from crossprop.reporting.paper_section import paper_section
from crossprop.reporting.results_tree import TargetResults
from crossprop.reporting.study_info import PaperTable, StudyInfo
from crossprop.reporting.wording import cell_name, interval, markdown_table, number, unit_name, words
from crossprop.vocabulary import Protocol

_PROTOCOLS = {
    Protocol.PUBLISHED: "the published split as it is, so that errors stand beside the paper's",
    Protocol.STRICT: "training rows whose composition also stands in the hold-out are dropped",
}


def study_page(
    study: StudyInfo,
    results: Sequence[TargetResults],
    gains: Sequence[TransferGain],
    paper: PaperTable,
    figures: Mapping[str, str],
) -> str:
    """The page in Markdown.

    Args:
        study: What the results do not say.
        results: All targets.
        gains: Best TL against best SC, for the targets that have both.
        paper: The paper's errors by target key.
        figures: Captions by file name of the figures beside the page, in order; the key names the section.
    """
    sections = [
        f"# {study.title}",
        _what_it_is(study, results),
        "## In short\n\n" + "\n".join(f"- {line}" for line in findings(results, gains)),
        "## Every target\n\n" + _target_table(results, gains),
        _figures(figures, ("scratch_against_transfer.png", "winner_parity.png")),
        "## Every method\n\n" + _figures(figures, ("method_heatmap.png", "extraction_layers.png")),
        paper_section(results, paper, _figures(figures, ("ours_against_paper.png",))),
        _failures(results),
        _how_to_read(study),
    ]
    return "\n\n".join(section.strip() for section in sections if section.strip()) + "\n"


def _what_it_is(study: StudyInfo, results: Sequence[TargetResults]) -> str:
    n_cells = sum(len(target.cells) for target in results)
    sources = ", ".join(words(source) for source in study.sources) or "none"
    edition = f" (edition `{study.edition}`)" if study.edition else ""
    return "\n".join(
        [
            f"Study `{study.name}`: scratch (SC) against cross-property transfer (TL) models on "
            f"{len(results)} target {'property' if len(results) == 1 else 'properties'}, {n_cells} cells "
            "(target × source × method × representation).",
            "",
            f"- **Sources** of the transferred networks: {sources}{edition}.",
            f"- **Protocol** `{study.protocol}`: {_PROTOCOLS[study.protocol]}. Every cell is tuned on one "
            "validation split; the best cells are cross-validated, the best of each side is chosen by the "
            "mean validation MAE, and the fold model with the least validation error is measured on the "
            "hold-out.",
            f"- **Seed** {study.seed}.",
            *(f"- **Budget**: {line.rstrip('.')}." for line in study.budget),
            f"- **Trials spent**: {spent_trials(results)}",
            "- Seconds and memory stand in [costs.md](costs.md): they differ from run to run, this page "
            "does not.",
        ]
    )


def _target_table(results: Sequence[TargetResults], gains: Sequence[TransferGain]) -> str:
    gain_of = {gain.target: gain for gain in gains}
    header = ["target", "unit", "train", "hold-out", "base", "best SC", "best TL", "TL / SC", "beyond noise?"]
    rows = [_target_line(target, gain_of.get(target.info.key)) for target in results]
    legend = (
        "MAE on the hold-out with its 95 % bootstrap interval; below it that of the mean of all fold "
        "models (“ens.”) and the cell. **Bold**: the model that cross-validation chose, which is the one "
        "offered in the registry; it need not be the one with the lower hold-out MAE. “Base” predicts the "
        "mean of the training values; “train” and “hold-out” count rows. Last column: paired bootstrap of "
        "the two on the same hold-out rows, Holm-corrected over the targets, level 0.05."
    )
    described = [f"{t.info.label}: {t.info.description.rstrip('.')}" for t in results if t.info.description]
    glossary = f"\n\nThe targets. {'; '.join(described)}." if described else ""
    return f"{markdown_table(header, rows, left=(0, 1, 5, 6, 8))}\n\n{legend}{glossary}"


def _target_line(target: TargetResults, gain: TransferGain | None) -> list[str]:
    sc, tl = target.best_sc, target.best_tl
    return [
        target.info.label,
        unit_name(target.info.unit),
        str(target.cells[0].n_train),
        str(target.cells[0].n_test),
        number(target.base_mae),
        _measured(sc, target.winner),
        _measured(tl, target.winner),
        number(target.transfer_ratio, 3),
        gain.verdict if gain else "–",
    ]


def _measured(cell: CellResult | None, winner: CellResult | None) -> str:
    if cell is None:
        return "none came through"
    mae = number(cell.test_mae)
    value = f"**{mae}**" if winner is not None and winner.cell == cell.cell else mae
    bounds = interval(cell.test_mae, cell.test_mae_low, cell.test_mae_high)
    ensemble = f"ens. {number(cell.test_mae_ensemble)}, " if cell.test_mae_ensemble is not None else ""
    return f"{value} {bounds}<br>{ensemble}{cell_name(cell)}"


def _figures(figures: Mapping[str, str], names: Sequence[str]) -> str:
    shown = [name for name in names if name in figures]
    return "\n\n".join(f"![{figures[name]}]({name})\n\n*{figures[name]}*" for name in shown)


def _failures(results: Sequence[TargetResults]) -> str:
    failed = [(target, cell) for target in results for cell in target.cells if cell.failure is not None]
    if not failed:
        return ""
    rows = [
        [target.info.label, f"`{cell.cell}`", cell_name(cell), cell.failure or ""] for target, cell in failed
    ]
    table = markdown_table(["target", "cell", "what", "reason"], rows, left=(0, 1, 2, 3))
    return (
        "## Cells that failed\n\nThey stay in `cells.csv` with empty figures and take no part in any "
        f"comparison.\n\n{table}"
    )


def _how_to_read(study: StudyInfo) -> str:
    return "\n".join(
        [
            "## Trace a number",
            "",
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
            "- “Within noise” is no proof of equality: a small hold-out sees only large differences.",
            *(f"- {note}" for note in study.notes),
        ]
    )
