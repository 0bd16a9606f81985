"""``crossprop fit`` and ``crossprop predict``: from a file to a model folder, from formulas to values."""

from __future__ import annotations

import typer

app = typer.Typer()
