"""A screening from the request to the ranked table."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from crossprop import __version__
from crossprop.errors import ScreeningError
from crossprop.screening import memory
from crossprop.screening.folder import begun_before, claimed
from crossprop.screening.journal import JOURNAL, STREAM, Journal, Progress, read_progress
from crossprop.screening.listed import ListedSpace
from crossprop.screening.pipeline import Batch, Pipeline, schema
from crossprop.screening.plan import Calibration, Count
from crossprop.screening.progress import progress_bar
from crossprop.screening.ranking import Ranker
from crossprop.screening.request import ScreenRequest
from crossprop.screening.result import (
    RESULTS,
    ScreenResult,
    survivors,
    write_note,
    write_results,
    write_top,
)
from crossprop.screening.space import Space

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
        now = memory.resident()
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
            "peak_memory_gib": round(memory.peak() / 2**30, 3),
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
