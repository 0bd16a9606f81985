"""The pictures of a run, drawn with matplotlib's object interface (no display, no global state)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crossprop.experiments.results import CellResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY = "#2b6cb0", "#dd6b20", "#718096"
_MOST_POINTS = 4000


def parity_plot(result: CellResult, predictions: pd.DataFrame) -> Figure:
    """Predicted against reference values, validation (out of fold) and hold-out side by side.

    Args:
        result: The cell; its errors stand in the titles.
        predictions: As in ``CellOutcome.predictions``; not empty.
    """
    figure = _figure(9.0, 4.6)
    unit = f" ({result.unit})" if result.unit else ""
    values = predictions[["y_true", "y_pred"]].to_numpy(dtype=float)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    panels = (
        ("validation", f"Validation, out of fold{_error(result.cv_mae_mean, result.unit)}", _BLUE),
        ("test", f"Hold-out{_error(result.test_mae, result.unit)}", _ORANGE),
    )
    for position, (split, title, colour) in enumerate(panels):
        axes = figure.add_axes((0.08 + 0.49 * position, 0.12, 0.41, 0.74))
        rows = predictions[predictions["split"] == split]
        shown = rows.sample(_MOST_POINTS, random_state=0) if len(rows) > _MOST_POINTS else rows
        axes.plot(limits, limits, color=_GREY, linewidth=1, linestyle="--", zorder=1)
        axes.plot(shown["y_true"], shown["y_pred"], ".", color=colour, markersize=4, alpha=0.5, zorder=2)
        axes.set(
            xlim=limits,
            ylim=limits,
            xlabel=f"reference{unit}",
            ylabel=f"predicted{unit}" if not position else "",
        )
        _place(axes, f"{title}, n = {len(rows):,}", fontsize=10, ylabel=None)
    figure.suptitle(f"{result.target}: {result.label}", fontsize=11)
    return figure


def learning_curve_plot(result: CellResult, history: pd.DataFrame) -> Figure:
    """Validation MAE over epochs: one thin line per fold, their mean in bold.

    Args:
        result: The cell.
        history: As in ``CellOutcome.history``; not empty.
    """
    figure = _figure(7.0, 4.2)
    axes = figure.add_axes((0.12, 0.13, 0.84, 0.76))
    folds = fold_curves(history, "val_mae")
    for column in folds:
        axes.plot(folds.index, folds[column], color=_BLUE, alpha=0.3, linewidth=1)
    axes.plot(folds.index, folds.mean(axis=1), color=_ORANGE, linewidth=2, label=f"mean of {folds.shape[1]}")
    _log_scale_if_wide(axes, folds.to_numpy(dtype=float))
    axes.set(xlabel="epoch", ylabel=f"validation MAE{f' ({result.unit})' if result.unit else ''}")
    axes.legend(frameon=False, fontsize=9)
    _place(axes, f"{result.target}: {result.label}")
    return figure


def history_plot(title: str, history: pd.DataFrame, columns: Sequence[str], ylabel: str) -> Figure:
    """Several curves over ``epoch`` in one panel, for a source network."""
    figure = _figure(7.0, 4.2)
    axes = figure.add_axes((0.12, 0.13, 0.84, 0.76))
    for column in columns:
        axes.plot(history["epoch"], history[column], linewidth=2, label=column)
    axes.set(xlabel="epoch", ylabel=ylabel)
    axes.legend(frameon=False, fontsize=9)
    _place(axes, title)
    return figure


def optimisation_history_plot(result: CellResult, trials: pd.DataFrame) -> Figure:
    """Value of every trial and the best so far; pruned and failed trials are marked.

    Args:
        result: The cell.
        trials: As in ``CellOutcome.trials``; not empty.
    """
    figure = _figure(7.0, 4.2)
    axes = figure.add_axes((0.12, 0.13, 0.84, 0.76))
    ordered = trials.sort_values("number")
    complete = ordered[(ordered["state"] == "COMPLETE") & ordered["value"].notna()]
    if len(complete):
        best = complete["value"].cummin()
        axes.plot(
            complete["number"], complete["value"], "o", color=_BLUE, markersize=5, alpha=0.7, label="trial"
        )
        axes.step(
            complete["number"],
            best,
            where="post",
            color=_ORANGE,
            linewidth=2,
            label=f"best so far: {best.iloc[-1]:.4g}",
        )
    _log_scale_if_wide(axes, ordered["value"].to_numpy(dtype=float))
    _mark_others(axes, ordered[~ordered.index.isin(complete.index)])
    axes.set(
        xlabel="trial (0: default hyperparameters)",
        ylabel=f"screening MAE{f' ({result.unit})' if result.unit else ''}",
    )
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)
    _place(axes, f"{result.target}: {result.label}")
    return figure


def fold_curves(history: pd.DataFrame, column: str) -> pd.DataFrame:
    """One column per fold (of cross-validation if there was one, else of screening), indexed by epoch.

    A fold that stopped early keeps its last value, so that the mean over folds does not jump where it leaves.
    """
    rows = history[history["stage"] == "fold"]
    rows = rows if len(rows) else history
    folds = rows["fold"].fillna(-1)
    return (
        rows.assign(fold=folds)
        .pivot_table(index="epoch", columns="fold", values=column, aggfunc="last")
        .ffill()
    )


def _mark_others(axes: Axes, others: pd.DataFrame) -> None:
    """Pruned trials at their last value where known, failed ones at the foot of the panel."""
    for state, marker in (("PRUNED", "x"), ("FAIL", "v")):
        rows = others[others["state"] == state]
        if not len(rows):
            continue
        known = rows[rows["value"].notna()]
        unknown = rows[rows["value"].isna()]
        label = f"{'pruned' if state == 'PRUNED' else 'failed'}: {len(rows)}"
        if len(known):
            axes.plot(known["number"], known["value"], marker, color=_GREY, markersize=5, label=label)
        if len(unknown):
            axes.plot(
                unknown["number"], np.full(len(unknown), 0.02), marker, color=_GREY, markersize=5,
                transform=axes.get_xaxis_transform(), label=None if len(known) else label,
            )  # fmt: skip


def _log_scale_if_wide(axes: Axes, values: np.ndarray) -> None:
    """Logarithmic axis where positive values span more than a factor of twenty."""
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale("log")


def _place(axes: Axes, title: str, fontsize: int = 11, ylabel: float | None = -0.105) -> None:
    """Title, labels and few ticks where they belong: matplotlib's own search for room takes half of the drawing."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=fontsize, y=1.02)
    axes.xaxis.set_label_coords(0.5, -0.09)
    if ylabel is not None:
        axes.yaxis.set_label_coords(ylabel, 0.5)
    steps = [1, 2, 2.5, 5, 10]
    whole = axes.get_xlabel().startswith(("epoch", "trial"))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=steps, integer=whole))
    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=steps))


def _error(value: float | None, unit: str) -> str:
    return "" if value is None else f": MAE {value:.4g}{f' {unit}' if unit else ''}"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=90)
    FigureCanvasAgg(figure)
    return figure
