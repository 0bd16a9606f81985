"""Figures of a report, in one style: errors, coverage, learning curves, layers and correlations."""

import io
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from PIL import Image

from crossprop.experiments.results import CellResult
from crossprop.methods import EXTRACTION_LAYERS, HIDDEN_UNITS, Method, Side, unit_behind
from crossprop.report.statistics import SignTest, geometric_mean
from crossprop.report.study import TargetResults
from crossprop.report.tables import cell_name, number
from crossprop.training.metrics import mean_absolute_error, r2
from crossprop.uncertainty.evidence import evenly

# Colours of Okabe and Ito, which all common kinds of colour vision tell apart:
QUALITATIVE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


class SideStyle(NamedTuple):
    """How a side is drawn and named."""

    colour: str
    marker: str
    name: str


SIDES: Mapping[Side, SideStyle] = {
    Side.BASE: SideStyle("#6e6e6e", "x", "base"),
    Side.PLAIN: SideStyle("#cc79a7", "^", "plain"),
    Side.SCRATCH: SideStyle("#0072b2", "o", "SC"),
    Side.TRANSFER: SideStyle("#d55e00", "D", "TL"),
    Side.BLEND: SideStyle("#009e73", "s", "blend"),
}
# Methods that read activations of an extraction layer, with their colour and marker.
EXTRACTORS = {Method.ML_FEATEXTR: ("#009e73", "o"), Method.DL_FEATEXTR: ("#cc79a7", "s")}
_DARK, _GREY = "#222222", "#dddddd"
_MARK: dict[str, Any] = {"markersize": 5.0, "markeredgewidth": 1.4, "elinewidth": 1.4}
_CENTRED: dict[str, Any] = {"ha": "center", "va": "center"}
# Dark blue for a small error, white for one as large as the base, brown beyond.
_SHADES = ["#08306b", "#3f7fb5", "#b7d4e8", "#f7f4ee", "#e6b98a", "#b35806"]
_ERROR_SCALE = LinearSegmentedColormap.from_list("error", _SHADES)
_MOST_POINTS = 600  # of a panel of the winners' predictions: more hide each other
_MOST_BYTES = 150 * 1024
# Dots per inch and colours: the first that are small enough are taken.
_QUALITIES = ((110, 256), (110, 128), (90, 128), (80, 64), (70, 64), (60, 32))
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.axisbelow": True,
    "grid.color": "#e2e2e2",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "figure.facecolor": "white",
}

# Matplotlib's defaults with the report's style, whatever the user's matplotlibrc says; also a decorator.
house_style = partial(style.context, _STYLE, after_reset=True)


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG without date or version, as sharp as stays below 150 KiB."""
    for dpi, colours in _QUALITIES:
        drawn, small = io.BytesIO(), io.BytesIO()
        how: dict[str, Any] = {"metadata": {"Software": None}, "bbox_inches": "tight", "pad_inches": 0.1}
        with house_style():
            figure.savefig(drawn, format="png", dpi=dpi, **how)
        method, dither = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
        with Image.open(drawn) as image:
            flat = image.convert("RGB").quantize(colours, method=method, dither=dither)
        flat.save(small, format="PNG", optimize=True)
        if small.tell() < _MOST_BYTES:
            break
    path.write_bytes(small.getvalue())


def single_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of so many inches with one pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _panels(n: int, columns: int, size: float) -> tuple[Figure, list[Axes]]:
    """A figure with one panel for each of ``n`` targets."""
    columns, n_rows = min(columns, max(n, 1)), -(-max(n, 1) // columns)
    figure = Figure(figsize=(max(size * columns, 3.4), (size + 0.15) * n_rows), layout="constrained")
    axes = list(figure.subplots(n_rows, columns, squeeze=False).flat)
    for empty in axes[n:]:
        empty.remove()
    return figure, axes[:n]


def _row_chart(labels: Sequence[str], title: str, xlabel: str) -> tuple[Figure, Axes]:
    """A chart with one row per label, the first on top; long ones are set closer."""
    n = len(labels)
    figure, axes = single_axes(7.6, 1.5 + (0.34 if n <= 16 else 0.25) * max(n, 1))
    axes.set_yticks(range(n), labels)
    axes.set_ylim(n - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel=xlabel, title=title)
    axes.grid(axis="x")
    return figure, axes


def _mark(axes: Axes, x: Any, y: Any, side: Side, *, hollow: bool = False, **more: Any) -> None:
    """A point in the colour and shape of its side; hollow for an extension method."""
    colour, marker, _ = SIDES[side]
    face = "white" if hollow else colour
    axes.errorbar(x, y, fmt=marker, color=colour, markerfacecolor=face, **_MARK, **more)


def _mark_cell(axes: Axes, y: float, cell: CellResult, scale: float) -> None:
    """Hold-out error of a cell with its interval, both divided by ``scale``, at height ``y``."""
    assert cell.test_mae is not None
    place, spread = cell.test_mae / scale, None
    if cell.test_mae_low is not None and cell.test_mae_high is not None:
        spread = np.abs(np.array([[cell.test_mae_low], [cell.test_mae_high]]) / scale - place)
    _mark(axes, place, y, cell.method.side, hollow=cell.method.extension, xerr=spread)


def _legend(figure: Figure, axes: Axes, place: str = "outside lower center") -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc=place, ncols=3)


def _plain_ticks(axis: Any, nbins: int, steps: Sequence[float]) -> None:
    """Few ticks with plain numbers on a logarithmic axis."""
    axis.set_major_locator(MaxNLocator(nbins=nbins, steps=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _title(target: TargetResults) -> str:
    return target.info.label + unit_behind(target.info.unit, " [{}]")


@house_style()
def scratch_against_transfer(results: Sequence[TargetResults]) -> Figure:
    """Hold-out MAE of best SC and best TL over the base's, with 95 % intervals; the largest gain of TL first."""
    rows = [target for target in results if target.transfer_ratio is not None and target.base_mae]
    rows.sort(key=lambda target: target.transfer_ratio or 0.0)
    figure, axes = _row_chart(
        [f"{target.info.label}  ({target.cells[0].n_train:,})" for target in rows],
        "Best scratch and best transfer model of every target (rows to learn from and to validate on)",
        "hold-out MAE / MAE of predicting the mean of the training values   (lower is better)",
    )
    for y, target in enumerate(rows):
        for cell, shift in ((target.best_sc, -0.14), (target.best_tl, 0.14)):
            if cell and target.base_mae:
                _mark_cell(axes, y + shift, cell, target.base_mae)
    axes.axvline(1.0, color=SIDES[Side.BASE].colour, linewidth=1.2, linestyle=(0, (4, 2)))
    axes.set_xlim(left=0.0)
    if rows:
        _mark(axes, [], [], Side.SCRATCH, label="best SC")
        _mark(axes, [], [], Side.TRANSFER, label="best TL")
    _legend(figure, axes)
    return figure


@house_style()
def winner_parity(results: Sequence[TargetResults]) -> Figure:
    """Predicted against reference values of the hold-out for every winner, one panel per target."""
    chosen = [(target, target.winner) for target in results if target.winner]
    figure, panels = _panels(len(chosen), *((4, 2.5) if len(chosen) <= 16 else (5, 2.1)))
    for axes, (target, winner) in zip(panels, chosen, strict=True):
        rows = target.hold_out(winner)
        true, pred = rows["y_true"].to_numpy(dtype=float), rows["y_pred"].to_numpy(dtype=float)
        shown = evenly(len(true), _MOST_POINTS)
        low, high = min(true.min(), pred.min()), max(true.max(), pred.max())
        margin = 0.04 * (high - low) or 1.0
        ends = (low - margin, high + margin)
        axes.plot(ends, ends, color=_DARK, linewidth=0.8, zorder=3)
        alpha = float(np.clip(7.5 / np.sqrt(len(shown)), 0.15, 0.6))
        colour = SIDES[winner.method.side].colour
        axes.scatter(true[shown], pred[shown], s=7, color=colour, alpha=alpha, linewidths=0, zorder=2)
        axes.set(xlim=ends, ylim=ends, aspect="equal", title=_title(target))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=4))
        axes.tick_params(labelsize=7)
        method = cell_name(winner).split(" from ")[0]
        text = f"{method}\nMAE {number(mean_absolute_error(true, pred), 3)}\nR² {r2(true, pred):.2f}"
        axes.text(0.03, 0.97, text, transform=axes.transAxes, va="top", fontsize=6.5, color="#333333")
    figure.supxlabel("reference value, hold-out", fontsize=9)
    figure.supylabel("prediction", fontsize=9)
    return figure


@house_style()
def against_paper(results: Sequence[TargetResults]) -> Figure:
    """Hold-out MAE of the winners over the paper's lowest; in grey the best of the paper's methods, if another won."""
    rows = [
        (target.winner.test_mae / target.paper.lowest_mae, target.paper.lowest_mae, target, target.winner)
        for target in results
        if target.winner and target.winner.test_mae and target.paper and target.paper.lowest_mae
    ]
    rows.sort(key=lambda row: row[0])
    figure, axes = _row_chart(
        [target.info.label for _, _, target, _ in rows],
        "Against the lowest error of Gupta et al. 2021, whatever its method",
        "hold-out MAE of this study / lowest MAE of the paper   (left of 1: this study is lower)",
    )
    axes.axvline(1.0, color=_DARK, linewidth=1.2)
    bar: dict[str, Any] = {"marker": "|", "linestyle": "none", "color": SIDES[Side.BASE].colour}
    for y, (_, lowest, target, winner) in enumerate(rows):
        grey = target.paper_winner
        if winner.method.extension and grey is not None and grey.test_mae is not None:
            axes.plot(grey.test_mae / lowest, y + 0.25, markersize=6, markeredgewidth=1.6, **bar)
        _mark_cell(axes, y, winner, lowest)
    axes.set_xscale("log")
    _plain_ticks(axes.xaxis, 7, [1, 2, 2.5, 5, 10])
    kinds = sorted({(winner.method.side, winner.method.extension) for *_, winner in rows})
    for side, extension in kinds:
        of = "an extension method" if extension else "a paper's method"
        _mark(axes, [], [], side, hollow=extension, label=f"winner: {SIDES[side].name}, {of}")
    if any(winner.method.extension and target.paper_winner for *_, target, winner in rows):
        axes.plot([], [], markersize=8, label="best of the paper's methods", **bar)
    _legend(figure, axes)
    return figure


@house_style()
def heatmap(ratios: pd.DataFrame, cells: pd.DataFrame, *, title: str, name: str = "notation") -> Figure:
    """Relative errors of methods (columns) by target (rows), lowest framed; a line before the extension methods."""
    methods, values, labels = list(ratios.index), ratios.to_numpy(dtype=float), list(cells["label"].unique())
    extension = set(cells.loc[cells["extension"], name])
    n_paper = sum(method not in extension for method in methods)
    known = values[np.isfinite(values)]
    lowest, highest = (known.min(), known.max()) if known.size else (0.5, 1.0)
    norm = TwoSlopeNorm(vcenter=1.0, vmin=min(lowest, 0.9), vmax=float(np.clip(highest, 1.3, 2.0)))
    width = max(8.2, 1.6 + 0.66 * len(methods))
    figure, axes = single_axes(width, 1.7 + (0.3 if len(labels) <= 16 else 0.25) * len(labels))
    image = axes.imshow(np.ma.masked_invalid(values.T), cmap=_ERROR_SCALE, norm=norm, aspect="auto")
    _matrix_axes(axes, labels)
    axes.set_xticks(range(len(methods)), methods, rotation=35, ha="right", rotation_mode="anchor")
    for (column, row), ratio in np.ndenumerate(values):
        best = np.isfinite(ratio) and column == np.nanargmin(values[:, row])
        dark = np.isfinite(ratio) and not 0.3 <= float(norm(ratio)) <= 0.9
        text = f"{ratio:.2f}" if np.isfinite(ratio) else "–"
        weight, colour = "bold" if best else "normal", "white" if dark else _DARK
        axes.text(column, row, text, fontsize=7.5, color=colour, weight=weight, **_CENTRED)
        if best:
            corner = (column - 0.47, row - 0.44)
            axes.add_patch(Rectangle(corner, 0.94, 0.88, fill=False, edgecolor="#ffb000", linewidth=2.0))
    both = 0 < n_paper < len(methods)
    axes.set_title(title, pad=16 if both else 6)
    if both:
        axes.axvline(n_paper - 0.5, color=_DARK, linewidth=1.6)
        above: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "va": "bottom", "style": "italic"}
        axes.text(n_paper - 0.56, 1.0, "the paper's", ha="right", fontsize=8, **above)
        axes.text(n_paper - 0.44, 1.0, "extension methods", ha="left", fontsize=8, **above)
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=14 if len(labels) <= 16 else 30)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=5))
    bar.set_label("1 = predicting the mean", fontsize=8)
    return figure


def _matrix_axes(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_facecolor(_GREY)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


@house_style()
def extraction_layers(cells: pd.DataFrame) -> Figure:
    """How often tuning chose each extraction layer, over targets and sources."""
    figure, axes = single_axes(7.6, 2.9)
    for shift, (method, (colour, _)) in zip((-0.2, 0.2), EXTRACTORS.items(), strict=True):
        layers = cells.loc[cells["method"] == method, "layer"]
        counts = layers.value_counts().reindex(EXTRACTION_LAYERS, fill_value=0)
        label = f"{method.notation} ({counts.sum()} cells)"
        axes.bar(np.arange(len(counts)) + shift, counts, width=0.4, color=colour, label=label)
    _layer_axis(axes)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("hidden layer of the source network, and its width")
    axes.set(ylabel="cells that chose it", title="Which layer transfers")
    axes.legend()
    return figure


def _layer_axis(axes: Axes) -> None:
    names = [f"{i}\n{units}" for i, units in enumerate(HIDDEN_UNITS, start=1)]
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")


@house_style()
def layer_errors(ratios: pd.DataFrame) -> Figure:
    """Error by extraction layer relative to the best layer of the same cell; columns ``method, layer, ratio``."""
    figure, axes = single_axes(7.6, 3.4)
    shifts = ((-0.15, -0.20), (0.15, -0.27))
    for (shift, height), (method, (colour, shape)) in zip(shifts, EXTRACTORS.items(), strict=True):
        of_layer = ratios[ratios["method"] == method.notation].groupby("layer")["ratio"]
        places = np.array([EXTRACTION_LAYERS.index(str(layer)) for layer in of_layer.groups])
        means = of_layer.agg(geometric_mean).to_numpy()
        low, high = (of_layer.quantile(share).to_numpy() for share in (0.25, 0.75))
        spread = np.clip(np.stack([means - low, high - means]), 0.0, None)
        how: dict[str, Any] = {"color": colour, "markersize": 5, "elinewidth": 1.4, "label": method.notation}
        axes.errorbar(places + shift, means, yerr=spread, fmt=shape, **how)
        below: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "ha": "center", "color": colour}
        for place, n in zip(places, of_layer.size(), strict=True):
            axes.text(place, height, str(n), fontsize=7, **below)
    axes.axhline(1.0, color=_DARK, linewidth=0.8)
    _layer_axis(axes)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    xlabel = "hidden layer of the source network and its width; in colour: cells that tried it"
    axes.set_xlabel(xlabel, labelpad=28)
    axes.set(ylabel="screening MAE / best layer's", title="Error by extraction layer")
    axes.legend(loc="upper left")
    return figure


@house_style()
def learning_curves(results: Sequence[TargetResults]) -> Figure:
    """Hold-out MAE of best SC and best TL against the number of training rows, a panel per target."""
    with_curve = [target for target in results if len(target.learning_curve)]
    figure, panels = _panels(len(with_curve), 4, 2.5)
    for axes, target in zip(panels, with_curve, strict=True):
        for side, label in ((Side.SCRATCH, "best SC"), (Side.TRANSFER, "best TL")):
            points = target.learning_curve[target.learning_curve["side"] == side].sort_values("n_train")
            if len(points):
                colour, marker, _ = SIDES[side]
                how: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4.5, "linewidth": 1.3}
                axes.plot(points["n_train"], points["test_mae"], label=label, **how)
        axes.set(xscale="log", yscale="log", title=_title(target))
        for axis in (axes.xaxis, axes.yaxis):
            _plain_ticks(axis, 4, [1, 2, 3, 5, 10])
        axes.tick_params(labelsize=7)
        axes.grid()
    figure.supxlabel("training rows", fontsize=9)
    figure.supylabel("hold-out MAE", fontsize=9)
    _legend(figure, panels[0], "outside upper center")
    return figure


@house_style()
def source_learning(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Validation MAE of every source network relative to the median's against the rows it had seen."""
    figure, axes = single_axes(5.6, 3.6)
    looks = product("os^", QUALITATIVE)
    for (name, curve), (marker, colour) in zip(curves.items(), cycle(looks)):
        how: dict[str, Any] = {"marker": marker, "markersize": 3, "linewidth": 1.3, "color": colour}
        axes.plot(curve["seen"], curve["relative"], **how, linestyle="-" if marker == "o" else "--", label=name)
    axes.set(xscale="log", yscale="log", xlabel="rows seen", ylabel="validation MAE / MAE of the median")
    _plain_ticks(axes.yaxis, 6, [1, 1.5, 2, 3, 5, 7, 10])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.grid()
    axes.legend(fontsize=8)
    return figure


@house_style()
def correlations(matrix: pd.DataFrame, legible: float) -> Figure:
    """Correlation coefficients of the targets; among many only those of at least ``legible`` are written out."""
    n, many = len(matrix), len(matrix) > 16
    side = max(3.2, 1.6 + (0.24 if many else 0.42) * n)
    figure, axes = single_axes(side + 0.6, side)
    image = axes.imshow(np.ma.masked_invalid(matrix.to_numpy()), cmap="PuOr", vmin=-1, vmax=1)
    _matrix_axes(axes, list(matrix.index))
    axes.set_xticks(range(n), matrix.columns, rotation=90)
    axes.tick_params(labelsize=8)
    for (i, j), value in np.ndenumerate(matrix.to_numpy()):
        if np.isfinite(value) and (not many or abs(value) >= legible):
            colour = "white" if abs(value) > 0.55 else _DARK
            text = f"{value:.1f}" if many else f"{value:.2f}"
            axes.text(j, i, text, fontsize=5 if many else 7.5, color=colour, **_CENTRED)
    axes.plot([-0.5, n - 0.5], [-0.5, n - 0.5], color="#444444", linewidth=0.8)
    axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5))
    axes.set_title("Spearman (below) and Pearson (above the diagonal)")
    figure.colorbar(image, ax=axes, pad=0.02, shrink=0.6).outline.set_visible(False)
    return figure


@house_style()
def coverage(table: pd.DataFrame, *, tolerance: float, many_rows: int) -> Figure:
    """Measured coverage with its 95 % interval, the highest first; a band of ``tolerance``, ``many_rows`` filled."""
    table = table.sort_values("label").sort_values("measured", ascending=False, kind="stable")
    stated, colour = 100 * table["stated"].iloc[0], QUALITATIVE[0]
    xlabel = "hold-out values within their interval, %"
    figure, axes = _row_chart(list(table["label"]), "Coverage of the intervals", xlabel)
    band = (stated - 100 * tolerance, stated + 100 * tolerance)
    axes.axvspan(*band, color=QUALITATIVE[2], alpha=0.12, linewidth=0)
    axes.axvline(stated, color=_DARK, linewidth=1.0)
    for place, (n, share) in enumerate(zip(table["n_test"], table["measured"], strict=True)):
        held = round(share * n)
        low, high = SignTest(held, n - held).interval
        axes.plot([100 * low, 100 * high], [place, place], color=colour, linewidth=1.2)
        face = colour if n >= many_rows else "white"
        axes.plot(100 * share, place, "o", color=colour, markerfacecolor=face, markersize=5)
    return figure


@house_style()
def strict_against_published(refitted: pd.DataFrame) -> Figure:
    """Change of the hold-out MAE without repeated compositions, a point per row; the largest mean rise first."""
    ratios = refitted["strict_over_published"].astype(float)
    means = ratios.groupby(refitted["label"], sort=False).agg(geometric_mean)
    labels = list(means.sort_values(ascending=False, kind="stable").index)
    xlabel = "change of the hold-out MAE without the repeated compositions, %"
    figure, axes = _row_chart(labels, "Strict against published", xlabel)
    for label, method, ratio in zip(refitted["label"], refitted["method"], ratios, strict=True):
        _mark(axes, 100 * (ratio - 1), labels.index(label), method.side, hollow=method.extension)
    axes.axvline(0.0, color=_DARK, linewidth=1.0)
    return figure
