"""Our results beside the paper's: the section of the main page, and the parts of ``paper.md``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from crossprop.report.paper import (
    CITATION,
    TABLES,
    Outcome,
    TableLine,
    plain,
    table_lines,
    table_markdown,
    table_rows,
)
from crossprop.report.paper_tests import (
    Tally,
    base_rows,
    contest_rows,
    losses,
    median_beats,
    sign_tests_part,
    tallies,
    tally_markdown,
    tally_rows,
)
from crossprop.report.part import Drawing, Part, markdown_table, number, unit_name
from crossprop.report.study import PaperTable, TargetResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RULE = (
    "A tie: the two lie within one standard error of our hold-out MAE. “Beyond noise” counts wins and losses "
    "whose p (Student's t of our hold-out errors against the published mean) stays below 0.05 after Holm's "
    "correction over the targets; the published number is taken as exact, which it is not. “Folds' mean” is "
    "the mean of all fold models in place of the paper's number, the fold model with the least validation "
    "error."
)


def paper_section(results: Sequence[TargetResults], paper: PaperTable) -> Part:
    """Wins, ties and losses for the main page; without a headline where the paper has none of the targets."""
    made = tallies(results, paper)
    if not made:
        return Part()
    from_all = any(tally.ours == "winner" for tally in made)
    headline = made[-1]
    text = "\n\n".join(
        [
            f"Wins–ties–losses of our hold-out MAE against the published ones ({CITATION}), over "
            f"{len(headline.entries)} targets, and the geometric mean of the ratios (below 1: ours is lower).",
            tally_markdown(made),
            f"{_RULE} The paper's SC is that of Table 4 or 5, its TL the lower of Tables 2 and 3 or that of "
            "Table 5, “lowest” the lowest of all of them: picked by the hold-out itself, while ours is picked "
            "by cross-validation, so the comparison leans towards the paper. Tables 2 to 5 line by line, the "
            "Base row and the sign tests: [paper.md](paper.md).",
            _lost(headline, results),
        ]
    )
    who = (
        "hollow: a method of ours; grey: the best of the paper's methods"
        if from_all
        else "of the paper's methods"
    )
    drawing = Drawing(
        draw=lambda: _figure(results, paper),
        caption="Hold-out MAE of our winner divided by the lowest MAE anywhere in the paper, with 95 % intervals; "
        f"colour and shape give the side ({who})",
    )
    return Part(
        title="Beside the paper",
        text=text,
        tables={
            "tables/against_paper.csv": tally_rows(made),
            "tables/against_paper_by_target.csv": contest_rows(results, made),
        },
        drawings={"ours_against_paper.png": drawing},
    )


def paper_parts(results: Sequence[TargetResults], paper: PaperTable) -> list[Part]:
    """The parts of ``paper.md``; none where the paper has none of the targets."""
    parts = []
    for table in TABLES:
        lines = table_lines(table, results, paper)
        if lines:
            parts.append(
                Part(
                    title=f"Table {table.number}: {table.title}",
                    text=f"{_counted(lines)}\n\n{table_markdown(lines)}",
                    tables={f"tables/table_{table.number}.csv": table_rows(lines)},
                )
            )
    if not parts:
        return []
    return [*parts, _base_part(results, paper), sign_tests_part(results, paper)]


def paper_introduction() -> str:
    """What the tables of ``paper.md`` show, in Markdown."""
    return (
        f"Tables 2 to 5 of {CITATION}, re-made with the paper's methods alone. Our number is that of the fold "
        "model with the least validation error, as in the paper, with its 95 % bootstrap interval; below it the "
        "mean of all fold models and the cell, chosen by the mean validation MAE of the cross-validation. "
        "Ratio: ours over the published one; bold: ours is lower by more than one standard error of ours; tie: "
        "within it. Where none of the cells in question was cross-validated, the line says how far the best of "
        "them came; where only some were, how many of how many. Both numbers are of the same hold-out files."
    )


def paper_findings(results: Sequence[TargetResults], paper: PaperTable) -> list[str]:
    """Wins, ties and losses in a sentence; nothing where the paper has none of the targets."""
    lines = []
    for tally in tallies(results, paper):
        whole = (tally.ours, tally.theirs)
        name = {
            ("best SC", "best SC"): "Our best SC against the paper's",
            ("best TL", "best TL"): "Our best TL against the paper's",
            (
                "paper's methods",
                "lowest",
            ): "The better of the two against the lowest MAE anywhere in the paper",
            (
                "winner",
                "lowest",
            ): "Our winner, our own methods included, against the lowest MAE anywhere in the paper",
        }.get(whole)
        if name:
            counts = ", ".join(
                f"{tally.count(outcome)} {word}"
                for outcome, word in zip(
                    Outcome, ("lower", "within one standard error", "higher"), strict=True
                )
            )
            lines.append(f"{name}: **{counts}**; geometric mean of the ratios {number(tally.ratio, 3)}.")
    return lines


def median_sentence(results: Sequence[TargetResults], paper: PaperTable) -> str:
    """Where predicting the median beats a published model; empty where it never does."""
    found = []
    for target in results:
        figures = paper.get(target.info.key)
        beaten = median_beats(target, figures) if figures else []
        if beaten and target.base:
            found.append(f"{target.info.label} ({number(target.base.test_mae_median)}: {', '.join(beaten)})")
    if not found:
        return ""
    return (
        f"Predicting the median of the training values alone beats a published model on {'; '.join(found)}."
    )


def _counted(lines: Sequence[TableLine]) -> str:
    known = [line for line in lines if line.transfer_is_lower is not None]
    lower = sum(bool(line.transfer_is_lower) for line in known)
    theirs = [
        (line.transfer.published, line.scratch.published)
        for line in lines
        if line.transfer.published is not None and line.scratch.published is not None
    ]
    sides = []
    for name, entries in (
        ("SC", [line.scratch for line in lines]),
        ("TL", [line.transfer for line in lines]),
    ):
        counts = "–".join(str(sum(e.outcome is outcome for e in entries)) for outcome in Outcome)
        none = sum(e.mae is None for e in entries)
        missing = f", {none} without a cross-validated cell" if none else ""
        sides.append(f"{name} {counts}{missing}")
    return (
        f"TL has the lower hold-out MAE on {lower} of {len(known)} targets here, on "
        f"{sum(tl < sc for tl, sc in theirs)} of {len(theirs)} in the paper. Against the published column "
        f"(wins–ties–losses): {'; '.join(sides)}."
    )


def _base_part(results: Sequence[TargetResults], paper: PaperTable) -> Part:
    rows = [row for row in base_rows(results, paper) if row["paper_base"] is not None]
    lines = []
    for target in results:
        figures = paper.get(target.info.key)
        if figures is not None:
            median = target.base.test_mae_median if target.base else None
            beaten = "; ".join(median_beats(target, figures))
            line = [number(target.base_mae), plain(figures.base_mae), number(median), beaten]
            lines.append([target.info.label, unit_name(target.info.unit), *line])
    header = ["target", "unit", "mean", "paper's mean", "median", "published models that the median beats"]
    told = (
        "The paper's Base predicts the mean of the training values. For the mean absolute error the median is "
        f"the honest naive model. {median_sentence(results, paper)}"
    )
    text = f"{told.strip()}\n\n{markdown_table(header, lines, left=(0, 1, 5))}"
    return Part(title="The Base row: mean and median", text=text, tables={"tables/base.csv": rows})


def _lost(tally: Tally, results: Sequence[TargetResults]) -> str:
    lost = losses(tally, {target.info.key: target.info.label for target in results})
    whose = "the winner of all methods" if tally.ours == "winner" else "the better of best SC and best TL"
    if not lost:
        return f"No target is lost to the paper's lowest by {whose}."
    return f"Lost to the paper's lowest by {whose}, with the ratio: {', '.join(lost)}."


def _figure(results: Sequence[TargetResults], paper: PaperTable) -> Figure:
    from crossprop.report.figures import ours_against_paper

    return ours_against_paper(results, paper)
