"""A recorder in memory, and pools of workers that are none."""

from __future__ import annotations

from typing import Any

from crossprop.errors import CrosspropError
from crossprop.experiments.executor import Failure
from crossprop.experiments.results import CellOutcome


class Recorder:
    """Keeps cells in memory; a recorder of its own for every run."""

    def __init__(self) -> None:
        self.digests: list[dict[str, str]] = []
        self.outcomes: list[CellOutcome] = []

    def __call__(self, digests: dict[str, str]) -> Recorder:
        self.digests.append(digests)
        return self

    def record(self, outcome: CellOutcome) -> str:
        """The id of a made-up run."""
        self.outcomes.append(outcome)
        return f"run of {outcome.result.cell}"


class Idle:
    """A pool that does nothing but notes what it is asked for."""

    asked: list[tuple[str, str, float]] = []  # noqa: RUF012

    def __init__(self, run: Any, **options: Any) -> None:
        self.workers = 1

    def submit(self, key: Any, task: Any, cost: float = 0.0) -> None:
        self.asked.append((key[0].target, key[1], cost))

    def results(self) -> Any:
        return iter(())

    def __enter__(self) -> Idle:
        return self

    def __exit__(self, *error: object) -> None:
        return None


class HereAndNow(Idle):
    """A pool without a process of its own."""

    def __init__(self, run: Any, **options: Any) -> None:
        super().__init__(run)
        self._run, self._queue = run, []

    def submit(self, key: Any, task: Any, cost: float = 0.0) -> None:
        self._queue.append((key, task))

    def results(self) -> Any:
        while self._queue:
            key, task = self._queue.pop(0)
            try:
                yield key, self._run(task)
            except CrosspropError as error:
                yield key, Failure(f"{type(error).__name__}: {error}")
