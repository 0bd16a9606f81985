"""The lines of progress: which task is finished, how many are left, how long it will take."""

from collections.abc import Callable
from time import monotonic

from crossprop.experiments.grid import Cell

Print = Callable[[str], None]
_TELLING = 0.1  # share of the tasks that has to be finished before they tell how long the others take


def show(line: str) -> None:
    """Print at once, also where the output goes into a file or another program."""
    print(line, flush=True)


class Progress:
    """Counts tasks and estimates the time left, also from the ``planned`` seconds where these are known."""

    def __init__(self, study: str, write: Print = show, planned: float | None = None) -> None:
        self._study, self._write, self._planned = study, write, planned
        self._expected: dict[str, int] = {}
        self._done = self._stored = 0
        self._started = self._counted = monotonic()
        self._spent = self._capacity = 0.0
        self._workers = 1
        self._idle: float | None = None

    def expect(self, target: str, tasks: int) -> None:
        """A target has so many tasks in all, as far as is known."""
        self._expected[target] = tasks

    def found(self) -> None:
        """A task was finished by an earlier run."""
        self._done += 1
        self._stored += 1

    def begin(self, workers: int = 1) -> None:
        """What was found finished is counted; the clock starts for so many workers."""
        self._started = self._counted = monotonic()
        self._workers = workers
        if self._stored:
            total = sum(self._expected.values())
            self._write(f"{self._study}: {self._stored} of {total} tasks are finished already, going on")

    def step(self, cell: Cell, what: str, val_mae: float | None = None) -> None:
        """A task is finished: say what it was, what came of it, and how much is left."""
        self._done += 1
        elapsed = monotonic() - self._started
        total, fresh = sum(self._expected.values()), self._done - self._stored
        # The start is not repeated, and the tasks that the other workers have begun are half done.
        working, begun = elapsed - (self._idle or 0.0), fresh + (self._workers - 1) / 2
        left = working / begun * max(total - self._done, 0)
        share = fresh / max(total - self._stored, fresh)
        tells = share > _TELLING
        if self._planned:  # the fewer tasks are finished, the less do they tell about the others
            planned = self._planned * (1 - self._stored / max(total, self._done))
            if elapsed < planned:
                share, tells = max(share, elapsed / planned), True
                left = share * left + (1 - share) * (planned - elapsed)
        known = f", about {_clock(left)} left" if tells else ""
        error = "" if val_mae is None else f": validation MAE {val_mae:.4g} {cell.unit}".rstrip()
        self._write(f"{self._study}/{cell.target} [{self._done}/{total}, {_clock(elapsed)} gone{known}] {what}{error}")

    def spent(self, seconds: float, workers: int) -> None:
        """One of so many workers was busy for so long, at most since the start: a search may be an older one."""
        seconds = min(seconds, monotonic() - self._started)
        self._capacity += workers * (monotonic() - self._counted)
        self._counted, self._workers = monotonic(), workers
        if self._idle is None:  # until the first task began, workers were starting
            self._idle = max(0.0, monotonic() - self._started - seconds)
        self._spent += seconds

    def end(self) -> None:
        """Everything is computed: say how much of the time the workers were busy."""
        elapsed = monotonic() - self._started
        if self._done > self._stored and self._capacity > 0:
            share = 100 * self._spent / self._capacity
            self._write(f"{self._study}: {self._workers} worker(s) were busy {share:.1f} % of {_clock(elapsed)}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
