"""Validation MAE of every cell: Supplementary Tables 5, 7, 9 and 11."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from crossprop.experiments.results import CellResult
from crossprop.reporting.paper.published import is_experimental
from crossprop.reporting.paper.tables import TABLES
from crossprop.reporting.part import Drawing, Part, Row
from crossprop.reporting.study_info import PaperTable
from crossprop.reporting.target_results import TargetResults
from crossprop.reporting.wording import cell_name, status
from crossprop.vocabulary import Method, Side

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
            "ours": cell.method.ours,
            "source": cell.source,
            "representation": cell.representation.short if cell.representation else None,
            "layer": cell.layer,
            "status": status(cell),
            "screening_mae": cell.val_mae,
            "cv_mae_mean": cell.cv_mae_mean,
            "cv_mae_std": cell.cv_mae_std,
            "folds": len(cell.cv_mae) if cell.cv_mae else None,
            "mae_of_folds_before_stop": " ".join(f"{mae:.6g}" for mae in cell.race_mae)
            if cell.race_mae
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
    from crossprop.reporting.grid_figures import heatmap

    return heatmap(
        [method.notation for method in methods],
        ratios,
        labels,
        title="Mean validation MAE of the cross-validation, relative to the base (framed: lowest)",
        n_paper=sum(not method.ours for method in methods),
    )
