"""Sections and pages: Jinja2 templates, filled with numbers, tables and figures."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from crossprop.methods import Family, Side, unit_behind
from crossprop.report import tables as show


@dataclass(frozen=True, kw_only=True)
class Section:
    """What one section of a page shows: values for its template, and by path CSV tables and drawing functions."""

    context: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Callable[[], Figure]] = field(default_factory=dict)

    @property
    def shown(self) -> dict[str, Any]:
        """The values that a template reads: the context, the tables and the paths of the figures."""
        return {**self.context, "tables": self.tables, "figures": list(self.figures)}


def render(template: str, sections: Mapping[str, Section | None], **context: Any) -> str:
    """A page in Markdown: a file of ``templates/`` with its sections by name (None leaves one out) and more values."""
    values = {name: section and section.shown for name, section in sections.items()}
    text = _ENVIRONMENT.get_template(template).render(values, **context)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


_SHOWN = ("cell_name", "in_table", "interval", "number", "p_value", "percent", "two_digits")
FILTERS: Mapping[str, Callable[..., str]] = {
    **{name: getattr(show, name) for name in _SHOWN},
    "code": lambda text: f"`{text}`",
    "number_of": lambda n, noun: f"{n} {noun}{'' if n == 1 else 's'}",
    "count": lambda n: "–" if n is None else f"{n:,}",
    "duration": lambda seconds: "–" if seconds is None else show.duration(seconds),
    "unit": lambda unit: unit_behind(unit, "{}") or "–",
    "unit_behind": unit_behind,
    "words": show.words,
    "dash": lambda value: "–" if value is None else str(value),
    "lower_bold": lambda value, lower, when: ("**{}**" if lower is when else "{}").format(show.number(value)),
    "memory": lambda n_bytes: "–" if n_bytes is None else f"{n_bytes / 2**30:.2f} GiB",
    "of": lambda n, total: "–" if n is None else f"{n} of {total}",
    "printed": lambda value: "–" if value is None else f"{value:g}",
    "share": lambda share, digits=1: f"{100 * (share or 0.0):.{digits}f} %",
    "with_error": lambda value, se: show.number(value) + ("" if se is None else f" ± {show.number(se, 2)}"),
}
"""How a template shows a value, or several values of a table's row."""


def markdown(table: pd.DataFrame, columns: Sequence[Sequence[Any]], left: int | Sequence[int] = 1) -> str:
    """A table in Markdown; a column is (headline, column or columns, filter, arguments), ``left`` the left-aligned."""

    def text(row: Mapping[Any, Any], source: str | Sequence[str], name: str = "dash", *arguments: Any) -> str:
        values = [row[source]] if isinstance(source, str) else [row[column] for column in source]
        return show.in_table(FILTERS[name](*values, *arguments))

    rows = [[text(row, *how) for _, *how in columns] for row in table.to_dict("records")]
    on_left = range(left) if isinstance(left, int) else left
    align = ["left" if place in on_left else "right" for place in range(len(columns))]
    shown = pd.DataFrame(rows, columns=[headline for headline, *_ in columns])
    return shown.to_markdown(index=False, disable_numparse=True, colalign=align) if rows else ""


_ENVIRONMENT = Environment(
    loader=PackageLoader("crossprop.report"), trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
)
_ENVIRONMENT.filters.update({**FILTERS, "markdown": markdown})
_ENVIRONMENT.globals.update({"Side": Side, "Family": Family})
