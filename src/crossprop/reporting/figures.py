"""Figures of errors: SC against TL, parity of the winners, our errors against the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from crossprop.experiments.results import CellResult
from crossprop.reporting.figure_style import SIDE_COLOURS, SIDE_MARKERS, house_style, single_axes
from crossprop.reporting.study_info import PaperTable
from crossprop.reporting.target_results import TargetResults
from crossprop.reporting.wording import cell_name, number, unit_name
from crossprop.training.metrics import mean_absolute_error, r2
from crossprop.vocabulary import Side

_MOST_POINTS = 600
"""Points of a panel of the winners' predictions: more hide each other, and make the file heavy."""


def scratch_against_transfer(results: Sequence[TargetResults]) -> Figure:
    """Hold-out MAE of the best SC and the best TL of every target, relative to the mean predictor's.

    Rows run from the largest gain of TL to the largest loss; bars are the 95 % intervals of the hold-out.
    """
    rows = [target for target in results if target.transfer_ratio is not None and target.base_mae]
    rows.sort(key=lambda target: target.transfer_ratio or 0.0)
    with house_style():
        figure, axes = single_axes(7.6, _height(len(rows)))
        for y, target in enumerate(rows):
            for side, cell, shift in (
                (Side.SCRATCH, target.best_sc, -0.14),
                (Side.TRANSFER, target.best_tl, 0.14),
            ):
                if cell and target.base_mae:
                    _point(axes, y + shift, side, cell, target.base_mae)
        _label_rows(axes, [f"{t.info.label}  ({t.cells[0].n_train:,})" for t in rows])
        axes.axvline(1.0, color=SIDE_COLOURS[Side.BASE], linewidth=1.2, linestyle=(0, (4, 2)))
        axes.set_xlim(left=0.0)
        axes.set_xlabel(
            "hold-out MAE / MAE of predicting the mean of the training values   (lower is better)"
        )
        axes.set_title("Best scratch and best transfer model of every target (rows to learn from)")
        axes.grid(axis="x")
        _legend(figure, axes, {Side.SCRATCH: "best SC", Side.TRANSFER: "best TL"} if rows else {})
    return figure


def winner_parity(results: Sequence[TargetResults]) -> Figure:
    """Predicted against reference values of the hold-out for every winner, one panel per target."""
    chosen = [(target, target.winner) for target in results if target.winner]
    columns, panel = (4, 2.5) if len(chosen) <= 16 else (5, 2.1)
    columns = min(columns, max(len(chosen), 1))
    n_rows = -(-max(len(chosen), 1) // columns)
    with house_style():
        figure = Figure(figsize=(max(panel * columns, 3.4), (panel + 0.15) * n_rows), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(n_rows, columns, squeeze=False)
        for axes, (target, winner) in zip(grid.flat, chosen, strict=False):
            _parity_panel(axes, target, winner)
        for axes in grid.flat[len(chosen) :]:
            axes.remove()
        figure.supxlabel("reference value, hold-out", fontsize=9)
        figure.supylabel("prediction", fontsize=9)
    return figure


def ours_against_paper(results: Sequence[TargetResults], paper: PaperTable) -> Figure:
    """Hold-out MAE of the winners divided by the lowest of the paper's tables, the best ratio first.

    Where the winner is a method of ours, the best of the paper's methods stands beside it in grey.
    """
    rows = []
    for target in results:
        figures = paper.get(target.info.key)
        if target.winner and target.winner.test_mae and figures is not None and figures.lowest_mae:
            rows.append((target.winner.test_mae / figures.lowest_mae, figures.lowest_mae, target))
    rows.sort(key=lambda row: row[0])
    with house_style():
        figure, axes = single_axes(7.6, _height(len(rows)))
        axes.axvline(1.0, color="#222222", linewidth=1.2)
        kinds: dict[tuple[Side, bool], None] = {}
        for y, (_, lowest, target) in enumerate(rows):
            winner, theirs = target.winner, target.paper_winner
            if winner is None:
                continue
            if winner.method.ours and theirs is not None:
                grey = SIDE_COLOURS[Side.BASE]
                axes.plot(_mae(theirs) / lowest, y + 0.25, "|", color=grey, markersize=6, markeredgewidth=1.6)
            _point(axes, y, winner.method.side, winner, lowest)
            kinds[(winner.method.side, winner.method.ours)] = None
        _label_rows(axes, [target.info.label for _, _, target in rows])
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("our hold-out MAE / lowest MAE of the paper   (left of 1: ours is lower)")
        axes.set_title("Against the lowest error of Gupta et al. 2021, whatever its method")
        axes.grid(axis="x")
        for side, ours in sorted(kinds):
            name = (
                "a blend of ours" if side is Side.BLEND else {Side.SCRATCH: "SC", Side.TRANSFER: "TL"}[side]
            )
            whose = "" if side is Side.BLEND else ", ours" if ours else ", a paper's method"
            _mark(axes, [], [], side, label=f"winner is {name}{whose}", hollow=ours)
        if any(ours for _, ours in kinds):
            axes.plot(
                [], [], "|", color=SIDE_COLOURS[Side.BASE], markersize=8, label="best of the paper's methods"
            )
        if kinds:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _mae(cell: CellResult | None) -> float:
    """Hold-out error of a chosen cell, which always has one; NaN without a cell."""
    return float("nan") if cell is None or cell.test_mae is None else cell.test_mae


def _point(axes: Axes, y: float, side: Side, cell: CellResult, scale: float) -> None:
    """Hold-out error of a cell with its interval, both divided by ``scale``, at height ``y``."""
    place = _mae(cell) / scale
    ends = [cell.test_mae_low, cell.test_mae_high]
    spread = None
    if None not in ends:
        spread = np.abs(np.array(ends, dtype=float)[:, None] / scale - place)
    _mark(axes, place, y, side, spread, hollow=cell.method.ours)


def _mark(
    axes: Axes,
    x: Any,
    y: Any,
    side: Side,
    spread: np.ndarray | None = None,
    label: str = "",
    *,
    hollow: bool = False,
) -> None:
    """A point in the colour and shape of its side; hollow for a method of ours."""
    axes.errorbar(
        x,
        y,
        xerr=spread,
        color=SIDE_COLOURS[side],
        label=label or None,
        fmt=SIDE_MARKERS[side],
        markersize=5.0,
        markerfacecolor="white" if hollow else SIDE_COLOURS[side],
        markeredgewidth=1.4,
        elinewidth=1.4,
        capsize=0.0,
    )


def _legend(figure: Figure, axes: Axes, labels: dict[Side, str]) -> None:
    for side, label in labels.items():
        _mark(axes, [], [], side, label=label)
    if labels:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(labels))


def _height(n_rows: int) -> float:
    """Inches of a chart with so many rows; long ones are set closer."""
    return 1.5 + (0.36 if n_rows <= 16 else 0.27) * max(n_rows, 1)


def _label_rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _parity_panel(axes: Axes, target: TargetResults, winner: CellResult) -> None:
    rows = target.hold_out(winner)
    true, pred = rows["y_true"].to_numpy(dtype=float), rows["y_pred"].to_numpy(dtype=float)
    shown = np.unique(np.linspace(0, len(true) - 1, min(len(true), _MOST_POINTS)).round().astype(int))
    low, high = min(true.min(), pred.min()), max(true.max(), pred.max())
    margin = 0.04 * (high - low) or 1.0
    ends = (low - margin, high + margin)
    axes.plot(ends, ends, color="#222222", linewidth=0.8, zorder=3)
    colour = SIDE_COLOURS[winner.method.side]
    alpha = float(np.clip(60.0 / np.sqrt(len(shown)) / 8.0, 0.15, 0.6))
    axes.scatter(true[shown], pred[shown], s=7, color=colour, alpha=alpha, linewidths=0, zorder=2)
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=4))
    axes.tick_params(labelsize=7)
    unit = unit_name(target.info.unit)
    axes.set_title(target.info.label if unit == "–" else f"{target.info.label} [{unit}]")
    method = cell_name(winner).split(" from ")[0]
    told = f"{method}\nMAE {number(mean_absolute_error(true, pred), 3)}\nR² {r2(true, pred):.2f}"
    axes.text(0.03, 0.97, told, transform=axes.transAxes, va="top", fontsize=6.5, color="#333333")
