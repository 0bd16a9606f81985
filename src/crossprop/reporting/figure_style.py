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

SIDE_COLOURS = {Side.BASE: "#6e6e6e", Side.SCRATCH: "#0072b2", Side.TRANSFER: "#d55e00"}
"""Okabe and Ito's blue and vermilion, which all common kinds of colour vision tell apart."""

_MOST_BYTES = 150 * 1024
_PALETTES = (256, 64, 32, 16)

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
    "savefig.dpi": 110,
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
    """Write a figure as a PNG without date or version, with as many colours as stay below 150 KiB."""
    drawn = io.BytesIO()
    with house_style():
        figure.savefig(drawn, format="png", metadata={"Software": None}, bbox_inches="tight", pad_inches=0.1)
    with Image.open(drawn) as image:
        opaque = image.convert("RGB")
    for colours in _PALETTES:
        small = io.BytesIO()
        flat = opaque.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        flat.save(small, format="PNG", optimize=True)
        if small.tell() < _MOST_BYTES:
            break
    path.write_bytes(small.getvalue())
