"""Exact sign tests: ours, Holm-corrected over the family, beside the paper's counts and stated p-values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crossprop.reporting.comparisons import modified_against_plain, transfer_against_scratch
from crossprop.reporting.paper.published import (
    STATED_FINE_TUNING,
    STATED_MAE,
    STATED_Q95,
    StatedTest,
    published_wins,
)
from crossprop.reporting.paper.tables import TABLES, PublishedTable, table_lines
from crossprop.reporting.part import Part, Row
from crossprop.reporting.statistics import SignTest, holm_adjusted, sign_test, sign_test_of_counts
from crossprop.reporting.study_info import PaperTable
from crossprop.reporting.target_results import TargetResults
from crossprop.reporting.wording import markdown_table


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
