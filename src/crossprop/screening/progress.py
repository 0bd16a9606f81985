"""What a person sees while a screening runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[int, int], None]
"""Receives the positions done and the rows kept."""

_EVERY = 60.0
"""Seconds between two lines of a log."""


@contextmanager
def progress_bar(total: int, done: int, shown: bool) -> Iterator[Report]:
    """A bar with rate and time left on standard error; a line a minute where that is no terminal.

    Args:
        total: Positions in all.
        done: Positions done by earlier sessions.
        shown: Whether anything is wanted at all.
    """
    if not shown:
        yield lambda position, kept: None
        return
    if not sys.stderr.isatty():
        yield logged(total, done)
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


def logged(total: int, done: int, clock: Callable[[], float] = time.monotonic) -> Report:
    """Reports for a log: how far it is, and the time left at the rate since the last line."""
    from crossprop.screening.wording import duration

    last = [clock(), done]

    def report(position: int, kept: int) -> None:
        now = clock()
        if now - last[0] < _EVERY:
            return
        left = (total - position) * (now - last[0]) / max(1, position - last[1])
        last[:] = now, position
        print(
            f"{position / total:.1%} of {total:,} positions, {kept:,} kept, about {duration(left)} left",
            file=sys.stderr,
            flush=True,
        )

    return report
