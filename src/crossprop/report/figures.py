"""Figures of errors: SC against TL, parity of the winners, our errors against the paper's."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from PIL import Image

from crossprop.experiments.results import CellResult
from crossprop.methods import EXTRACTION_LAYERS, HIDDEN_UNITS, Method, Representation, Side
from crossprop.report.part import cell_name, number, unit_name
from crossprop.report.study import PaperTable, TargetResults
from crossprop.training.metrics import mean_absolute_error, r2

SIDE_COLOURS = {
    Side.BASE: "#6e6e6e",
    Side.SCRATCH: "#0072b2",
    Side.TRANSFER: "#d55e00",
    Side.BLEND: "#009e73",
}
"""Okabe and Ito's blue, vermilion and green, which all common kinds of colour vision tell apart."""

SIDE_MARKERS = {Side.BASE: "x", Side.SCRATCH: "o", Side.TRANSFER: "D", Side.BLEND: "s"}
"""Shapes, so that sides are told apart without colours too."""

QUALITATIVE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours for further categories."""

_MOST_BYTES = 150 * 1024
_QUALITIES = ((110, 256), (110, 128), (90, 128), (80, 64), (70, 64), (60, 32))
"""Dots per inch and colours: the first that are small enough are taken."""

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


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's own defaults and ours, whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def single_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of so many inches with one pair of axes; knows nothing of pyplot or a display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG without date or version, as sharp as stays below 150 KiB."""
    drawn: dict[int, Image.Image] = {}
    small = io.BytesIO()
    for dpi, colours in _QUALITIES:
        if dpi not in drawn:
            drawn[dpi] = _draw(figure, dpi)
        flat = drawn[dpi].quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        small = io.BytesIO()
        flat.save(small, format="PNG", optimize=True)
        if small.tell() < _MOST_BYTES:
            break
    path.write_bytes(small.getvalue())


def _draw(figure: Figure, dpi: int) -> Image.Image:
    """The figure's pixels on white."""
    drawn = io.BytesIO()
    with house_style():
        figure.savefig(
            drawn, format="png", dpi=dpi, metadata={"Software": None}, bbox_inches="tight", pad_inches=0.1
        )
    with Image.open(drawn) as image:
        return image.convert("RGB")


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
            if winner.method.extension and theirs is not None:
                grey = SIDE_COLOURS[Side.BASE]
                axes.plot(_mae(theirs) / lowest, y + 0.25, "|", color=grey, markersize=6, markeredgewidth=1.6)
            _point(axes, y, winner.method.side, winner, lowest)
            kinds[(winner.method.side, winner.method.extension)] = None
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
    _mark(axes, place, y, side, spread, hollow=cell.method.extension)


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
    own = {_method(cell) for target in results for cell in target.cells if cell.method.extension}
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
    plain = cell.method.side is Side.TRANSFER or cell.method.extension
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
