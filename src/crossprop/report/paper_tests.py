"""Exact sign tests: ours, Holm-corrected over the family, beside the paper's counts and stated p-values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from crossprop.experiments.results import CellResult
from crossprop.report.paper import (
    STATED_FINE_TUNING,
    STATED_MAE,
    STATED_Q95,
    TABLES,
    Entry,
    Outcome,
    PublishedTable,
    StatedTest,
    best_transfer,
    enter,
    published_wins,
    table_lines,
)
from crossprop.report.part import Part, Row, cell_name, markdown_table, number
from crossprop.report.statistics import (
    SignTest,
    geometric_mean,
    holm_adjusted,
    modified_against_plain,
    sign_test,
    sign_test_of_counts,
    transfer_against_scratch,
)
from crossprop.report.study import PaperFigures, PaperTable, TargetResults


@dataclass(frozen=True, kw_only=True)
class Question:
    """One sign test of ours with the paper's counterpart.

    Attributes:
        asked: "The first is lower than the second", in words.
        ours: Our counts and exact p.
        p_adjusted: After Holm's correction over all of our questions with a pair.
        paper: Exact test of the paper's counts; None where they are not known.
        paper_p: The p-value that the paper prints; None where it prints none.
    """

    asked: str
    ours: SignTest
    p_adjusted: float
    paper: SignTest | None
    paper_p: float | None


def questions(results: Sequence[TargetResults], paper: PaperTable) -> list[Question]:
    """All sign tests of a study; those on the paper's tables where it has targets of them."""
    asked: list[tuple[str, SignTest, SignTest | None, float | None]] = []
    for table in TABLES[:3]:
        test = _of_table(table, results, paper)
        if test.n + test.ties:
            wins, n = published_wins(
                paper, table.scratch_field, table.transfer_field, _keys(results, paper, table)
            )
            asked.append((f"TL lower than SC, MAE, Table {table.number}", test, _counts(wins, n), None))
    of_paper = [key for key in (t.info.key for t in results) if paper.get(key) is not None]
    wins, n = published_wins(paper, "sc_mae_table4_or_5", "tl_mae_table3_or_5", of_paper)
    whole = n == STATED_MAE.n
    best = transfer_against_scratch(results, "test_mae")
    asked.append(
        (
            "best TL lower than best SC, MAE, all targets",
            best,
            _counts(wins, n),
            STATED_MAE.p_value if whole else None,
        )
    )
    asked.append(
        (
            "the same, Q95 of the error",
            transfer_against_scratch(results, "test_q95"),
            *_stated(STATED_Q95, whole),
        )
    )
    asked.append(
        (
            "the same, MAE of the mean of fold models",
            transfer_against_scratch(results, "test_mae_ensemble"),
            None,
            None,
        )
    )
    asked.append(
        (
            "modified lower than plain fine-tuning, validation MAE, target × source",
            modified_against_plain(results),
            *_stated(STATED_FINE_TUNING, whole),
        )
    )
    kept = [question for question in asked if question[1].n + question[1].ties]
    adjusted = holm_adjusted([test.p_value for _, test, _, _ in kept])
    return [
        Question(asked=text, ours=test, p_adjusted=p, paper=theirs, paper_p=stated)
        for (text, test, theirs, stated), p in zip(kept, adjusted, strict=True)
    ]


def question_rows(asked: Sequence[Question]) -> list[Row]:
    """One row per test."""
    return [
        {
            "question": question.asked,
            "wins": question.ours.wins,
            "losses": question.ours.losses,
            "ties": question.ours.ties,
            "p_exact": question.ours.p_value,
            "p_holm": question.p_adjusted,
            "paper_wins": question.paper.wins if question.paper else None,
            "paper_losses": question.paper.losses if question.paper else None,
            "paper_p_exact": question.paper.p_value if question.paper else None,
            "paper_p_stated": question.paper_p,
        }
        for question in asked
    ]


def question_markdown(asked: Sequence[Question]) -> str:
    """The same as a person reads it."""
    header = ["one-tailed question", "ours", "exact p", "Holm", "paper", "its exact p", "its stated p"]
    lines = [
        [
            question.asked,
            _score(question.ours),
            _p(question.ours.p_value),
            _p(question.p_adjusted),
            _score(question.paper) if question.paper else "–",
            _p(question.paper.p_value) if question.paper else "–",
            "–" if question.paper_p is None else f"{question.paper_p:g}",
        ]
        for question in asked
    ]
    return markdown_table(header, lines)


def sign_tests_part(results: Sequence[TargetResults], paper: PaperTable) -> Part:
    """The section; what it says of the paper only beside its targets."""
    asked = questions(results, paper)
    if not asked:
        return Part()
    text = (
        "Exact binomial tests (scipy's `binomtest`), one-tailed, ties left out; “Holm” corrects ours over all "
        "questions of this table. Targets are treated as independent, which properties of the same materials are "
        "not quite."
    )
    if any(question.paper for question in asked):
        text += (
            " The paper's p-values are those of the normal approximation: the exact p of "
            f"{STATED_MAE.wins} of {STATED_MAE.n} is {_exact(STATED_MAE)}, not {STATED_MAE.p_value:g}, and that of "
            f"{STATED_Q95.wins} of {STATED_Q95.n} is {_exact(STATED_Q95)}, not {STATED_Q95.p_value:g}: its Q95 "
            "comparison is not significant at 0.05. Its counts are taken from its Tables 2 to 5, for the targets of "
            "this study; where it prints only a p-value, its counts are not known."
        )
    tables = {"tables/sign_tests.csv": question_rows(asked)}
    return Part(title="Sign tests", text=f"{text}\n\n{question_markdown(asked)}", tables=tables)


def _exact(test: StatedTest) -> str:
    return f"{sign_test_of_counts(test.wins or 0, test.n - (test.wins or 0)).p_value:.4f}"


def _of_table(table: PublishedTable, results: Sequence[TargetResults], paper: PaperTable) -> SignTest:
    lines = table_lines(table, results, paper)
    pairs = [
        (line.transfer.mae, line.scratch.mae)
        for line in lines
        if line.transfer.mae is not None and line.scratch.mae is not None
    ]
    return sign_test([tl for tl, _ in pairs], [sc for _, sc in pairs])


def _keys(results: Sequence[TargetResults], paper: PaperTable, table: PublishedTable) -> list[str]:
    return [line.target.info.key for line in table_lines(table, results, paper)]


def _counts(wins: int, n: int) -> SignTest | None:
    return sign_test_of_counts(wins, n - wins) if n else None


def _stated(test: StatedTest, whole: bool) -> tuple[SignTest | None, float | None]:
    """The paper's test over all of its targets; nothing beside a study of some of them."""
    if not whole:
        return None, None
    return (None if test.wins is None else sign_test_of_counts(test.wins, test.n - test.wins)), test.p_value


def _score(test: SignTest) -> str:
    ties = f" ({test.ties} tied)" if test.ties else ""
    return f"{test.wins} of {test.n}{ties}"


def _p(p: float) -> str:
    """Two significant digits; small ones bounded."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}" if p >= 0.001 else f"{p:.4f}"


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
    own = any(cell.method.extension for target in results for cell in target.cells)
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
