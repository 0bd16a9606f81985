"""This study against the paper: wins, ties and losses by target, and the sign tests of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from crossprop.data.catalog import PaperFigures
from crossprop.experiments.results import CellResult
from crossprop.methods import Side
from crossprop.report import figures as draw
from crossprop.report.pages import Section
from crossprop.report.paper import Outcome, compare
from crossprop.report.statistics import (
    SIGNIFICANCE,
    SignTest,
    geometric_mean,
    holm_adjusted,
    modified_against_plain,
    sign_test,
    transfer_against_scratch,
)
from crossprop.report.study import PaperTable, TargetResults, best_transfer
from crossprop.report.tables import cell_name, described, records, table_of


@dataclass(frozen=True)
class StatedTest:
    """A sign test of the paper: wins (None if not printed), pairs, and the one-tailed p-value that it prints."""

    wins: int | None
    n: int
    p_value: float

    @property
    def exact(self) -> SignTest | None:
        """The exact test of the same counts; the printed p is that of the normal approximation."""
        return None if self.wins is None else SignTest(self.wins, self.n - self.wins)


STATED_MAE = StatedTest(29, 41, 0.00397)
STATED_Q95 = StatedTest(26, 41, 0.04291)
STATED_FINE_TUNING = StatedTest(None, 234, 0.00104)

PUBLISHED: Mapping[str, Callable[[PaperFigures], float | None]] = {
    "best SC": lambda figures: figures.sc_mae_table4_or_5,
    "best TL": best_transfer,
    "lowest": lambda figures: figures.lowest_mae,
}
"""The paper's columns: SC of Table 4 or 5, the lower TL of Tables 2 and 3 or that of 5, the lowest of all."""

MODELS: Mapping[str, tuple[str, Callable[[TargetResults], CellResult | None]]] = {
    "best SC": ("best SC, paper's methods", lambda target: target.best_sc),
    "best TL": ("best TL, paper's methods", lambda target: target.best_tl),
    "paper's methods": ("the better of these two", lambda target: target.paper_winner),
    "winner": ("**winner of all methods, extension methods included**", lambda target: target.winner),
}
"""Models of this study by name, with what a page calls them."""

_FINDINGS = {
    ("best SC", "best SC"): "Best SC of this study against the paper's best SC",
    ("best TL", "best TL"): "Best TL of this study against the paper's best TL",
    ("paper's methods", "lowest"): "The better of the two against the lowest MAE anywhere in the paper",
    (
        "winner",
        "lowest",
    ): "The winner, extension methods included, against the lowest MAE anywhere in the paper",
}


def against_paper_section(results: Sequence[TargetResults], paper: PaperTable) -> Section | None:
    """Wins, ties and losses for the main page; None where the paper has none of the targets."""
    entries = entry_table(results, paper)
    if entries.empty:
        return None
    counts = tally_table(entries)
    last = counts.iloc[-1]
    lost = entries[(entries["ours"] == last["ours"]) & (entries["paper"] == last["paper"])]
    lost = lost[lost["outcome"] == Outcome.LOSS].sort_values("ratio", ascending=False, kind="stable")
    by_pair = {(row["ours"], row["paper"]): row for row in records(counts)}
    context = {
        "tallies": by_pair,
        "models": {
            model: name for model, (name, _) in MODELS.items() if any(model == of for of, _ in by_pair)
        },
        "columns": list(PUBLISHED),
        "targets": last["targets"],
        "extended": last["ours"] == "winner",
        "lost": [f"{label} ({ratio:.2f})" for label, ratio in zip(lost["label"], lost["ratio"], strict=True)],
        "findings": [(text, by_pair[pair]) for pair, text in _FINDINGS.items() if pair in by_pair],
    }
    tables = {"tables/against_paper.csv": counts, "tables/against_paper_by_target.csv": entries}
    figure = partial(draw.against_paper, results, paper)
    return Section(context=context, tables=tables, figures={"ours_against_paper.png": figure})


def entry_table(results: Sequence[TargetResults], paper: PaperTable) -> pd.DataFrame:
    """One row per model of this study (``ours``), column of the paper and target: both errors and the outcome.

    ``p_holm`` is the p of "the error equals the published one", corrected over the targets of the pair.
    """
    extended = any(cell.method.extension for target in results for cell in target.cells)
    rows: list[dict[str, Any]] = []
    for model, (_, choose) in MODELS.items():
        if model == "winner" and not extended:
            continue
        for column, published in PUBLISHED.items():
            pair = []
            for target in results:
                cell, figures = choose(target), paper.get(target.info.key)
                if cell is not None and figures is not None and (error := published(figures)) is not None:
                    entry = compare(target, [cell], error)
                    pair.append(
                        {**described(target), **entry, "ours": model, "paper": column, "paper_mae": error}
                    )
            adjusted = holm_adjusted(
                [1.0 if entry["p_value"] is None else entry["p_value"] for entry in pair]
            )
            rows += [{**entry, "p_holm": p} for entry, p in zip(pair, adjusted, strict=True)]
    columns = [
        *(
            "target",
            "label",
            "unit",
            "ours",
            "cell",
            "mae",
            "standard_error",
            "mae_of_mean_of_folds",
            "paper",
        ),
        *("paper_mae", "ratio", "outcome", "outcome_of_mean_of_folds", "p_holm", "run_id"),
    ]
    return table_of(rows)[columns] if rows else table_of(rows)


def tally_table(entries: pd.DataFrame) -> pd.DataFrame:
    """Wins, ties and losses of every pair of models in :func:`entry_table`, and the geometric mean of the ratios."""
    rows = []
    for (model, column), pair in entries.groupby(["ours", "paper"], sort=False):
        beyond = pair["outcome"][pair["p_holm"] < SIGNIFICANCE]
        ensembles = pair[pair["mae_of_mean_of_folds"].notna()]
        rows.append(
            {
                "ours": model,
                "paper": column,
                "targets": len(pair),
                **{str(outcome): int((pair["outcome"] == outcome).sum()) for outcome in Outcome},
                "wins_beyond_noise": int((beyond == Outcome.WIN).sum()),
                "losses_beyond_noise": int((beyond == Outcome.LOSS).sum()),
                "geometric_mean_ratio": geometric_mean(pair["ratio"]),
                **{
                    f"{outcome}_of_mean_of_folds": int((pair["outcome_of_mean_of_folds"] == outcome).sum())
                    for outcome in Outcome
                },
                "geometric_mean_ratio_of_mean_of_folds": geometric_mean(
                    ensembles["mae_of_mean_of_folds"] / ensembles["paper_mae"]
                ),
            }
        )
    return table_of(rows)


def sign_test_table(results: Sequence[TargetResults], reproduced: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """All sign tests of a study beside the paper's; those on the paper's tables where it has targets of them.

    ``p_holm`` is corrected over all questions that have a pair; the others are left out.
    """
    whole_paper = pd.concat([reproduced[n] for n in (4, 5) if n in reproduced] or [pd.DataFrame()])
    every = _lower(whole_paper, "paper")
    asked: list[tuple[str, SignTest, SignTest | None, float | None]] = []
    for n in (2, 3, 4):
        if n in reproduced:
            here, theirs = _lower(reproduced[n], "mae"), _lower(reproduced[n], "paper")
            asked.append((f"TL lower than SC, MAE, Table {n}", here, theirs, None))
    mae, q95, ensemble = (
        transfer_against_scratch(results, f"test_{name}") for name in ("mae", "q95", "mae_ensemble")
    )
    tuning = "modified lower than plain fine-tuning, validation MAE, target × source"
    whole = every.n == STATED_MAE.n  # what the paper states is of all of its targets
    stated = [(one.exact, one.p_value) if whole else (None, None) for one in (STATED_Q95, STATED_FINE_TUNING)]
    asked += [
        ("best TL lower than best SC, MAE, all targets", mae, every, STATED_MAE.p_value if whole else None),
        ("the same, Q95 of the error", q95, *stated[0]),
        ("the same, MAE of the mean of fold models", ensemble, None, None),
        (tuning, modified_against_plain(results), *stated[1]),
    ]
    kept = [question for question in asked if question[1].n + question[1].ties]
    adjusted = holm_adjusted([test.p_value for _, test, _, _ in kept])
    return table_of(
        [
            {
                "question": question,
                "wins": test.wins,
                "losses": test.losses,
                "ties": test.ties,
                "p_exact": test.p_value,
                "p_holm": p,
                "paper_wins": theirs.wins if theirs and theirs.n else None,
                "paper_losses": theirs.losses if theirs and theirs.n else None,
                "paper_p_exact": theirs.p_value if theirs and theirs.n else None,
                "paper_p_stated": paper_p,
            }
            for (question, test, theirs, paper_p), p in zip(kept, adjusted, strict=True)
        ]
    )


def _lower(table: pd.DataFrame, column: str) -> SignTest:
    """Sign test of "TL is lower than SC" of reproduced tables: of this study (``mae``) or the paper (``paper``)."""
    known = table.dropna(subset=[f"tl_{column}", f"sc_{column}"]) if len(table) else table
    return sign_test(*(known[f"{side}_{column}"].tolist() if len(table) else [] for side in ("tl", "sc")))


def sign_tests_section(table: pd.DataFrame) -> Section | None:
    """The section with :func:`sign_test_table`; it mentions the paper only beside its targets."""
    if table.empty:
        return None
    n = table["wins"] + table["losses"]
    of_paper = table["paper_wins"].notna()
    context = {
        "rows": table.assign(
            n=n, paper_n=(table["paper_wins"] + table["paper_losses"]).where(of_paper, None)
        ),
        "of_paper": bool(of_paper.any()),
        "stated": [STATED_MAE, STATED_Q95],
    }
    return Section(context=context, tables={"tables/sign_tests.csv": table})


def plain_section(results: Sequence[TargetResults]) -> Section | None:
    """The winners beside the two models that need no tuning; None in a study without them."""
    rows = []
    for target in results:
        plain = {
            cell.method.notation: cell.test_mae_ensemble
            for cell in target.cells
            if cell.method.side is Side.PLAIN and cell.test_mae_ensemble is not None
        }
        error = target.winner.test_mae_ensemble if target.winner else None
        if not plain or error is None:
            continue
        better = min(plain.values())
        rows.append(
            {
                **described(target),
                **{name: plain.get(name) for name in ("plain baseline", "plain median")},
                "winner": cell_name(target.winner),
                "winner_mae": error,
                "ratio": error / better if better else None,
            }
        )
    if not rows:
        return None
    ratios = [float(row["ratio"]) for row in rows if row["ratio"]]
    context = {
        "rows": table_of(rows),
        "n": len(ratios),
        "lower": sum(ratio < 1 for ratio in ratios),
        "mean_ratio": geometric_mean(ratios),
    }
    return Section(context=context, tables={"tables/plain.csv": table_of(rows)})
