"""One look for all figures, and small PNG files that are the same byte for byte when drawn twice."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from crossprop.vocabulary import Side

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
