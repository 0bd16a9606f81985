"""What the generated reference pages share: a titled section, with an address of its own, from lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList


def section(directive: Directive, title: str, lines: Iterable[str]) -> nodes.section:
    """A section of reStructuredText, listed beside the page."""
    found = nodes.section(ids=[nodes.make_id(title)])
    found += nodes.title(text=title)
    directive.state.nested_parse(StringList([*lines, ""], source=title), 0, found)
    return found


def table(head: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int]) -> list[str]:
    """Lines of a table with a heading; nothing where there are no rows."""
    rows = list(rows)
    if not rows:
        return []
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {' '.join(map(str, widths))}", ""]
    for row in (head, *rows):
        lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return [*lines, ""]
