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
from crossprop.reporting.target_results import TargetResults
from crossprop.reporting.wording import cell_name
from crossprop.vocabulary import EXTRACTION_LAYERS, HIDDEN_UNITS, Method, Representation, Side

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
    cells = [cell for target in results for cell in target.cells]
    cells.sort(key=lambda cell: (list(Method).index(cell.method), _place(cell)))
    methods = list(dict.fromkeys(_method(cell) for cell in cells))
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
    known = np.isfinite(ratios).any(axis=1)  # a blend is not screened
    keep = [row for row, method in enumerate(methods) if method != Method.BASE.notation and known[row]]
    own = {_method(cell) for target in results for cell in target.cells if cell.method.ours}
    shown = [methods[row] for row in keep]
    return heatmap(
        shown,
        ratios[keep],
        [target.info.label for target in results],
        title="Validation MAE of every method relative to the base (framed: lowest)",
        n_paper=sum(method not in own for method in shown),
    )


def heatmap(
    methods: Sequence[str], ratios: np.ndarray, labels: Sequence[str], *, title: str, n_paper: int
) -> Figure:
    """Errors of methods (columns) per target (rows), relative to the base; the lowest of a target is framed.

    Args:
        methods: Names of the methods, the paper's first.
        ratios: Errors over the base's, shape (n_methods, n_targets); NaN where there is none.
        labels: Names of the targets.
        title: Headline.
        n_paper: How many of the methods are the paper's; a line stands behind them where there are others.
    """
    known = ratios[np.isfinite(ratios)]
    lowest, highest = (known.min(), known.max()) if known.size else (0.5, 1.0)
    norm = TwoSlopeNorm(vcenter=1.0, vmin=min(lowest, 0.9), vmax=float(np.clip(highest, 1.3, 2.0)))
    with house_style():
        width = max(8.2, 1.6 + 0.66 * len(methods))
        figure, axes = single_axes(width, 1.7 + (0.3 if len(labels) <= 16 else 0.25) * len(labels))
        image = axes.imshow(np.ma.masked_invalid(ratios.T), cmap=_SCALE, norm=norm, aspect="auto")
        axes.set_facecolor("#dddddd")
        axes.set_xticks(range(len(methods)), methods, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(labels)), labels)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for row, errors in enumerate(ratios.T):
            _write_row(axes, errors, row, norm)
        if 0 < n_paper < len(methods):
            axes.axvline(n_paper - 0.5, color="#222222", linewidth=1.6)
            for place, text, side in (
                (n_paper - 0.56, "the paper's", "right"),
                (n_paper - 0.44, "ours", "left"),
            ):
                axes.text(
                    place,
                    1.0,
                    text,
                    transform=axes.get_xaxis_transform(),
                    ha=side,
                    va="bottom",
                    fontsize=8,
                    style="italic",
                )
            axes.set_title(title, pad=16)
        else:
            axes.set_title(title)
        bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=14 if len(labels) <= 16 else 30)
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=5))
        bar.set_label("1 = predicting the mean", fontsize=8)
    return figure


def extraction_layers(results: Sequence[TargetResults]) -> Figure:
    """How often tuning chose each extraction layer, over targets and sources."""
    chosen = {
        method: [
            c.layer for t in results for c in t.cells if c.method is method and c.layer in EXTRACTION_LAYERS
        ]
        for method in _EXTRACTORS
    }
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
    """Row of the paper's Table 1 that a cell belongs to; our methods have one each."""
    plain = cell.method.side is Side.TRANSFER or cell.method.ours
    return cell.method.notation if plain else cell_name(cell)


def _place(cell: CellResult) -> int:
    return list(Representation).index(cell.representation) if cell.representation else -1


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
