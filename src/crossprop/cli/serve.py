"""``crossprop serve``: the HTTP service and its page."""

from __future__ import annotations

import typer

app = typer.Typer()
