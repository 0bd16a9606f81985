"""The pictures of a run, drawn with matplotlib's object interface (no display, no global state)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
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
    unit = _unit(result)
    values = predictions[["y_true", "y_pred"]].to_numpy(dtype=float)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    panels = (
        ("validation", f"Validation, out of fold{_error(result.cv_mae_mean, result)}", _BLUE),
        ("test", f"Hold-out{_error(result.test_mae, result)}", _ORANGE),
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
    figure, axes = _single_panel()
    folds = fold_curves(history, "val_mae")
    axes.plot(folds.index, folds, color=_BLUE, alpha=0.3, linewidth=1)
    axes.plot(folds.index, folds.mean(axis=1), color=_ORANGE, linewidth=2, label=f"mean of {folds.shape[1]}")
    _log_scale_if_wide(axes, folds.to_numpy(dtype=float))
    axes.set(xlabel="epoch", ylabel=f"validation MAE{_unit(result)}")
    axes.legend(frameon=False, fontsize=9)
    _place(axes, f"{result.target}: {result.label}")
    return figure


def history_plot(title: str, history: pd.DataFrame, columns: Sequence[str], ylabel: str) -> Figure:
    """Several curves over ``epoch`` in one panel, for a source network."""
    figure, axes = _single_panel()
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
    figure, axes = _single_panel()
    ordered = trials.sort_values("number")
    done = ordered[(ordered["state"] == "COMPLETE") & ordered["value"].notna()]
    if len(done):
        best = done["value"].cummin()
        axes.plot(done["number"], done["value"], "o", color=_BLUE, markersize=5, alpha=0.7, label="trial")
        label = f"best so far: {best.iloc[-1]:.4g}"
        axes.step(done["number"], best, where="post", color=_ORANGE, linewidth=2, label=label)
    _log_scale_if_wide(axes, ordered["value"].to_numpy(dtype=float))
    _mark_unfinished(axes, ordered[~ordered.index.isin(done.index)])
    axes.set(xlabel="trial (0: default hyperparameters)", ylabel=f"screening MAE{_unit(result)}")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)
    _place(axes, f"{result.target}: {result.label}")
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG; fast rather than small (a tenth of a second is a lot for thousands of cells)."""
    figure.savefig(path, pil_kwargs={"compress_level": 3})


def fold_curves(history: pd.DataFrame, column: str) -> pd.DataFrame:
    """One column per fold (of cross-validation if there was one, else of screening), indexed by epoch.

    A fold that stopped early keeps its last value, so that the mean over folds does not jump where it leaves.
    """
    rows = history[history["stage"] == "fold"]
    rows = rows if len(rows) else history
    rows = rows.assign(fold=rows["fold"].fillna(-1))
    return rows.pivot_table(index="epoch", columns="fold", values=column, aggfunc="last").ffill()


def _mark_unfinished(axes: Axes, trials: pd.DataFrame) -> None:
    """Pruned trials at their last value where known, failed ones at the bottom of the panel."""
    for state, marker, word in (("PRUNED", "x", "pruned"), ("FAIL", "v", "failed")):
        rows = trials[trials["state"] == state]
        known, unknown = rows[rows["value"].notna()], rows[rows["value"].isna()]
        label = f"{word}: {len(rows)}"
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
    """Fixed places for title, labels and few ticks: matplotlib's own layout takes half of the drawing time."""
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


def _error(value: float | None, result: CellResult) -> str:
    return "" if value is None else f": MAE {value:.4g} {result.unit}".rstrip()


def _unit(result: CellResult) -> str:
    return f" ({result.unit})" if result.unit else ""


def _single_panel() -> tuple[Figure, Axes]:
    figure = _figure(7.0, 4.2)
    return figure, figure.add_axes((0.12, 0.13, 0.84, 0.76))


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=90)
    FigureCanvasAgg(figure)
    return figure
