"""What a person sees while a target is computed: which piece, how many are left, how long it will take."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from crossprop.experiments.grid import Cell

Print = Callable[[str], None]


def show(line: str) -> None:
    """Print at once, also where the output goes into a file or another program."""
    print(line, flush=True)


class Progress:
    """Counts pieces of work and estimates the time left.

    Args:
        study: Name shown before every line.
        total: Pieces in all: one for every cell, the folds of one cell for every method, and the refits of those that
            will be chosen.
        write: Receives the lines.
    """

    def __init__(self, study: str, total: int, write: Print = show) -> None:
        self._study, self._total, self._write = study, total, write
        self._done = 0
        self._started = monotonic()
        self._stored = 0
        self._spent = 0.0
        self._workers = 1
        self._idle: float | None = None

    def found(self) -> None:
        """A piece was finished by an earlier run."""
        self._done += 1
        self._stored += 1

    def expect_more(self) -> None:
        """One more piece than was planned."""
        self._total += 1

    def expect_fewer(self, pieces: int) -> None:
        """Some pieces are not needed."""
        self._total -= pieces

    def begin(self, workers: int = 1) -> None:
        """What was found finished is counted; the clock starts for so many workers."""
        self._started, self._workers = monotonic(), workers
        if self._stored:
            self._write(
                f"{self._study}: {self._stored} of {self._total} pieces are finished already, going on"
            )

    def screened(self, cell: Cell, val_mae: float) -> None:
        """A cell was tuned."""
        self._step(cell, f"screened {cell.label}: validation MAE {val_mae:.4g} {cell.unit}")

    def fitted(self, cell: Cell, piece: str, val_mae: float) -> None:
        """A fold was fitted, whole, without repeated compositions, or on a share of its rows."""
        self._step(cell, f"{piece} of {cell.label}: validation MAE {val_mae:.4g} {cell.unit}")

    def blended(self, cell: Cell, val_mae: float) -> None:
        """The cross-validated cells were blended."""
        self._step(cell, f"{cell.label}: validation MAE {val_mae:.4g} {cell.unit}")

    def failed(self, cell: Cell, reason: str) -> None:
        """A piece failed for good."""
        self._step(cell, f"FAILED {cell.label}: {reason}")

    def spent(self, seconds: float) -> None:
        """A worker was busy for so long."""
        if self._idle is None:  # until the first piece began, workers were starting
            self._idle = max(0.0, monotonic() - self._started - seconds)
        self._spent += seconds

    def end(self, workers: int) -> None:
        """Everything is computed: say how much of the time the workers had something to do."""
        elapsed = monotonic() - self._started
        if self._done > self._stored and elapsed > 0:
            share = self._spent / (workers * elapsed)
            self._write(
                f"{self._study}: {workers} workers were busy {100 * share:.1f} % of {_clock(elapsed)}"
            )

    def _step(self, cell: Cell, what: str) -> None:
        self._done += 1
        elapsed = monotonic() - self._started
        fresh = self._done - self._stored
        # The start does not repeat itself, and the pieces that the other workers have in hand are half done.
        working, begun = elapsed - (self._idle or 0.0), fresh + (self._workers - 1) / 2
        left = working / begun * max(self._total - self._done, 0) if fresh else 0.0
        self._write(
            f"{self._study}/{cell.target} [{self._done}/{self._total}, {_clock(elapsed)} gone, "
            f"about {_clock(left)} left] {what}"
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
