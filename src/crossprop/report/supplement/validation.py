"""Validation MAE of every cell: Supplementary Tables 5, 7, 9 and 11."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from crossprop.experiments.results import CellResult
from crossprop.methods import Method, Side
from crossprop.report.paper import TABLES, is_experimental
from crossprop.report.part import Drawing, Part, Row, cell_name, markdown_table, number, status, unit_name
from crossprop.report.study import PaperTable, TargetResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SUPPLEMENTARY: dict[str, tuple[str, bool, Callable[[CellResult], bool]]] = {
    f"table_s{number}.csv": (
        title,
        table.experimental,
        lambda cell, table=table: table.scratch(cell) or table.transfer(cell),  # type: ignore[misc]
    )
    for number, title, table in (
        (5, "elemental fractions, TL from Table 2's source", TABLES[0]),
        (7, "elemental fractions, TL from all sources", TABLES[1]),
        (9, "physical attributes for SC too", TABLES[2]),
        (11, "the experimental sets", TABLES[3]),
    )
}
"""File, what it holds, whether of the experimental sets, and which cells: those of the table they lead to."""


def validation_rows(
    results: Sequence[TargetResults], keep: Callable[[TargetResults, CellResult], bool] = lambda _t, _c: True
) -> list[Row]:
    """One row per cell: its screening and cross-validation MAE, how far it came, and its run."""
    return [
        {
            "target": target.info.key,
            "label": target.info.label,
            "unit": target.info.unit,
            "method": cell.method.notation,
            "cell": cell_name(cell),
            "ours": cell.method.extension,
            "source": cell.source,
            "representation": cell.representation.short if cell.representation else None,
            "layer": cell.layer,
            "status": status(cell),
            "screening_mae": cell.val_mae,
            "cv_mae_mean": cell.cv_mae_mean,
            "cv_mae_std": cell.cv_mae_std,
            "folds": len(cell.cv_mae) if cell.cv_mae else None,
            "mae_of_folds_before_stop": " ".join(f"{mae:.6g}" for mae in cell.rung_mae)
            if cell.rung_mae
            else None,
            "chosen_as": chosen_as(target, cell),
            "run_id": target.run_id(cell),
        }
        for target in results
        for cell in target.cells
        if keep(target, cell)
    ]


def chosen_as(target: TargetResults, cell: CellResult) -> str:
    """What cross-validation chose a cell as: ``best SC``, ``best TL``, ``winner``; empty for the others."""
    roles = {"best SC": target.best_sc, "best TL": target.best_tl, "winner": target.winner}
    return "; ".join(
        role for role, chosen in roles.items() if chosen is not None and chosen.cell == cell.cell
    )


def validation_part(results: Sequence[TargetResults], paper: PaperTable) -> Part:
    """All cells, the supplementary tables among them, and the heat map of cross-validated errors."""
    tables = {"tables/validation.csv": validation_rows(results)}
    told = []
    for name, (title, experimental, belongs) in _SUPPLEMENTARY.items():
        rows = validation_rows(results, _selection(paper, belongs, experimental=experimental))
        if rows:
            tables[f"tables/{name}"] = rows
            told.append(f"[{name}](tables/{name}) has {title}")
    text = (
        "`screening_mae` is that of the one validation split on which a cell was tuned, `cv_mae_mean` that of "
        "the cross-validation, which only the best cell of each method gets and which alone decides; `status` "
        "says how far a cell came. Every cell stands in validation.csv, ours included"
        + (f"; of the paper's methods, {'; '.join(told)}." if told else ".")
    )
    names, ratios = cross_validated_errors(results)
    drawings = {}
    if np.isfinite(ratios).any():
        drawings["figures/cross_validation.png"] = Drawing(
            draw=lambda: _heatmap(names, ratios, [target.info.label for target in results]),
            caption="Mean validation MAE of the cross-validation relative to the base's, the best cell of each method; "
            "framed: lowest; –: not cross-validated; methods right of the line are ours",
        )
    return Part(
        title="Validation errors of every method (S5, S7, S9, S11)",
        text=text,
        tables=tables,
        drawings=drawings,
    )


def cross_validated_errors(results: Sequence[TargetResults]) -> tuple[list[Method], np.ndarray]:
    """Mean cross-validation MAE of every method's best cell, divided by the base's.

    Returns:
        Methods that any target has, and ratios of shape (n_methods, n_targets); NaN where there is none.
    """
    present = {cell.method for target in results for cell in target.cells}
    methods: list[Method] = [m for m in Method if m in present and m.side is not Side.BASE]
    ratios = np.full((len(methods), len(results)), np.nan)
    for column, target in enumerate(results):
        base = target.base.cv_mae_mean if target.base else None
        for cell in target.cells:
            if (
                cell.failure is None
                and cell.cv_mae_mean is not None
                and cell.method.side is not Side.BASE
                and base
            ):
                row = methods.index(cell.method)
                ratios[row, column] = np.fmin(ratios[row, column], cell.cv_mae_mean / base)
    return methods, ratios


def _selection(
    paper: PaperTable, belongs: Callable[[CellResult], bool], *, experimental: bool
) -> Callable[[TargetResults, CellResult], bool]:
    def keep(target: TargetResults, cell: CellResult) -> bool:
        figures = paper.get(target.info.key)
        return figures is not None and is_experimental(figures) is experimental and belongs(cell)

    return keep


def _heatmap(methods: Sequence[Method], ratios: np.ndarray, labels: Sequence[str]) -> Figure:
    from crossprop.report.figures import heatmap

    return heatmap(
        [method.notation for method in methods],
        ratios,
        labels,
        title="Mean validation MAE of the cross-validation, relative to the base (framed: lowest)",
        n_paper=sum(not method.extension for method in methods),
    )


def tail_rows(results: Sequence[TargetResults]) -> list[Row]:
    """Q95 of the hold-out error of the chosen cells, in the target's unit."""
    return [
        {
            "target": target.info.key,
            "label": target.info.label,
            "unit": target.info.unit,
            **_columns("base", target, target.base),
            **_columns("sc", target, target.best_sc),
            **_columns("tl", target, target.best_tl),
            **_columns("winner", target, target.winner),
            "tl_lower_than_sc": _lower(target),
        }
        for target in results
    ]


def tails_part(results: Sequence[TargetResults], *, of_paper: bool) -> Part:
    """The section; with the paper's count where the study has its targets."""
    lines = []
    for target in results:
        cells = (target.base, target.best_sc, target.best_tl, target.winner)
        values = [number(cell.test_q95) if cell else "–" for cell in cells]
        if _lower(target) is not None:
            best = 2 if _lower(target) else 1
            values[best] = f"**{values[best]}**"
        lines.append([target.info.label, unit_name(target.info.unit), *values, cell_name(target.winner)])
    known = [lower for target in results if (lower := _lower(target)) is not None]
    header = ["target", "unit", "base", "best SC", "best TL", "winner", "the winner"]
    theirs = " (the paper: 26 of 41; exact tests in [paper.md](paper.md))" if of_paper else ""
    text = (
        f"The error that 95 % of the hold-out stay below. TL has the lower one on {sum(known)} of {len(known)} "
        f"targets{theirs}. Bold: the lower one of best SC and best TL.\n\n"
        f"{markdown_table(header, lines, left=(0, 1, 6))}"
    )
    return Part(
        title="Tails of the error: Q95 (S12)", text=text, tables={"tables/table_s12.csv": tail_rows(results)}
    )


def _lower(target: TargetResults) -> bool | None:
    scratch = target.best_sc.test_q95 if target.best_sc else None
    transfer = target.best_tl.test_q95 if target.best_tl else None
    return None if scratch is None or transfer is None else transfer < scratch


def _columns(role: str, target: TargetResults, cell: CellResult | None) -> dict[str, str | float | None]:
    return {
        f"{role}_cell": cell_name(cell) if cell else None,
        f"{role}_q95": cell.test_q95 if cell else None,
        f"{role}_run_id": target.run_id(cell),
    }


Unfinished = tuple[TargetResults, CellResult]


def failed_cells(results: Sequence[TargetResults]) -> list[Unfinished]:
    """Cells that could not be computed, in the order of the report."""
    return [(target, cell) for target in results for cell in target.cells if cell.failure is not None]


def stopped_cells(results: Sequence[TargetResults]) -> list[Unfinished]:
    """Cells that were stopped before the end of their cross-validation."""
    return [(t, c) for t in results for c in t.cells if c.failure is None and c.stopped is not None]


def cell_counts(results: Sequence[TargetResults]) -> str:
    """How many cells came how far, as a sentence."""
    cells = [cell for target in results for cell in target.cells]
    kinds = Counter(status(cell).split(":")[0].split(" ")[0] for cell in cells)
    names = {
        "cross-validated": "cross-validated",
        "screened": "screened only (another cell of their method was better)",
        "stopped": "stopped as hopeless",
        "failed": "failed",
    }
    told = [f"{kinds[kind]} {name}" for kind, name in names.items() if kinds[kind]]
    return f"Of {len(cells)} cells {', '.join(told)}."


def unfinished_rows(results: Sequence[TargetResults]) -> list[Row]:
    """One row per failed or stopped cell."""
    return [
        {
            "target": target.info.key,
            "cell_id": cell.cell,
            "cell": cell_name(cell),
            "status": "failed" if cell.failure is not None else "stopped",
            "reason": cell.failure if cell.failure is not None else cell.stopped,
            "screening_mae": cell.val_mae,
            "mae_of_folds_before_stop": " ".join(f"{mae:.6g}" for mae in cell.rung_mae)
            if cell.rung_mae
            else None,
            "run_id": target.run_id(cell),
        }
        for target, cell in [*failed_cells(results), *stopped_cells(results)]
    ]


def failed_part(results: Sequence[TargetResults]) -> Part:
    """Failed cells, for the main page; without a headline where every cell came through."""
    failed = failed_cells(results)
    if not failed:
        return Part()
    lines = [
        [target.info.label, f"`{cell.cell}`", cell_name(cell), cell.failure or ""] for target, cell in failed
    ]
    table = markdown_table(["target", "cell", "what", "reason"], lines, left=(0, 1, 2, 3))
    text = f"They stay in `cells.csv` with empty figures and take no part in any comparison.\n\n{table}"
    return Part(title="Cells that failed", text=text)


def stopped_part(results: Sequence[TargetResults]) -> Part:
    """Stopped cells with their reasons, for the supplement; without a headline where none was stopped."""
    failed, stopped = failed_cells(results), stopped_cells(results)
    tables: dict[str, list[Row]] = (
        {"tables/unfinished.csv": unfinished_rows(results)} if failed or stopped else {}
    )
    if not stopped:
        return Part(
            title="Cells that failed or were stopped" if failed else "",
            text=cell_counts(results),
            tables=tables,
        )
    lines = []
    for target, cell in stopped:
        folds = ", ".join(number(mae, 3) for mae in cell.rung_mae or ())
        lines.append(
            [target.info.label, cell_name(cell), number(cell.val_mae), folds or "–", cell.stopped or ""]
        )
    header = ["target", "cell", "screening MAE", "MAE of its folds", "stopped"]
    text = (
        f"{cell_counts(results)} A stopped cell cannot have been chosen; whether it would have been, nobody "
        f"knows.\n\n{markdown_table(header, lines, left=(0, 1, 4))}"
    )
    return Part(title="Cells that failed or were stopped", text=text, tables=tables)
