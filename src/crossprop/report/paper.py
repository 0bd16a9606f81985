"""This study beside Gupta et al. 2021: its Tables 2 to 5, wins and losses, sign tests, and the Base row."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from crossprop.data.catalog import PaperFigures
from crossprop.experiments.results import CellResult
from crossprop.methods import Representation, Side
from crossprop.report import figures as draw
from crossprop.report import statistics as stats
from crossprop.report.pages import Section
from crossprop.report.study import TargetResults, best_transfer, best_validated
from crossprop.report.tables import cell_name, number, status, table_of
from crossprop.uncertainty.grouped import p_against_constant, standard_error


class Outcome(StrEnum):
    """The error of this study against a published one."""

    WIN = "win"
    TIE = "tie"
    LOSS = "loss"


_ENTRY = [
    "cell", "status", "cross_validated", "cv_mae", "mae", "mae_low", "mae_high", "standard_error",
    "mae_of_mean_of_folds", "paper", "ratio", "outcome", "outcome_of_mean_of_folds", "run_id", "p_value",
]  # fmt: skip


def judge(mae: float | None, error: float | None, published: float | None) -> Outcome | None:
    """A tie where the two are within one standard error of this study's, else a win for the lower one."""
    if mae is None or published is None:
        return None
    if error is not None and abs(mae - published) <= error:
        return Outcome.TIE
    return Outcome.WIN if mae < published else Outcome.LOSS


def compare(target: TargetResults, cells: Sequence[CellResult], published: float | None) -> dict[str, Any]:
    """The best cell by cross-validation beside a published error, as columns; without one the status of the nearest."""
    entry = dict.fromkeys(_ENTRY) | {"paper": published}
    best = best_validated(cells)
    if best is None:
        shown = min(cells, key=lambda c: np.inf if c.val_mae is None else c.val_mae, default=None)
        reached = "not in this study" if shown is None else f"{status(shown)}: {cell_name(shown)}"
        if shown is not None and shown.val_mae is not None:
            reached += f" (screening MAE {number(shown.val_mae)})"
        none = f"0 of {len(cells)}"
        return entry | {"status": reached, "cross_validated": none, "run_id": target.run_id(shown)}
    rows = target.hold_out(best)
    true, pred, mean = (rows[c].to_numpy(dtype=float) for c in ("y_true", "y_pred", "y_pred_ensemble"))
    errors, of_mean, together = np.abs(true - pred), np.abs(true - mean), rows["together"].to_numpy()
    mae, error = best.test_mae, standard_error(errors, together)
    validated = sum(cell.cv_mae is not None and cell.failure is None for cell in cells)
    ensemble = best.test_mae_ensemble if np.isfinite(of_mean).all() else None
    entry |= {"cell": cell_name(best), "status": status(best), "run_id": target.run_id(best)}
    entry |= {"cross_validated": f"{validated} of {len(cells)}", "cv_mae": best.cv_mae_mean}
    entry |= {"mae": mae, "mae_low": best.test_mae_low, "mae_high": best.test_mae_high}  # of its best fold
    return entry | {
        "standard_error": error,
        "mae_of_mean_of_folds": ensemble,
        "ratio": mae / published if mae is not None and published else None,
        "outcome": judge(mae, error, published),
        "outcome_of_mean_of_folds": judge(ensemble, standard_error(of_mean, together), published),
        "p_value": None if published is None else p_against_constant(errors, together, published),
    }


@cache
def paper_sources() -> pd.DataFrame:
    """The paper's six sources, the most successful first: whether in Table 2, and of how many wins in Table 4."""
    with files("crossprop.report").joinpath("paper_sources.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, index_col="source").assign(table_2=lambda table: table["table_2"] == "yes")


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """One of the paper's tables: the columns it prints, and which cells of this study stand beside them."""

    title: str
    experimental: bool = False
    only_fractions: bool = False
    only_table_2_source: bool = False
    scratch_field: str = "sc_mae_table4_or_5"
    transfer_field: str = "tl_mae_table3_or_5"

    def holds(self, figures: PaperFigures | None) -> bool:
        """Whether a target stands in this table: only those of Table 5 are not in Tables 2 to 4."""
        return figures is not None and (figures.sc_ef_mae_table2 is None) is self.experimental

    def takes(self, cell: CellResult) -> bool:
        """Whether a cell of the paper's methods may stand in the column of its side."""
        if cell.method.extension:
            return False
        if cell.method.side is Side.TRANSFER:
            return not self.only_table_2_source or bool(paper_sources()["table_2"].get(cell.source, False))
        fractions = cell.representation is Representation.ELEMENTAL_FRACTIONS
        return cell.method.side is Side.SCRATCH and (fractions or not self.only_fractions)

    def cells(self, target: TargetResults, side: Side) -> list[CellResult]:
        """The cells of a target that may stand in the column of a side."""
        return [cell for cell in target.cells if cell.method.side is side and self.takes(cell)]


TABLES: Mapping[int, PublishedTable] = {
    2: PublishedTable(
        title="one source: SC on elemental fractions against TL from formation energy alone",
        only_fractions=True,
        only_table_2_source=True,
        scratch_field="sc_ef_mae_table2",
        transfer_field="tl_mae_table2",
    ),
    3: PublishedTable(
        title="all sources: SC on elemental fractions against the best TL of any source",
        only_fractions=True,
        scratch_field="sc_ef_mae_table2",
    ),
    4: PublishedTable(
        title="physical attributes allowed: SC on either representation against the best TL of any source"
    ),
    5: PublishedTable(
        title="the experimental sets: SC on either representation against TL (the paper's from two sources)",
        experimental=True,
    ),
}


def reproduced_tables(results: Sequence[TargetResults]) -> dict[int, pd.DataFrame]:
    """The paper's tables with this study's numbers, by number: the targets of each of which the study has a cell."""
    held = {
        n: [t for t in results if table.holds(t.paper) and any(map(table.takes, t.cells))]
        for n, table in TABLES.items()
    }
    rows = {n: [_reproduced_row(TABLES[n], target) for target in targets] for n, targets in held.items()}
    return {n: table_of(of_table) for n, of_table in rows.items() if of_table}


def _reproduced_row(table: PublishedTable, target: TargetResults) -> dict[str, Any]:
    assert target.paper is not None
    columns = {"sc": (Side.SCRATCH, table.scratch_field), "tl": (Side.TRANSFER, table.transfer_field)}
    entries = {
        name: compare(target, table.cells(target, side), getattr(target.paper, field))
        for name, (side, field) in columns.items()
    }
    scratch, transfer = (entry["mae"] for entry in entries.values())
    return {
        **target.described,
        "n_train": target.cells[0].n_train,
        "n_test": target.cells[0].n_test,
        "folds": target.folds,
        "base_mae": target.base_mae,
        "base_mae_of_median": target.base_mae_of_median,
        "base_paper": target.paper.base_mae,
        "base_run_id": target.run_id(target.base),
        **{f"{name}_{key}": entry[key] for name, entry in entries.items() for key in _ENTRY[:-1]},
        "tl_lower_than_sc": None if scratch is None or transfer is None else transfer < scratch,
    }


def paper_sections(reproduced: Mapping[int, pd.DataFrame]) -> list[Section]:
    """One section for each reproduced table."""
    sections = []
    for n, table in reproduced.items():
        printed = table.dropna(subset=["sc_paper", "tl_paper"])
        context = {
            "title": f"Table {n}: {TABLES[n].title}",
            "rows": table.to_dict("records"),
            "lower": table["tl_lower_than_sc"].dropna().tolist(),
            "lower_published": (printed["tl_paper"] < printed["sc_paper"]).tolist(),
        }
        sections.append(Section(context=context, tables={f"tables/table_{n}.csv": table}))
    return sections


PUBLISHED: Mapping[str, Callable[[PaperFigures], float | None]] = {
    "best SC": lambda figures: figures.sc_mae_table4_or_5,
    "best TL": best_transfer,
    "lowest": lambda figures: figures.lowest_mae,
}
"""The paper's columns: SC of Table 4 or 5, the lower TL of Tables 2 and 3 or that of 5, the lowest of all."""

_AGAINST_PAPER = [
    "target", "label", "unit", "ours", "cell", "mae", "standard_error", "mae_of_mean_of_folds", "paper", "paper_mae",
    "ratio", "outcome", "outcome_of_mean_of_folds", "p_holm", "run_id",
]  # fmt: skip
# Models of this study by name, with their attribute of ``TargetResults``.
MODELS = {"best SC": "best_sc", "best TL": "best_tl", "paper's methods": "paper_winner", "winner": "winner"}


def against_paper_section(results: Sequence[TargetResults]) -> Section | None:
    """Wins, ties and losses for the main page; None where the paper has none of the targets."""
    entries = entry_table(results)
    if entries.empty:
        return None
    counts = tally_table(entries)
    last = counts.iloc[-1]
    of_last = (entries["ours"] == last["ours"]) & (entries["paper"] == last["paper"])
    lost = entries[of_last & (entries["outcome"] == Outcome.LOSS)]
    context = {
        "tallies": {(row["ours"], row["paper"]): row for row in counts.to_dict("records")},
        "models": counts["ours"].unique(),
        "columns": list(PUBLISHED),
        "targets": last["targets"],
        "extended": last["ours"] == "winner",
        "lost": lost.sort_values("ratio", ascending=False, kind="stable").to_dict("records"),
    }
    tables = {"tables/against_paper.csv": counts, "tables/against_paper_by_target.csv": entries}
    figure = partial(draw.against_paper, results)
    return Section(context=context, tables=tables, figures={"ours_against_paper.png": figure})


def entry_table(results: Sequence[TargetResults]) -> pd.DataFrame:
    """One row per model of this study (``ours``), column of the paper and target; ``p_holm`` over a pair's targets."""
    extended = any(cell.method.extension for target in results for cell in target.cells)
    rows = []
    for model, attribute in MODELS.items():
        for column, published in PUBLISHED.items():
            for target in results:
                cell = getattr(target, attribute)
                error = published(target.paper) if target.paper else None
                if cell is not None and error is not None and (extended or model != "winner"):
                    pair = {"ours": model, "paper": column, "paper_mae": error}
                    rows.append(target.described | compare(target, [cell], error) | pair)
    table = table_of(rows)
    if table.empty:
        return table
    pairs = table["p_value"].astype(float).groupby([table["ours"], table["paper"]])
    adjusted = pairs.transform(lambda p: pd.Series(stats.holm_adjusted(p.tolist()), p.index))
    return table.assign(p_holm=adjusted)[_AGAINST_PAPER]


def tally_table(entries: pd.DataFrame) -> pd.DataFrame:
    """Wins, ties and losses of every pair of models in :func:`entry_table`, and the geometric mean of the ratios."""
    rows = []
    for (model, column), pair in entries.groupby(["ours", "paper"], sort=False):
        outcomes, of_means = Counter(pair["outcome"]), Counter(pair["outcome_of_mean_of_folds"])
        beyond = Counter(pair.loc[pair["p_holm"] < stats.SIGNIFICANCE, "outcome"])
        of_means_ratios = (pair["mae_of_mean_of_folds"] / pair["paper_mae"]).dropna()
        rows.append(
            {
                "ours": model,
                "paper": column,
                "targets": len(pair),
                **{str(outcome): outcomes[outcome] for outcome in Outcome},
                "wins_beyond_noise": beyond[Outcome.WIN],
                "losses_beyond_noise": beyond[Outcome.LOSS],
                "geometric_mean_ratio": stats.geometric_mean(pair["ratio"]),
                **{f"{outcome}_of_mean_of_folds": of_means[outcome] for outcome in Outcome},
                "geometric_mean_ratio_of_mean_of_folds": stats.geometric_mean(of_means_ratios),
            }
        )
    return table_of(rows)


# Of the paper: wins and losses, and the p that it prints, which is of the normal approximation.
STATED_MAE = (stats.SignTest(29, 12), 0.00397)
STATED_Q95 = (stats.SignTest(26, 15), 0.04291)
STATED_FINE_TUNING_P = 0.00104  # over 234 pairs; the wins are not printed


def sign_test_table(results: Sequence[TargetResults], reproduced: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """All sign tests that have a pair, beside the paper's; ``p_holm`` is corrected over all of them."""
    asked: dict[str, tuple[stats.SignTest, stats.SignTest | None, float | None]] = {
        f"TL lower than SC, MAE, Table {n}": (_lower(table, "mae"), _lower(table, "paper"), None)
        for n, table in reproduced.items()
        if n in (2, 3, 4)
    }
    whole_paper = [reproduced[n] for n in (4, 5) if n in reproduced]
    every = _lower(pd.concat(whole_paper), "paper") if whole_paper else None
    whole = every is not None and every.n == STATED_MAE[0].n  # what the paper states is of all of its targets
    fields = ("test_mae", "test_q95", "test_mae_ensemble")
    mae, q95, ensemble = (stats.transfer_against_scratch(results, field) for field in fields)
    tuning, stated = stats.modified_against_plain(results), STATED_FINE_TUNING_P if whole else None
    asked |= {
        "best TL lower than best SC, MAE, all targets": (mae, every, STATED_MAE[1] if whole else None),
        "the same, Q95 of the error": (q95, *(STATED_Q95 if whole else (None, None))),
        "the same, MAE of the mean of fold models": (ensemble, None, None),
        "modified lower than plain fine-tuning, validation MAE, target × source": (tuning, None, stated),
    }
    kept = {question: tests for question, tests in asked.items() if tests[0].n + tests[0].ties}
    adjusted = stats.holm_adjusted([test.p_value for test, *_ in kept.values()])
    rows = [
        {
            "question": question,
            **vars(test),
            "p_exact": test.p_value,
            "p_holm": p,
            "paper_wins": theirs.wins if theirs and theirs.n else None,
            "paper_losses": theirs.losses if theirs and theirs.n else None,
            "paper_p_exact": theirs.p_value if theirs and theirs.n else None,
            "paper_p_stated": paper_p,
        }
        for (question, (test, theirs, paper_p)), p in zip(kept.items(), adjusted, strict=True)
    ]
    return table_of(rows)


def _lower(table: pd.DataFrame, column: str) -> stats.SignTest:
    """Sign test of "TL is lower than SC" of a reproduced table: of this study (``mae``) or the paper (``paper``)."""
    known = table.dropna(subset=[f"tl_{column}", f"sc_{column}"])
    return stats.sign_test(known[f"tl_{column}"].tolist(), known[f"sc_{column}"].tolist())


def sign_tests_section(table: pd.DataFrame) -> Section | None:
    """The section with :func:`sign_test_table`; it mentions the paper only beside its targets."""
    if table.empty:
        return None
    paper_n = (table["paper_wins"] + table["paper_losses"]).where(table["paper_wins"].notna(), None)
    context = {
        "rows": table.assign(n=table["wins"] + table["losses"], paper_n=paper_n),
        "of_paper": bool(table["paper_wins"].notna().any()),
        "stated": [STATED_MAE, STATED_Q95],
    }
    return Section(context=context, tables={"tables/sign_tests.csv": table})


def base_section(results: Sequence[TargetResults]) -> Section:
    """The Base row of every target of the paper: the mean as in the paper, the median beside it."""
    rows = [
        {
            **target.described,
            "mae_of_mean": target.base_mae,
            "mae_of_median": target.base_mae_of_median,
            "paper_base": target.paper.base_mae,
            "median_beats": "; ".join(median_beats(target.base_mae_of_median, target.paper)),
            "run_id": target.run_id(target.base),
        }
        for target in results
        if target.paper
    ]
    table = table_of(rows)
    if table.empty:
        return Section(context={"rows": table, "beaten": []})
    stated = table[table["paper_base"].notna()]
    context = {"rows": table, "beaten": table[table["median_beats"] != ""].to_dict("records")}
    return Section(context=context, tables={} if stated.empty else {"tables/base.csv": stated})


def median_beats(median: float | None, figures: PaperFigures) -> list[str]:
    """Published models of a target whose error is above that of predicting the median."""
    published = {
        "SC of Tables 2 and 3": figures.sc_ef_mae_table2,
        "TL of Table 2": figures.tl_mae_table2,
        "TL of Table 3": figures.tl_mae_table3_or_5,
        "SC of Table 4": figures.sc_mae_table4_or_5,
    }
    if TABLES[5].holds(figures):
        published = {"TL of Table 5": figures.tl_mae_table3_or_5, "SC of Table 5": figures.sc_mae_table4_or_5}
    if median is None:
        return []
    return [f"{name} ({mae:g})" for name, mae in published.items() if mae is not None and median < mae]
