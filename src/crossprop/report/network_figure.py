"""The networks drawn: Supplementary Figure 3."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from crossprop.methods import EXTRACTION_LAYERS, HIDDEN_UNITS
from crossprop.models.networks import BLOCKS, WIDTH
from crossprop.report.figures import house_style, single_axes

FRACTIONS, ATTRIBUTES = 86, 145
"""Widths of the two representations of a composition."""

_LINE = "#444444"


def elemnet_parameters(inputs: int = FRACTIONS) -> int:
    """Weights and biases of ElemNet with its head."""
    widths = (inputs, *HIDDEN_UNITS, 1)
    return sum((before + 1) * after for before, after in pairwise(widths))


def resnet_parameters(inputs: int = FRACTIONS + ATTRIBUTES, outputs: int = 1) -> int:
    """Weights, biases and normalisations of the residual network with its head."""
    block = 2 * (WIDTH + 1) * WIDTH + 2 * WIDTH
    return (inputs + 1) * WIDTH + BLOCKS * block + 2 * WIDTH + (WIDTH + 1) * outputs


@house_style()
def networks(*, residual: bool) -> Figure:
    """ElemNet with the extraction layers, and below it the residual network if asked for."""
    figure, axes = single_axes(8.6, 4.3 if residual else 2.5)
    axes.set_axis_off()
    _elemnet(axes, y=2.9 if residual else 0.0)
    if residual:
        _resnet(axes, y=0.0)
    axes.set(xlim=(-0.9, 18.2), ylim=(-1.15, 4.3) if residual else (-1.5, 1.4))
    return figure


def _elemnet(axes: Axes, y: float) -> None:
    below = y - 1.0
    axes.text(-0.8, y + 1.22, "ElemNet", weight="bold", fontsize=9)
    _layer(axes, -0.4, y, FRACTIONS, "#6e6e6e")
    _label(axes, -0.4, below, f"{FRACTIONS}\nfractions")
    shades = ("#08519c", "#2171b5", "#4292c6", "#6baed6", "#9ecae1", "#c6dbef")
    first = 0
    for shade, (units, layers) in zip(shades, groupby(HIDDEN_UNITS), strict=True):
        n = len(list(layers))
        for i in range(first, first + n):
            top = y + _height(units) / 2 + 0.06
            _layer(axes, i + 1.0, y, units, shade)
            axes.text(i + 1.0, top, str(i + 1), ha="center", va="bottom", fontsize=7)
        _label(axes, first + 1.0 + (n - 1) / 2, below, f"{n} × {units}" if n > 1 else str(units))
        first += n
    _head(axes, first + 1.2, y)
    _label(axes, first + 1.2, below, "head\n1")
    axes.plot([-0.4, first + 1.2], [y, y], color=_LINE, linewidth=0.8, zorder=1)
    text = f"extraction layers {EXTRACTION_LAYERS[0]} … {EXTRACTION_LAYERS[-1]}: dense, ReLU"
    _label(axes, first / 2 + 0.5, below - 0.24, text)


def _resnet(axes: Axes, y: float) -> None:
    below, inputs = y - 0.55, FRACTIONS + ATTRIBUTES
    axes.text(-0.8, y + 0.85, "Residual network (extension method)", weight="bold", fontsize=9)
    _layer(axes, -0.4, y, inputs, "#6e6e6e")
    _label(axes, -0.4, below, f"{inputs}\nEF+PA")
    _layer(axes, 1.3, y, WIDTH, "#00664b")
    _label(axes, 1.3, below, f"input layer\n{WIDTH}")
    start, end = 2.3, 15.2
    step = (end - start) / BLOCKS
    for i in range(BLOCKS):
        left, width = start + i * step, step - 1.1
        plus = left + width + 0.4
        axes.add_patch(_rectangle(left, y - 0.24, width, 0.48, "#009e73"))
        inside: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7, "color": "white"}
        axes.text(left + width / 2, y, "norm, dense,\nSiLU, dense", **inside)
        axes.plot([left - 0.3, left - 0.3, plus], [y, y + 0.42, y + 0.42], color=_LINE, lw=0.9)
        arrow = {"arrowstyle": "->", "color": _LINE, "lw": 0.9}
        axes.annotate("", (plus, y + 0.08), (plus, y + 0.44), arrowprops=arrow)
        axes.plot(plus, y, "o", color="white", markeredgecolor=_LINE, markersize=8, zorder=3)
        axes.text(plus, y - 0.01, "+", ha="center", va="center", fontsize=7, zorder=4)
    _label(
        axes, (start + end) / 2, below, f"{BLOCKS} blocks of {WIDTH} units; each adds its input to its output"
    )
    _layer(axes, 15.8, y, WIDTH, "#66c2a5")
    _label(axes, 15.8, below, "norm")
    _head(axes, 17.2, y)
    _label(axes, 17.2, below, "head: 1, or\none per source")
    axes.plot([-0.4, 17.2], [y, y], color=_LINE, linewidth=0.8, zorder=1)


def _height(units: int) -> float:
    return 0.2 + 1.6 * units / max(HIDDEN_UNITS)


def _layer(axes: Axes, x: float, y: float, units: int, colour: str) -> None:
    height = _height(units)
    axes.add_patch(_rectangle(x - 0.28, y - height / 2, 0.56, height, colour))


def _head(axes: Axes, x: float, y: float) -> None:
    axes.add_patch(_rectangle(x - 0.28, y - 0.08, 0.56, 0.16, "#d55e00"))


def _rectangle(x: float, y: float, width: float, height: float, colour: str) -> Rectangle:
    return Rectangle((x, y), width, height, facecolor=colour, edgecolor="white", linewidth=0.8, zorder=2)


def _label(axes: Axes, x: float, y: float, text: str) -> None:
    axes.text(x, y, text, ha="center", va="top", fontsize=7)
