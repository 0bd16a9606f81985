"""``crossprop models``, ``promote`` and ``rollback``: the model registry."""

from __future__ import annotations

import typer

app = typer.Typer()
