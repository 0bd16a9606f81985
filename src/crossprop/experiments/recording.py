"""Recording beside the computation: one writer thread, patient with a store that is away for a while."""

from __future__ import annotations

from collections import deque
from threading import Condition, Thread
from time import monotonic

from crossprop.errors import TrackingError
from crossprop.experiments.progress import Print, show
from crossprop.experiments.results import CellOutcome, CellRecorder

PATIENCE_SECONDS = 900.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
_LAST_WRITE_SECONDS = 20.0


class StoreOutOfReachError(TrackingError):
    """The store does not answer now but may soon: a server that restarts, a lock that somebody holds."""


class BackgroundRecorder:
    """Hands finished cells to a recorder on a thread of its own, so that nobody waits for the store.

    While the store is out of reach, the writer tries again with growing pauses and the study goes on; what is computed
    is in the cell store in any case. Any other error ends the study with the next ``submit``.

    Args:
        inner: What the cells are recorded by; only the writer touches it.
        patience: Seconds for which an outage is waited out.
        write: Receives a line when an outage begins and when it is over.
    """

    def __init__(
        self, inner: CellRecorder, *, patience: float = PATIENCE_SECONDS, write: Print = show
    ) -> None:
        self._inner, self._patience, self._print = inner, patience, write
        self._changed = Condition()
        self._waiting: deque[CellOutcome] = deque()
        self._writing = False
        self._closed = False
        self._error: BaseException | None = None
        self._ids: dict[str, str] = {}
        self._thread: Thread | None = None

    def check(self) -> None:
        """Raise the writer's error, if it has one: to be called now and then where nothing is submitted for long.

        Raises:
            TrackingError: A cell could not be recorded.
        """
        with self._changed:
            self._raise_error()

    def submit(self, outcome: CellOutcome) -> None:
        """Queue a cell; returns at once.

        Raises:
            TrackingError: An earlier cell could not be recorded.
        """
        with self._changed:
            self._raise_error()
            self._waiting.append(outcome)
            if self._thread is None:
                self._thread = Thread(target=self._work, name="recorder", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def finish(self) -> dict[str, str]:
        """Wait until everything is recorded; returns the id of every cell's record by cell.

        Raises:
            TrackingError: The first error of the writer, as it was.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or not (self._waiting or self._writing))
            self._raise_error()
            return dict(self._ids)

    def __enter__(self) -> BackgroundRecorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Finish; after an error, end what is being written and leave the rest to the next run."""
        try:
            if kind is None:
                self.finish()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            if self._thread is not None:
                self._thread.join(_LAST_WRITE_SECONDS)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                self._writing = True
                outcome = self._waiting.popleft()
            try:
                run_id = self._record(outcome)
            except BaseException as error:  # whatever it is, the scheduler has to hear of it
                with self._changed:
                    self._error, self._writing = error, False
                    self._waiting.clear()
                    self._changed.notify_all()
                return
            with self._changed:
                self._ids[outcome.result.cell] = run_id

    def _record(self, outcome: CellOutcome) -> str:
        pause, began = FIRST_PAUSE_SECONDS, 0.0
        while True:
            try:
                run_id = self._inner.record(outcome)
            except StoreOutOfReachError as error:
                if not began:
                    began = monotonic()
                    self._print(
                        f"{error} The study goes on meanwhile; recording is tried again for "
                        f"{self._patience / 60:.3g} minutes."
                    )
                left = began + self._patience - monotonic()
                with self._changed:
                    if left <= 0 or self._changed.wait_for(lambda: self._closed, min(pause, left)):
                        raise
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                if began:
                    self._print(f"The tracking store answers again, after {monotonic() - began:.0f} s.")
                return run_id

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
