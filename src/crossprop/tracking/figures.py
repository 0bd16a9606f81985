"""The pictures of a run, drawn with matplotlib's object interface (no display, no global state)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crossprop.experiments.results import CellResult
from crossprop.methods import unit_behind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY = "#2b6cb0", "#dd6b20", "#718096"
_MOST_POINTS = 4000


def parity_plot(result: CellResult, predictions: pd.DataFrame) -> Figure:
    """Predicted against reference values, validation (out of fold) and hold-out side by side."""
    figure, panels = _panels(9.0, 4.6, 2)
    values = predictions[["y_true", "y_pred"]].to_numpy(dtype=float)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    kinds = {"validation": (result.cv_mae_mean, _BLUE), "test": (result.test_mae, _ORANGE)}
    for axes, (split, (mae, colour)) in zip(panels, kinds.items(), strict=True):
        title = "Hold-out" if split == "test" else "Validation, out of fold"
        rows = predictions[predictions["split"] == split]
        shown = rows.sample(_MOST_POINTS, random_state=0) if len(rows) > _MOST_POINTS else rows
        axes.plot(limits, limits, color=_GREY, linewidth=1, linestyle="--", zorder=1)
        axes.plot(shown["y_true"], shown["y_pred"], ".", color=colour, markersize=4, alpha=0.5, zorder=2)
        error = "" if mae is None else f": MAE {mae:.4g}{unit_behind(result.unit)}"
        axes.set_title(f"{title}{error}, n = {len(rows):,}", fontsize=10)
        axes.set(xlim=limits, ylim=limits, xlabel=f"reference{_unit(result)}")
    panels[0].set_ylabel(f"predicted{_unit(result)}")
    figure.suptitle(f"{result.target}: {result.label}", fontsize=11)
    return figure


def learning_curve_plot(result: CellResult, history: pd.DataFrame) -> Figure:
    """Validation MAE over epochs, from ``CellOutcome.history``: one thin line per fold, their mean in bold."""
    figure, (axes,) = _panels(7.0, 4.2)
    folds = fold_curves(history, "val_mae")
    axes.plot(folds.index, folds, color=_BLUE, alpha=0.3, linewidth=1)
    axes.plot(folds.index, folds.mean(axis=1), color=_ORANGE, linewidth=2, label=f"mean of {folds.shape[1]}")
    _log_scale_if_wide(axes, folds.to_numpy(dtype=float))
    return _labelled(figure, f"{result.target}: {result.label}", "epoch", f"validation MAE{_unit(result)}")


def history_plot(title: str, history: pd.DataFrame, columns: Sequence[str], ylabel: str) -> Figure:
    """Several curves over ``epoch`` in one panel, for a source network."""
    figure, (axes,) = _panels(7.0, 4.2)
    for column in columns:
        axes.plot(history["epoch"], history[column], linewidth=2, label=column)
    return _labelled(figure, title, "epoch", ylabel)


def optimisation_history_plot(result: CellResult, trials: pd.DataFrame) -> Figure:
    """Value of every trial and the best so far, from ``CellOutcome.trials``; pruned and failed trials are marked."""
    figure, (axes,) = _panels(7.0, 4.2)
    trials = trials.sort_values("number")
    done = trials[(trials["state"] == "COMPLETE") & trials["value"].notna()]
    if len(done):
        best = done["value"].cummin()
        axes.plot(done["number"], done["value"], "o", color=_BLUE, markersize=5, alpha=0.7, label="trial")
        label = f"best so far: {best.iloc[-1]:.4g}"
        axes.step(done["number"], best, where="post", color=_ORANGE, linewidth=2, label=label)
    _log_scale_if_wide(axes, trials["value"].to_numpy(dtype=float))
    for state, marker, word in (("PRUNED", "x", "pruned"), ("FAIL", "v", "failed")):
        rows = trials[trials["state"] == state]
        if len(rows):
            valued, others = rows[rows["value"].notna()], rows[rows["value"].isna()]
            style: dict[str, Any] = {"marker": marker, "linestyle": "", "color": _GREY, "markersize": 5}
            axes.plot(valued["number"], valued["value"], **style, label=f"{word}: {len(rows)}")
            below = np.full(len(others), 0.02)  # of the panel's height
            axes.plot(others["number"], below, **style, transform=axes.get_xaxis_transform())
    ylabel = f"screening MAE{_unit(result)}"
    return _labelled(figure, f"{result.target}: {result.label}", "trial (0: default hyperparameters)", ylabel)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG; fast rather than small (a tenth of a second is a lot for thousands of cells)."""
    figure.savefig(path, pil_kwargs={"compress_level": 3})


def fold_curves(history: pd.DataFrame, column: str) -> pd.DataFrame:
    """One column per fold (of cross-validation, else of screening) by epoch; one that stopped keeps its last value."""
    rows = history[history["stage"] == "fold"]
    rows = rows if len(rows) else history
    rows = rows.assign(fold=rows["fold"].fillna(-1))
    return rows.pivot_table(index="epoch", columns="fold", values=column, aggfunc="last").ffill()


def _log_scale_if_wide(axes: Axes, values: np.ndarray) -> None:
    """Logarithmic axis where positive values span more than a factor of twenty."""
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale("log")


def _labelled(figure: Figure, title: str, xlabel: str, ylabel: str) -> Figure:
    axes = figure.axes[0]
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False)
    return figure


def _unit(result: CellResult) -> str:
    return unit_behind(result.unit, " ({})")


def _panels(width: float, height: float, n: int = 1) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=90)
    panels = figure.subplots(1, n, squeeze=False)
    for axes in panels[0]:
        axes.locator_params(nbins=6)  # fewer ticks are drawn faster
    figure.subplots_adjust(left=0.12 / n + 0.02, right=0.97, top=0.88, bottom=0.13)
    return figure, list(panels[0])
