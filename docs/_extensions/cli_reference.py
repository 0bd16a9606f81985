"""Puts every command with its arguments and options where a page says ``<cli-reference/>``; typer writes them."""

from __future__ import annotations

import re
from typing import Any

PLACE = "<cli-reference/>"


def reference() -> str:
    """Markdown with a section for every command."""
    import typer
    import typer.main
    from typer.cli import get_docs_for_click

    from crossprop.cli import app

    command = typer.main.get_command(app)
    text: str = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="crossprop"), name="crossprop")
    lines = text.splitlines()[1:]  # the page has a title
    return "\n".join(line if line.startswith("$ ") else _escaped(line) for line in lines)


def _escaped(line: str) -> str:
    """Outside of code, placeholders such as <study> are no HTML, and options are shown as code."""
    parts = re.split(r"(`[^`]*`)", line)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"(?<![\w-])(--[a-z][a-z-]*)", r"`\1`", parts[i].replace("<", "&lt;"))
    return "".join(parts)


def _insert(app: Any, page: str, source: list[str]) -> None:
    if PLACE in source[0]:
        source[0] = source[0].replace(PLACE, reference())


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _insert)
    return {"parallel_read_safe": True}
