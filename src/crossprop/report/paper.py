"""Tables 2 to 5 of Gupta et al. 2021, reproduced with the cells of this study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from crossprop.data.catalog import PaperFigures
from crossprop.experiments.results import CellResult
from crossprop.methods import Representation, Side
from crossprop.report.pages import Section
from crossprop.report.statistics import p_against_constant, standard_error
from crossprop.report.study import PaperTable, TargetResults, best_validated
from crossprop.report.tables import cell_name, described, number, records, status, table_of


class Outcome(StrEnum):
    """The error of this study against a published one."""

    WIN = "win"
    TIE = "tie"
    LOSS = "loss"


def judge(mae: float | None, error: float | None, published: float | None) -> Outcome | None:
    """A tie where the two are within one standard error of this study's, else a win for the lower one.

    >>> str(judge(1.00, 0.05, 1.04)), str(judge(1.00, 0.05, 1.06))
    ('tie', 'win')
    """
    if mae is None or published is None:
        return None
    if error is not None and abs(mae - published) <= error:
        return Outcome.TIE
    return Outcome.WIN if mae < published else Outcome.LOSS


def compare(
    target: TargetResults, candidates: Sequence[CellResult], published: float | None
) -> dict[str, Any]:
    """The best of some cells by cross-validation beside a published error, as columns of a table.

    ``mae`` is the hold-out error of its best fold model, as in the paper; ``p_value`` the two-sided p of "the error
    equals the published one". Where no cell was cross-validated, the numbers are None and ``status`` is that of the
    cell with the least screening error.
    """
    best = best_validated(candidates)
    validated = sum(cell.cv_mae is not None and cell.failure is None for cell in candidates)
    if best is None:
        screened = [cell for cell in candidates if cell.val_mae is not None]
        shown = (
            min(screened, key=lambda cell: cell.val_mae or 0.0) if screened else next(iter(candidates), None)
        )
        reached = "not in this study" if shown is None else f"{status(shown)}: {cell_name(shown)}"
        if shown is not None and shown.val_mae is not None:
            reached += f" (screening MAE {number(shown.val_mae)})"
        mae = error = p = ensemble = ensemble_error = None
    else:
        shown, reached = best, status(best)
        rows = target.hold_out(best)
        true, pred, mean = (rows[c].to_numpy(dtype=float) for c in ("y_true", "y_pred", "y_pred_ensemble"))
        errors, of_mean = np.abs(true - pred), np.abs(true - mean)
        mae, error = best.test_mae, standard_error(errors)
        p = None if published is None else p_against_constant(errors, published)
        ensemble = best.test_mae_ensemble if np.isfinite(of_mean).all() else None
        ensemble_error = standard_error(of_mean)
    return {
        "cell": cell_name(best) if best else None,
        "status": reached,
        "cross_validated": f"{validated if best else 0} of {len(candidates)}",
        "cv_mae": best.cv_mae_mean if best else None,
        "mae": mae,
        "mae_low": best.test_mae_low if best else None,
        "mae_high": best.test_mae_high if best else None,
        "standard_error": error,
        "mae_of_mean_of_folds": ensemble,
        "paper": published,
        "ratio": mae / published if mae is not None and published else None,
        "outcome": judge(mae, error, published),
        "outcome_of_mean_of_folds": judge(ensemble, ensemble_error, published),
        "run_id": target.run_id(shown),
        "p_value": p,
    }


@cache
def paper_sources() -> pd.DataFrame:
    """The paper's six sources, the most successful first, by their key in the catalogue.

    Columns: ``table_2`` (whether Table 2 transfers from it), ``table_4_wins`` (on how many of the 27 targets that
    TL won in Table 4 its network was transferred), ``validation_mae`` (of its network; NaN where not stated).
    """
    with files("crossprop.report").joinpath("paper_sources.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, index_col="source").assign(table_2=lambda table: table["table_2"] == "yes")


def is_experimental(figures: PaperFigures) -> bool:
    """Whether a target stands in Table 5, not in Tables 2 to 4."""
    return figures.sc_ef_mae_table2 is None


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """One of the paper's tables: the columns it prints, and which cells of this study stand beside them."""

    title: str
    experimental: bool = False
    only_fractions: bool = False
    only_table_2_source: bool = False
    scratch_field: str = "sc_mae_table4_or_5"
    transfer_field: str = "tl_mae_table3_or_5"

    def scratch(self, cell: CellResult) -> bool:
        """Whether a cell may stand in the SC column."""
        fractions = cell.representation is Representation.ELEMENTAL_FRACTIONS
        side = cell.method.side is Side.SCRATCH and not cell.method.extension
        return side and (fractions or not self.only_fractions)

    def transfer(self, cell: CellResult) -> bool:
        """Whether a cell may stand in the TL column."""
        side = cell.method.side is Side.TRANSFER and not cell.method.extension
        sources = paper_sources()
        return side and (not self.only_table_2_source or cell.source in sources.index[sources["table_2"]])


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
"""The paper's tables by their number."""


def reproduced_tables(results: Sequence[TargetResults], paper: PaperTable) -> dict[int, pd.DataFrame]:
    """The paper's tables with this study's numbers, by number; each has the targets that stand in it."""
    found = {}
    for n, table in TABLES.items():
        rows = [
            _reproduced_row(table, target, figures)
            for target in results
            if (figures := paper.get(target.info.key)) and is_experimental(figures) is table.experimental
        ]
        if rows:
            found[n] = table_of(rows)
    return found


def _reproduced_row(table: PublishedTable, target: TargetResults, figures: PaperFigures) -> dict[str, Any]:
    scratch, transfer = (
        compare(target, [cell for cell in target.cells if takes(cell)], getattr(figures, field))
        for takes, field in ((table.scratch, table.scratch_field), (table.transfer, table.transfer_field))
    )
    del scratch["p_value"], transfer["p_value"]
    known = scratch["mae"] is not None and transfer["mae"] is not None
    return {
        **described(target),
        "n_train": target.cells[0].n_train,
        "n_test": target.cells[0].n_test,
        "folds": target.info.folds,
        "base_mae": target.base_mae,
        "base_mae_of_median": target.base.test_mae_median if target.base else None,
        "base_paper": figures.base_mae,
        "base_run_id": target.run_id(target.base),
        **{f"sc_{name}": value for name, value in scratch.items()},
        **{f"tl_{name}": value for name, value in transfer.items()},
        "tl_lower_than_sc": transfer["mae"] < scratch["mae"] if known else None,
    }


def paper_sections(reproduced: Mapping[int, pd.DataFrame]) -> list[Section]:
    """One section for each reproduced table."""
    return [
        Section(
            context={
                "title": f"Table {n}: {TABLES[n].title}",
                "rows": records(table),
                "lower": table["tl_lower_than_sc"].dropna().tolist(),
                "lower_published": (table["tl_paper"] < table["sc_paper"])[
                    table["tl_paper"].notna() & table["sc_paper"].notna()
                ].tolist(),
                "outcomes": {
                    side.upper(): [int((table[f"{side}_outcome"] == outcome).sum()) for outcome in Outcome]
                    for side in ("sc", "tl")
                },
                "missing": {side.upper(): int(table[f"{side}_mae"].isna().sum()) for side in ("sc", "tl")},
            },
            tables={f"tables/table_{n}.csv": table},
        )
        for n, table in reproduced.items()
    ]


def base_section(results: Sequence[TargetResults], paper: PaperTable) -> Section:
    """The Base row of every target of the paper: the mean as in the paper, the median beside it."""
    known = [(target, figures) for target in results if (figures := paper.get(target.info.key))]
    table = table_of(
        [
            {
                **described(target),
                "mae_of_mean": target.base_mae,
                "mae_of_median": target.base.test_mae_median if target.base else None,
                "paper_base": figures.base_mae,
                "median_beats": "; ".join(median_beats(target, figures)),
                "run_id": target.run_id(target.base),
            }
            for target, figures in known
        ]
    )
    beaten = [(target, names) for target, figures in known if (names := median_beats(target, figures))]
    stated = table[table["paper_base"].notna()] if known else table
    tables = {} if stated.empty else {"tables/base.csv": stated}
    return Section(context={"rows": table, "beaten": beaten}, tables=tables)


def median_beats(target: TargetResults, figures: PaperFigures) -> list[str]:
    """Published models of a target whose error is above that of predicting the median."""
    median = target.base.test_mae_median if target.base else None
    if median is None:
        return []
    published = {
        "SC of Tables 2 and 3": figures.sc_ef_mae_table2,
        "TL of Table 2": figures.tl_mae_table2,
        "TL of Table 3": figures.tl_mae_table3_or_5,
        "SC of Table 4": figures.sc_mae_table4_or_5,
    }
    if is_experimental(figures):
        published = {"TL of Table 5": figures.tl_mae_table3_or_5, "SC of Table 5": figures.sc_mae_table4_or_5}
    return [f"{name} ({mae:g})" for name, mae in published.items() if mae is not None and median < mae]
