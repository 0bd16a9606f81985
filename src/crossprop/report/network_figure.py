"""The networks drawn: Supplementary Figure 3."""

from itertools import groupby, pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from crossprop.methods import EXTRACTION_LAYERS, HIDDEN_UNITS
from crossprop.models.networks import BLOCKS, WIDTH
from crossprop.report.figures import house_style, single_axes

FRACTIONS, ATTRIBUTES = 86, 145  # widths of the two representations of a composition
_LINE, _INPUT, _HEAD = "#444444", "#6e6e6e", "#d55e00"
_SHADES = {1024: "#08519c", 512: "#2171b5", 256: "#4292c6", 128: "#6baed6", 64: "#9ecae1", 32: "#c6dbef"}


def elemnet_parameters() -> int:
    """Weights and biases of ElemNet with its head."""
    widths = (FRACTIONS, *HIDDEN_UNITS, 1)
    return sum((before + 1) * after for before, after in pairwise(widths))


def resnet_parameters() -> int:
    """Weights, biases and normalisations of the residual network with its head."""
    block = 2 * (WIDTH + 1) * WIDTH + 2 * WIDTH
    return (FRACTIONS + ATTRIBUTES + 1) * WIDTH + BLOCKS * block + 2 * WIDTH + WIDTH + 1


@house_style()
def networks(*, elemnet: bool, residual: bool) -> Figure:
    """ElemNet with the extraction layers, and below it the residual network, whichever is asked for."""
    low, high = -1.15 if residual else -1.5, (4.3 if residual else 1.4) if elemnet else 1.2
    figure, axes = single_axes(8.6, 0.8 * (high - low))
    axes.set_axis_off()
    if elemnet:
        _elemnet(axes, y=2.9 if residual else 0.0)
    if residual:
        _resnet(axes, y=0.0)
    axes.set(xlim=(-0.9, 18.2), ylim=(low, high))
    return figure


def _elemnet(axes: Axes, y: float) -> None:
    below, end = y - 1.0, len(HIDDEN_UNITS) + 1.2
    axes.text(-0.8, y + 1.22, "ElemNet", weight="bold", fontsize=9)
    axes.plot([-0.4, end], [y, y], color=_LINE, linewidth=0.8, zorder=1)
    _box(axes, -0.4, y, _height(FRACTIONS), _INPUT)
    _label(axes, -0.4, below, f"{FRACTIONS}\nfractions")
    for x, units in enumerate(HIDDEN_UNITS, start=1):
        _box(axes, x, y, _height(units), _SHADES[units])
        axes.text(x, y + _height(units) / 2 + 0.06, str(x), ha="center", va="bottom", fontsize=7)
    for units, layers in groupby(enumerate(HIDDEN_UNITS, start=1), key=lambda layer: layer[1]):
        places = [x for x, _ in layers]
        n, middle = len(places), (places[0] + places[-1]) / 2
        _label(axes, middle, below, f"{n} × {units}" if n > 1 else str(units))
    _box(axes, end, y, 0.16, _HEAD)
    _label(axes, end, below, "head\n1")
    text = f"extraction layers {EXTRACTION_LAYERS[0]} … {EXTRACTION_LAYERS[-1]}: dense, ReLU"
    _label(axes, len(HIDDEN_UNITS) / 2 + 0.5, below - 0.24, text)


def _resnet(axes: Axes, y: float) -> None:
    below, inputs = y - 0.55, FRACTIONS + ATTRIBUTES
    start, end = 2.3, 15.2
    step = (end - start) / BLOCKS
    axes.text(-0.8, y + 0.85, "Residual network (extension method)", weight="bold", fontsize=9)
    axes.plot([-0.4, 17.2], [y, y], color=_LINE, linewidth=0.8, zorder=1)
    for x, height, colour, text in (
        (-0.4, _height(inputs), _INPUT, f"{inputs}\nEF+PA"),
        (1.3, _height(WIDTH), "#00664b", f"input layer\n{WIDTH}"),
        (15.8, _height(WIDTH), "#66c2a5", "norm"),
        (17.2, 0.16, _HEAD, "head: 1, or\none per source"),
    ):
        _box(axes, x, y, height, colour)
        _label(axes, x, below, text)
    for i in range(BLOCKS):
        left, width = start + i * step, step - 1.1
        middle, plus = left + width / 2, left + width + 0.4
        _box(axes, middle, y, 0.48, "#009e73", width)
        inside = "norm, dense,\nSiLU, dense"
        axes.text(middle, y, inside, ha="center", va="center", fontsize=6.5, color="white")
        axes.plot([left - 0.3, left - 0.3, plus], [y, y + 0.42, y + 0.42], color=_LINE, lw=0.9)
        arrow = {"arrowstyle": "->", "color": _LINE, "lw": 0.9}
        axes.annotate("", (plus, y + 0.08), (plus, y + 0.44), arrowprops=arrow)
        axes.plot(plus, y, "o", color="white", markeredgecolor=_LINE, markersize=8, zorder=3)
        axes.text(plus, y - 0.01, "+", ha="center", va="center", fontsize=7, zorder=4)
    text = f"{BLOCKS} blocks of {WIDTH} units; each adds its input to its output"
    _label(axes, (start + end) / 2, below, text)


def _height(units: int) -> float:
    return 0.2 + 1.6 * units / max(HIDDEN_UNITS)


def _box(axes: Axes, x: float, y: float, height: float, colour: str, width: float = 0.56) -> None:
    """A layer or a block, centred on a point."""
    corner = (x - width / 2, y - height / 2)
    box = Rectangle(corner, width, height, facecolor=colour, edgecolor="white", linewidth=0.8, zorder=2)
    axes.add_patch(box)


def _label(axes: Axes, x: float, y: float, text: str) -> None:
    axes.text(x, y, text, ha="center", va="top", fontsize=7)
