"""Figures of the whole grid: validation error of every method, and which layers were chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from crossprop.experiments.results import CellResult
from crossprop.reporting.figure_style import house_style, single_axes
from crossprop.reporting.results_tree import TargetResults
from crossprop.reporting.wording import cell_name
from crossprop.vocabulary import EXTRACTION_LAYERS, HIDDEN_UNITS, Method, Side

_SCALE = LinearSegmentedColormap.from_list(
    "error", ["#08306b", "#3f7fb5", "#b7d4e8", "#f7f4ee", "#e6b98a", "#b35806"]
)
"""Dark blue for a small error, white for one as large as the base, brown beyond."""

_EXTRACTORS = {Method.ML_FEATEXTR: "#009e73", Method.DL_FEATEXTR: "#cc79a7"}


def method_errors(results: Sequence[TargetResults]) -> tuple[list[str], np.ndarray]:
    """Screening validation MAE of every method (best source), divided by the base method's.

    Returns:
        Names of the methods, and the ratios of shape (n_methods, n_targets); NaN where there is none.
    """
    methods = list(dict.fromkeys(_method(cell) for target in results for cell in target.cells))
    ratios = np.full((len(methods), len(results)), np.nan)
    for column, target in enumerate(results):
        base = target.base.val_mae if target.base else None
        for cell in target.cells:
            if cell.failure is None and cell.val_mae is not None and base:
                row = methods.index(_method(cell))
                ratios[row, column] = np.fmin(ratios[row, column], cell.val_mae / base)
    return methods, ratios


def method_heatmap(results: Sequence[TargetResults]) -> Figure:
    """Validation MAE of every method per target, relative to the target's base; the best is framed."""
    methods, ratios = method_errors(results)
    keep = [row for row, method in enumerate(methods) if method != Method.BASE.notation]
    methods, ratios = [methods[row] for row in keep], ratios[keep].T
    known = ratios[np.isfinite(ratios)]
    lowest, highest = (known.min(), known.max()) if known.size else (0.5, 1.0)
    norm = TwoSlopeNorm(vcenter=1.0, vmin=min(lowest, 0.9), vmax=float(np.clip(highest, 1.3, 2.0)))
    with house_style():
        figure, axes = single_axes(8.2, 1.7 + 0.3 * len(results))
        image = axes.imshow(np.ma.masked_invalid(ratios), cmap=_SCALE, norm=norm, aspect="auto")
        axes.set_facecolor("#dddddd")
        axes.set_xticks(range(len(methods)), methods, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(results)), [target.info.label for target in results])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for row in range(len(results)):
            _write_row(axes, ratios[row], row, norm)
        axes.set_title("Validation MAE of every method relative to the base (framed: lowest)")
        bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=14)
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=5))
        bar.set_label("1 = predicting the mean", fontsize=8)
    return figure


def extraction_layers(results: Sequence[TargetResults]) -> Figure | None:
    """How often tuning chose each extraction layer, over targets and sources; None without such cells."""
    chosen = {
        method: [
            c.layer for t in results for c in t.cells if c.method is method and c.layer in EXTRACTION_LAYERS
        ]
        for method in _EXTRACTORS
    }
    if not any(chosen.values()):
        return None
    with house_style():
        figure, axes = single_axes(7.6, 2.9)
        for shift, (method, layers) in zip((-0.2, 0.2), chosen.items(), strict=True):
            counts = [layers.count(layer) for layer in EXTRACTION_LAYERS]
            places = np.arange(len(EXTRACTION_LAYERS)) + shift
            label = f"{method.notation} ({len(layers)} cells)"
            axes.bar(places, counts, width=0.4, color=_EXTRACTORS[method], label=label)
        names = [f"{i}\n{units}" for i, units in enumerate(HIDDEN_UNITS, start=1)]
        axes.set_xticks(range(len(EXTRACTION_LAYERS)), names, fontsize=8)
        axes.tick_params(axis="x", length=0)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("hidden layer of the source network, and its width")
        axes.set_ylabel("cells that chose it")
        axes.set_title("Which layer transfers")
        axes.grid(axis="y")
        axes.legend()
    return figure


def _method(cell: CellResult) -> str:
    """Row of the paper's Table 1 that a cell belongs to."""
    return cell.method.notation if cell.method.side is Side.TRANSFER else cell_name(cell)


def _write_row(axes: Axes, ratios: np.ndarray, row: int, norm: Normalize) -> None:
    best = int(np.nanargmin(ratios)) if np.isfinite(ratios).any() else -1
    for column, ratio in enumerate(ratios):
        known = bool(np.isfinite(ratio))
        dark = known and not 0.3 <= float(norm(ratio)) <= 0.9
        axes.text(
            column,
            row,
            f"{ratio:.2f}" if known else "–",
            ha="center",
            va="center",
            fontsize=7.5,
            color="white" if dark else "#222222",
            weight="bold" if column == best else "normal",
        )
    if best >= 0:
        frame = Rectangle(
            (best - 0.47, row - 0.44), 0.94, 0.88, fill=False, edgecolor="#ffb000", linewidth=2.0
        )
        axes.add_patch(frame)
