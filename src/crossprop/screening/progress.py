"""What a person sees while a screening runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[int, int], None]
"""Receives the positions done and the rows kept."""


@contextmanager
def progress_bar(total: int, done: int, shown: bool) -> Iterator[Report]:
    """A bar with rate and time left on standard error; nothing where that is no terminal.

    Args:
        total: Positions in all.
        done: Positions done by earlier sessions.
        shown: Whether a bar is wanted at all.
    """
    if not (shown and sys.stderr.isatty()):
        yield lambda position, kept: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("screening"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[kept]:,} kept"),
    )
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=60) as bar:
        task = bar.add_task("", total=total, completed=done, rate=0.0, kept=0)

        def report(position: int, kept: int) -> None:
            bar.update(task, completed=position, kept=kept, rate=bar.tasks[0].speed or 0.0)

        yield report
