"""``crossprop screen``: enumerate compositions, predict, filter and rank them."""

from __future__ import annotations

import typer

app = typer.Typer()
