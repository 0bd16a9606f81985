"""``crossprop study``: study configurations for one's own data."""

from __future__ import annotations

import typer

app = typer.Typer(help="Study configurations.", no_args_is_help=True)
