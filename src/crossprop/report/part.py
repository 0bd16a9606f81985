"""A piece of a report: a section with its tables and drawings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crossprop.experiments.results import CellResult
from crossprop.methods import Method

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, str | int | float | bool | None]

FIGURES, TABLES = "figures", "tables"
"""Folders of a report, for drawings and for CSV files."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure still to be drawn.

    Attributes:
        draw: Makes the figure; called once, so that reading tables does not wait for matplotlib.
        caption: What it shows and how to read it.
    """

    draw: Callable[[], Figure]
    caption: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """A section of a page.

    Attributes:
        title: Headline; empty leaves the part out of the page.
        text: Markdown, without headline.
        tables: Rows by path within the report, all in the folder of tables.
        drawings: Figures by path within the report, in the order of the page.
    """

    title: str = ""
    text: str = ""
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    drawings: Mapping[str, Drawing] = field(default_factory=dict)

    def markdown(self, level: str = "##") -> str:
        """The section with its figures and the names of its tables; empty without a headline."""
        if not self.title:
            return ""
        shown = [
            f"![{drawing.caption}]({name})\n\n*{drawing.caption}*" for name, drawing in self.drawings.items()
        ]
        data = ", ".join(f"[{name}]({name})" for name in self.tables)
        pieces = [
            f"{level} {self.title}",
            self.text.strip(),
            *shown,
            f"Numbers and run ids: {data}." if data else "",
        ]
        return "\n\n".join(piece for piece in pieces if piece)


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits and no exponent where that reads well; – for none.

    >>> number(0.12), number(48.114), number(12345.6)
    ('0.1200', '48.11', '12346')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if not -5 < exponent < 7:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - exponent)}f}"


def interval(value: float | None, low: float | None, high: float | None, digits: int = 3) -> str:
    """``[low, high]`` with the decimals of ``digits`` digits of the largest; empty for none."""
    if value is None or low is None or high is None:
        return ""
    scale = max(abs(value), abs(low), abs(high)) or 1.0
    exponent = math.floor(math.log10(scale))
    if not -5 < exponent < 7:
        return f"[{number(low, digits)}, {number(high, digits)}]"
    decimals = max(0, digits - 1 - exponent)
    return f"[{low:.{decimals}f}, {high:.{decimals}f}]"


def p_value(p: float) -> str:
    """A p-value as it stands in a sentence: ``p = 0.031`` or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2f}" if p >= 0.095 else f"p = {p:.3f}"


def cell_name(cell: CellResult | None) -> str:
    """The paper's notation of a cell with what it learns from; – for none.

    For example ``SC:ML(PA)`` or ``TL:ModFineTune from formation energy``.
    """
    if cell is None:
        return "–"
    name = cell.method.notation
    if cell.method in (Method.ML, Method.DL) and cell.representation:
        name += f"({cell.representation.short})"
    if cell.source is None:
        return name
    layer = f", {cell.layer}" if cell.layer and cell.method is not Method.FREEZING else ""
    return f"{name} from {words(cell.source)}{layer}"


def unit_name(unit: str) -> str:
    """A unit as a table shows it; – for a pure number, which the catalogue writes as ``1``."""
    return "–" if unit in ("", "1") else unit


def status(cell: CellResult) -> str:
    """How far a cell came, in words: ``cross-validated``, ``stopped after …``, ``screened only``, ``failed: …``."""
    if cell.failure is not None:
        return f"failed: {cell.failure}"
    if cell.stopped is not None:
        return f"stopped {cell.stopped}" if cell.stopped.startswith("after ") else f"stopped: {cell.stopped}"
    return "screened only" if cell.cv_mae is None else "cross-validated"


def percent(share: float, digits: int = 0) -> str:
    """A share as per cent with its sign: ``+3 %``, ``-12 %``."""
    return f"{100 * share:+.{digits}f} %"


def words(key: str) -> str:
    """A key of the catalogue as words."""
    return key.replace("_", " ")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """A table in Markdown; columns are right-aligned but those in ``left``."""
    rule = [":--" if column in left else "--:" for column in range(len(header))]
    lines = [header, rule, *([entry.replace("|", "\\|").replace("\n", " ") for entry in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
