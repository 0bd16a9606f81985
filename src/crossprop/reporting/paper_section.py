"""Our errors beside those of Gupta et al. 2021."""

from __future__ import annotations

import math
from collections.abc import Sequence

from crossprop.reporting.results_tree import TargetResults
from crossprop.reporting.statistics import geometric_mean
from crossprop.reporting.study_info import PaperTable
from crossprop.reporting.tables import paper_columns
from crossprop.reporting.wording import markdown_table, number, unit_name

TIE_DIGITS = 3
"""Two errors tie when they are equal to so many significant digits, the paper's own precision."""

_COMPARED = (
    ("best SC", "SC", "paper_sc_mae"),
    ("best TL", "TL", "paper_tl_mae"),
    ("winner", "lowest", "paper_lowest_mae"),
)


def paper_tally(pairs: Sequence[tuple[float, float]]) -> tuple[int, int, int]:
    """Wins, ties and losses of our errors.

    Args:
        pairs: Our error and the paper's, of one target each.
    """
    rounded = [(_rounded(ours), _rounded(theirs)) for ours, theirs in pairs]
    wins = sum(ours < theirs for ours, theirs in rounded)
    ties = sum(ours == theirs for ours, theirs in rounded)
    return wins, ties, len(pairs) - wins - ties


def paper_section(results: Sequence[TargetResults], paper: PaperTable, figures: str) -> str:
    """The section in Markdown; empty where the paper has no figure for any of the targets."""
    lines: list[list[str]] = []
    pairs: tuple[list[tuple[float, float]], ...] = ([], [], [])
    for target in results:
        theirs = paper_columns(paper.get(target.info.key))
        if not any(theirs.values()):
            continue
        line = [target.info.label, unit_name(target.info.unit)]
        cells = (target.best_sc, target.best_tl, target.winner)
        for kept, cell, (*_, column) in zip(pairs, cells, _COMPARED, strict=True):
            ours, reference = cell.test_mae if cell else None, theirs[column]
            if ours and reference:
                kept.append((ours, reference))
            line += [number(ours), _plain(reference), _ratio(ours, reference)]
        lines.append(line)
    if not lines:
        return ""
    header = ["target", "unit", "our SC", "paper SC", "ratio", "our TL", "paper TL", "ratio"]
    header += ["our winner", "paper lowest", "ratio"]
    told = "\n".join(
        f"- Our {ours} against the paper's {theirs}: {_told(kept)}"
        for kept, (ours, theirs, _) in zip(pairs, _COMPARED, strict=True)
        if kept
    )
    return (
        f"## Beside the paper\n\n{told}\n\n{markdown_table(header, lines, left=(0, 1))}\n\nHold-out MAE; a "
        "ratio below 1 (bold) means that ours is lower. Gupta et al. 2021, doi:10.1038/s41467-021-26921-5: "
        "SC of Table 4 or 5 (elemental fractions or physical attributes), TL the lower of Tables 2 and 3, "
        "or that of Table 5, lowest of all of them. The paper's lowest, and its TL where two tables are "
        "compared, are picked by the hold-out itself, ours by cross-validation: the comparison leans "
        f"towards the paper.\n\n{figures}"
    )


def _told(pairs: Sequence[tuple[float, float]]) -> str:
    wins, ties, losses = paper_tally(pairs)
    mean = geometric_mean([ours / theirs for ours, theirs in pairs])
    return (
        f"{wins} lower, {ties} equal to {TIE_DIGITS} digits, {losses} higher; geometric mean of the ratios "
        f"{number(mean, 3)}."
    )


def _ratio(ours: float | None, theirs: float | None) -> str:
    if not ours or not theirs:
        return "–"
    text = f"{ours / theirs:.2f}"
    return f"**{text}**" if _rounded(ours) < _rounded(theirs) else text


def _rounded(value: float) -> float:
    return round(value, TIE_DIGITS - 1 - math.floor(math.log10(value))) if value > 0 else value


def _plain(value: float | None) -> str:
    """The paper's number as it was printed, but for trailing zeros."""
    return "–" if value is None else f"{value:g}"
