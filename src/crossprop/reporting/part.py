"""A piece of a report: a section with its tables and drawings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
