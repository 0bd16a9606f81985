"""Wins, ties and losses against the paper over all targets, and where the median alone beats one of its models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from crossprop.experiments.results import CellResult
from crossprop.reporting.paper.entries import Entry, Outcome, enter
from crossprop.reporting.paper.published import best_transfer
from crossprop.reporting.part import Row
from crossprop.reporting.statistics import geometric_mean, holm_adjusted
from crossprop.reporting.study_info import PaperFigures, PaperTable
from crossprop.reporting.target_results import TargetResults
from crossprop.reporting.wording import cell_name, markdown_table, number

SIGNIFICANCE = 0.05

THEIRS: Mapping[str, Callable[[PaperFigures], float | None]] = {
    "best SC": lambda figures: figures.sc_mae_table4_or_5,
    "best TL": best_transfer,
    "lowest": lambda figures: figures.lowest_mae,
}
"""The paper's columns: SC of Table 4 or 5, the lower TL of Tables 2 and 3 or that of 5, the lowest of all."""

OURS: Mapping[str, Callable[[TargetResults], CellResult | None]] = {
    "best SC": lambda target: target.best_sc,
    "best TL": lambda target: target.best_tl,
    "paper's methods": lambda target: target.paper_winner,
    "winner": lambda target: target.winner,
}
"""Our models: best SC and TL and the better of the two, of the paper's methods; the winner of all methods."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """One of our models against one of the paper's columns.

    Attributes:
        ours: Which of our models, by its name in ``OURS``.
        theirs: Which of the paper's columns, by its name in ``THEIRS``.
        entries: The targets that have both, in the study's order.
        p_adjusted: p of "our error equals the published one" after Holm's correction over these targets.
    """

    ours: str
    theirs: str
    entries: tuple[Entry, ...]
    p_adjusted: tuple[float, ...]

    def count(self, outcome: Outcome, *, ensemble: bool = False) -> int:
        """Targets with this outcome, of the best fold model or of the mean of all."""
        return sum((e.ensemble_outcome if ensemble else e.outcome) is outcome for e in self.entries)

    def beyond_noise(self, outcome: Outcome) -> int:
        """Wins or losses whose corrected p is below 0.05."""
        pairs = zip(self.entries, self.p_adjusted, strict=True)
        return sum(entry.outcome is outcome and p < SIGNIFICANCE for entry, p in pairs)

    @property
    def ratio(self) -> float:
        """Geometric mean of our errors over the published ones."""
        return geometric_mean([entry.ratio for entry in self.entries if entry.ratio])

    @property
    def ensemble_ratio(self) -> float:
        """The same of the mean of all fold models."""
        return geometric_mean([entry.ensemble_ratio for entry in self.entries if entry.ensemble_ratio])

    def told(self) -> str:
        """``9–1–2``: wins, ties, losses."""
        return "–".join(str(self.count(outcome)) for outcome in Outcome)


def tallies(results: Sequence[TargetResults], paper: PaperTable) -> list[Tally]:
    """Every model of ours against every column of the paper, over the targets that have both."""
    own = any(cell.method.ours for target in results for cell in target.cells)
    made = []
    for ours, choose in OURS.items():
        if ours == "winner" and not own:
            continue
        for theirs, published in THEIRS.items():
            entries = []
            for target in results:
                cell, figures = choose(target), paper.get(target.info.key)
                reference = published(figures) if figures else None
                if cell is not None and reference is not None:
                    entries.append(enter(target, [cell], reference))
            p_values = [1.0 if entry.p_value is None else entry.p_value for entry in entries]
            made.append(
                Tally(
                    ours=ours,
                    theirs=theirs,
                    entries=tuple(entries),
                    p_adjusted=tuple(holm_adjusted(p_values)),
                )
            )
    return [tally for tally in made if tally.entries]


def tally_rows(made: Sequence[Tally]) -> list[Row]:
    """One row per pair of models."""
    return [
        {
            "ours": tally.ours,
            "paper": tally.theirs,
            "targets": len(tally.entries),
            **{f"{outcome}": tally.count(outcome) for outcome in Outcome},
            "wins_beyond_noise": tally.beyond_noise(Outcome.WIN),
            "losses_beyond_noise": tally.beyond_noise(Outcome.LOSS),
            "geometric_mean_ratio": tally.ratio,
            **{f"{outcome}_of_mean_of_folds": tally.count(outcome, ensemble=True) for outcome in Outcome},
            "geometric_mean_ratio_of_mean_of_folds": tally.ensemble_ratio,
        }
        for tally in made
    ]


def contest_rows(results: Sequence[TargetResults], made: Sequence[Tally]) -> list[Row]:
    """One row per target and pair of models: both errors, the outcome and the run."""
    units = {target.info.key: target.info for target in results}
    return [
        {
            "target": entry.target,
            "label": units[entry.target].label,
            "unit": units[entry.target].unit,
            "ours": tally.ours,
            "cell": cell_name(entry.cell),
            "mae": entry.mae,
            "standard_error": entry.standard_error,
            "mae_of_mean_of_folds": entry.ensemble_mae,
            "paper": tally.theirs,
            "paper_mae": entry.published,
            "ratio": entry.ratio,
            "outcome": entry.outcome,
            "outcome_of_mean_of_folds": entry.ensemble_outcome,
            "p_holm": p,
            "run_id": entry.run_id,
        }
        for tally in made
        for entry, p in zip(tally.entries, tally.p_adjusted, strict=True)
    ]


def tally_markdown(made: Sequence[Tally]) -> str:
    """Rows are our models, columns the paper's; ``wins–ties–losses`` with the mean ratio below."""
    names = {
        "best SC": "best SC, paper's methods",
        "best TL": "best TL, paper's methods",
        "paper's methods": "the better of these two",
        "winner": "**winner of all methods, ours included**",
    }
    lines = []
    for ours, name in names.items():
        of_row = {tally.theirs: tally for tally in made if tally.ours == ours}
        if of_row:
            lines.append([name, *(_told(of_row.get(theirs)) for theirs in THEIRS)])
    header = ["ours ↓ against the paper's →", *(f"{theirs}" for theirs in THEIRS)]
    return markdown_table(header, lines)


def losses(tally: Tally, labels: Mapping[str, str]) -> list[str]:
    """Targets that we lose, with the ratio, the worst first."""
    lost = [entry for entry in tally.entries if entry.outcome is Outcome.LOSS]
    lost.sort(key=lambda entry: -(entry.ratio or 0.0))
    return [f"{labels[entry.target]} ({entry.ratio:.2f})" for entry in lost]


def median_beats(target: TargetResults, figures: PaperFigures) -> list[str]:
    """Published models of a target whose error is above that of predicting the median."""
    base = target.base
    if base is None or base.test_mae_median is None:
        return []
    published = {
        "SC of Tables 2 and 3": figures.sc_ef_mae_table2,
        "TL of Table 2": figures.tl_mae_table2,
        "TL of Table 3": figures.tl_mae_table3_or_5,
        "SC of Table 4": figures.sc_mae_table4_or_5,
    }
    if figures.sc_ef_mae_table2 is None:
        published = {"TL of Table 5": figures.tl_mae_table3_or_5, "SC of Table 5": figures.sc_mae_table4_or_5}
    return [
        f"{name} ({mae:g})"
        for name, mae in published.items()
        if mae is not None and base.test_mae_median < mae
    ]


def base_rows(results: Sequence[TargetResults], paper: PaperTable) -> list[Row]:
    """The Base row of every target: the mean as in the paper, the median beside it."""
    rows: list[Row] = []
    for target in results:
        figures, base = paper.get(target.info.key), target.base
        rows.append(
            {
                "target": target.info.key,
                "label": target.info.label,
                "unit": target.info.unit,
                "mae_of_mean": target.base_mae,
                "mae_of_median": base.test_mae_median if base else None,
                "paper_base": figures.base_mae if figures else None,
                "median_beats": "; ".join(median_beats(target, figures)) if figures else None,
                "run_id": target.run_id(base),
            }
        )
    return rows


def _told(tally: Tally | None) -> str:
    if tally is None:
        return "–"
    wins, lost = tally.beyond_noise(Outcome.WIN), tally.beyond_noise(Outcome.LOSS)
    means = (
        ""
        if not tally.ensemble_ratio > 0
        else (
            "<br>folds' mean: "
            + "–".join(str(tally.count(outcome, ensemble=True)) for outcome in Outcome)
            + f", ratio {number(tally.ensemble_ratio, 3)}"
        )
    )
    return f"**{tally.told()}**, ratio {number(tally.ratio, 3)}<br>beyond noise {wins} to {lost}{means}"
