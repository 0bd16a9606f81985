"""A screening from the request to the ranked table."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import psutil
from rich.table import Table

from crossprop import __version__
from crossprop.errors import ScreeningError
from crossprop.screening.listed import ListedSpace
from crossprop.screening.pipeline import Batch, Calibration, Count, Pipeline, schema
from crossprop.screening.rank import Ranker
from crossprop.screening.request import ScreenRequest
from crossprop.screening.result import (
    JOURNAL,
    RESULTS,
    STREAM,
    TOP,
    Journal,
    Progress,
    ScreenResult,
    begun_before,
    claimed,
    read_progress,
    survivors,
    write_note,
    write_results,
    write_top,
)
from crossprop.screening.space import Space
from crossprop.uncertainty.evidence import KnownValues

_GIB = 1 << 30
_FREE_SHARE = 0.5
"""Share of the free memory that is taken where nobody says how much."""


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(psutil.Process().memory_info().rss)


def peak() -> int:
    """Most bytes that this process ever had in memory."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def allowed(gib: float | None) -> int:
    """Bytes that the screening may have in all: what was asked for, or what it has and half of what is free."""
    if gib is not None:
        return int(gib * _GIB)
    return resident() + int(psutil.virtual_memory().available * _FREE_SHARE)


def fitting(workers: int, rows: int, per_batch: int, limit: int) -> tuple[int, int]:
    """Threads, and rows of a batch, that fit.

    Args:
        workers: Threads wanted.
        rows: Rows of a batch wanted.
        per_batch: Bytes that a batch of so many rows takes while it is predicted.
        limit: Bytes that the process may have.

    Raises:
        ScreeningError: The models alone take more than that.
    """
    room = limit - resident()
    if room <= 0:
        raise ScreeningError(
            f"The models take {resident() / _GIB:.1f} GiB, more than the {limit / _GIB:.1f} GiB that are allowed. "
            "Raise --memory or screen fewer properties at a time."
        )
    while rows > 64 and workers * per_batch > room:
        rows, per_batch = rows // 2, per_batch // 2
    while workers > 1 and workers * per_batch > room:
        workers -= 1
    return workers, rows


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


_AHEAD = 2
"""Batches handed out for each thread: one in work, one waiting, so that writing leaves no thread idle."""
_OVER = 1.1


@dataclass(frozen=True)
class Screening:
    """A screening that is ready to run.

    Attributes:
        request: What was asked for.
        identity: What must be the same for it to go on later.
        pipeline: What is done to a batch; ``None`` where all is done and only the ranking is left.
        ranker: How the survivors are ranked.
        count: Compositions that the chemistry lets pass.
        calibration: What a sample told.
        known: Least and greatest value in the data of every property that has some.
        workers: Threads.
        limit: Bytes that the process may have in memory.
        done: What earlier sessions did.
    """

    request: ScreenRequest
    identity: dict[str, Any]
    pipeline: Pipeline | None
    ranker: Ranker
    count: Count
    calibration: Calibration
    known: dict[str, tuple[float, float]]
    workers: int
    limit: int
    done: Progress

    @property
    def positions(self) -> int:
        """Positions of the space."""
        return int(self.identity["positions"])

    @property
    def finished(self) -> bool:
        """Whether only the ranking is left to do."""
        return self.pipeline is None

    @property
    def seconds(self) -> float:
        """Estimate of the time that is left."""
        left = 1 - self.done.stop / self.positions
        return self.calibration.seconds * self.count.compositions * left

    def run(self, progress: bool = True) -> ScreenResult:
        """Do it, or go on with it.

        Args:
            progress: Show a bar on a terminal.

        Raises:
            ScreeningError: The results cannot be written, or the memory does not suffice; what is done is kept.
            KeyboardInterrupt: It was stopped; what is done is kept.
        """
        folder = self.request.out
        with claimed(folder):
            note = begun_before(folder, self.identity)
            if self.pipeline is not None:
                note = self._note(note)
                write_note(folder, note)
                if not (folder / RESULTS).is_file():
                    self._predict(self.pipeline, progress)
                    write_results(folder, schema(self.pipeline.properties))
                note |= self._figures(read_progress(folder))
            assert note is not None
            top = self.ranker.rank(survivors(folder))
            write_top(folder, top)
            note["ranking"] = self._ranking(len(top))
            write_note(folder, note)
            for name in (STREAM, JOURNAL):
                (folder / name).unlink(missing_ok=True)
        return ScreenResult(folder, note, top)

    def _predict(self, pipeline: Pipeline, progress: bool) -> None:
        folder, total = self.request.out, self.positions
        step = self._step(pipeline)
        with ExitStack() as stack:
            journal = stack.enter_context(Journal(folder, schema(pipeline.properties)))
            report = stack.enter_context(progress_bar(total, journal.progress.stop, progress))
            threads = stack.enter_context(ThreadPoolExecutor(self.workers, "screening"))
            waiting: deque[Future[Batch]] = deque()
            stack.callback(lambda: [future.cancel() for future in waiting])
            begun = time.monotonic() - journal.progress.seconds
            position, in_flight = journal.progress.stop, _AHEAD * self.workers
            while waiting or position < total:
                while len(waiting) < in_flight and position < total:
                    stop = min(position + step, total)
                    waiting.append(threads.submit(pipeline.run, position, stop))
                    position = stop
                batch = waiting[0].result()
                waiting.popleft()
                journal.append(batch.kept, batch.stop, batch.considered, time.monotonic() - begun)
                report(batch.stop, journal.progress.kept)
                in_flight = self._fitting(in_flight)

    def _step(self, pipeline: Pipeline) -> int:
        """Positions that hold about one batch of possible compositions."""
        share = max(self.count.compositions, 1) / self.positions
        return max(1, min(round(pipeline.rows / share), 1 << 18))

    def _fitting(self, in_flight: int) -> int:
        """Batches in flight while the memory suffices; fewer if it does not."""
        now = resident()
        if now <= self.limit:
            return in_flight
        if in_flight > 1:
            return in_flight - 1
        if self.request.memory is not None and now > _OVER * self.limit:
            raise ScreeningError(
                f"The screening takes {now / 2**30:.1f} GiB, more than --memory {self.request.memory:g} allows, even "
                "with one batch at a time. Raise it or lower --batch, and run the command again: what is done is kept."
            )
        return in_flight

    def _note(self, before: dict[str, Any] | None) -> dict[str, Any]:
        assert self.pipeline is not None
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return {
            "status": "running",
            "crossprop": __version__,
            "begun": now if before is None else before["begun"],
            "sessions": 1 if before is None else before["sessions"] + 1,
            "request": self.request.model_dump(mode="json"),
            "models": {model.name: model.as_dict() for model in self.pipeline.properties},
            "plan": {"order": list(self.pipeline.order), "count": asdict(self.count)},
            "known": self.known,
            "left_out": self._left_out(self.pipeline.space),
            "identity": self.identity,
        }

    @staticmethod
    def _left_out(space: Space) -> dict[str, Any] | None:
        """What of a file was not screened."""
        if not isinstance(space, ListedSpace):
            return None
        return {"repeated": space.repeated, "no_formula": space.n_bad, "first": list(space.bad)}

    def _figures(self, progress: Progress) -> dict[str, Any]:
        assert self.pipeline is not None
        return {
            "status": "finished",
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "counts": {
                "positions": self.positions,
                "predicted": progress.considered,
                "kept": progress.kept,
            },
            "order": list(self.pipeline.order),
            "seconds": round(progress.seconds, 3),
            "predicted_per_second": round(progress.considered / max(progress.seconds, 1e-9), 1),
            "workers": self.workers,
            "batch": self.pipeline.rows,
            "peak_memory_gib": round(peak() / 2**30, 3),
        }

    def _ranking(self, rows: int) -> dict[str, Any]:
        return {
            "rank": self.ranker.kind,
            "objectives": [
                {"quantity": e.text, "goal": "maximize" if more else "minimize"}
                for e, more in self.ranker.objectives
            ],
            "best": self.ranker.best,
            "rows": rows,
        }


_YEAR = 365 * 86400


def counted(screening: Screening) -> list[str]:
    """How many compositions there are to predict, and what of a file was left out."""
    n = screening.positions
    assert screening.pipeline is not None
    lines = [f"{n:,} composition{'s' * (n != 1)}"]
    if screening.pipeline.chemistry is not None:
        about = "" if screening.count.exact else "about "
        lines[0] += f", {about}{screening.count.compositions:,} of them charge-balanced"
    space = screening.pipeline.space
    if isinstance(space, ListedSpace):
        if space.repeated:
            lines.append(f"{space.repeated:,} further row(s) repeat a composition and are left out")
        if space.n_bad:
            more = "" if space.n_bad == len(space.bad) else f" and {space.n_bad - len(space.bad):,} more"
            lines.append(f"{space.n_bad:,} row(s) hold no formula and are left out:")
            lines += [f"  {reason}" for reason in space.bad] + ([f" {more}"] if more else [])
    return lines


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days" if seconds < 2 * _YEAR else f"{seconds / _YEAR:,.0f} years"


def summary(result: ScreenResult) -> str:
    """What was done, where it lies, and what to think of it."""
    note = result.note
    counts = note["counts"]
    lines = [
        f"{counts['predicted']:,} compositions predicted in {duration(note['seconds'])} "
        f"({note['predicted_per_second']:,.0f}/s, {note['peak_memory_gib']:.1f} GiB), {counts['kept']:,} kept: "
        f"{result.folder / RESULTS}, the best {len(result.top)} in {result.folder / TOP}"
    ]
    if not counts["predicted"]:
        lines.append("nothing was left to predict: widen the elements or the rules (--all, --mixed-valence)")
    elif not counts["kept"]:
        lines.append(
            "nothing met the condition: in a new folder, ask for less, or for nothing to see what there is"
        )
    goals = [
        f"{o['quantity']} ({'more' if o['goal'] == 'maximize' else 'less'} is better)"
        for o in note["ranking"]["objectives"]
    ]
    kinds = {"value": "ranked by", "ei": "ranked by expected improvement of", "pareto": "Pareto front of"}
    beat = "" if note["ranking"]["best"] is None else f" over {note['ranking']['best']:g}"
    lines.append(f"{kinds[note['ranking']['rank']]} {', '.join(goals)}{beat}")
    flags = [column for column in result.top if str(column).endswith("_in_domain")]
    if flags and (outside := int((~result.top[flags].all(axis=1)).sum())):
        lines.append(
            f"{outside} of the best {len(result.top)} lie outside the training domain of a model (column note): "
            "extrapolation, not prediction. --in-domain in a new folder keeps the others only."
        )
    for name, (least, most) in note["known"].items():
        model = note["models"][name]
        column = result.top.get(name.replace(".", "_"))
        beyond = 0 if column is None else int((KnownValues(least, most, 0).beyond(column) != 0).sum())
        if beyond:
            lines.append(
                f"{beyond} of the best {len(result.top)} have a {name} beyond all values in its model's data "
                f"({_range(least, most, model['unit'])}): the order may be right, the figures are not known to be."
            )
    return "\n".join(lines)


def known_values(screening: Screening) -> str:
    """Which values the models have learnt from: what lies beyond them they can only guess."""
    units = {model.name: model.unit for model in screening.ranker.properties}
    ranges = [f"{name} {_range(low, high, units[name])}" for name, (low, high) in screening.known.items()]
    return f"values in the models' data: {', '.join(ranges)}" if ranges else ""


def _range(least: float, most: float, unit: str) -> str:
    return f"{least:.4g} to {most:.4g}{f' {unit}' if unit and unit != '1' else ''}"


def table(top: pd.DataFrame, width: int) -> Table:
    """The first rows for a terminal: values with their intervals and domain, as much as has room, formulas whole.

    Args:
        top: The ranked table.
        width: Characters of a line; intervals go first where they do not fit, then columns from the right.
    """
    properties = [str(c).removesuffix("_lower") for c in top if str(c).endswith("_lower")]
    hidden = {f"{p}{ending}" for p in properties for ending in ("_lower", "_upper", "_in_domain")}
    hidden |= {"rank", "formula", "position", "n_elements", "note", "log_expected_improvement"}
    names = [str(c) for c in top if c not in hidden]
    inside = top[[f"{p}_in_domain" for p in properties]].all(axis=1)
    first = {"rank": top["rank"].astype(str), "formula": top["formula"]}
    last = {"in_domain": inside.map({True: "yes", False: "no"})}
    for intervals, shown in [(True, len(names)), *((False, n) for n in range(len(names), -1, -1))]:
        values = {name: _values(top, name, intervals and name in properties) for name in names[:shown]}
        columns = {**first, **values, **last}
        if (
            sum(max(cells.str.len().max(), _longest_word(name)) + 3 for name, cells in columns.items())
            < width
        ):
            break
    made = Table(caption="" if shown == len(names) else f"further columns: {', '.join(names[shown:])}")
    for name in columns:
        made.add_column(
            "\n".join(name.split("_")), justify="left" if name == "formula" else "right", no_wrap=True
        )
    for row in zip(*columns.values(), strict=True):
        made.add_row(*row)
    return made


def _values(top: pd.DataFrame, name: str, intervals: bool) -> pd.Series[str]:
    shown = top[name].map(lambda value: f"{value:.4g}" if isinstance(value, float) else str(value))
    if not intervals:
        return shown
    ends = [top[f"{name}{ending}"].map("{:.3g}".format) for ending in ("_lower", "_upper")]
    return top[name].map("{:.3g}".format) + " (" + ends[0] + "…" + ends[1] + ")"


def _longest_word(name: str) -> int:
    return max(map(len, name.split("_")))
