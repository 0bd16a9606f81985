"""A few clean processes side by side, each lent to one job at a time."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Self, TypeVar

from crossprop.tracking.clean_process import PATIENCE_SECONDS, CleanProcess

T = TypeVar("T")
_MOST = 4
_BYTES_A_PROCESS = 3 * 2**30
"""Memory that a process with a large blend of networks and forests takes, roughly."""


class CleanPool:
    """Runs jobs that need a clean process in threads; all processes are ended at the end, whatever happens."""

    def __init__(self, n: int, patience: float = PATIENCE_SECONDS) -> None:
        self._n, self._patience = n, patience
        self._idle: queue.Queue[CleanProcess] = queue.Queue()
        self._stack = ExitStack()
        self._threads = ThreadPoolExecutor(n, thread_name_prefix="clean")

    def submit(self, job: Callable[[CleanProcess], T]) -> Future[T]:
        """Run a job as soon as a process is idle."""
        return self._threads.submit(self._run, job)

    def __enter__(self) -> Self:
        for _ in range(self._n):
            self._idle.put(self._stack.enter_context(CleanProcess(self._patience)))
        self._stack.callback(self._threads.shutdown, wait=False, cancel_futures=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _run(self, job: Callable[[CleanProcess], T]) -> T:
        process = self._idle.get()
        try:
            return job(process)
        finally:
            self._idle.put(process)


def how_many() -> int:
    """Processes that this machine has cores and memory for, at least one and at most four."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    room = int(psutil.virtual_memory().available // _BYTES_A_PROCESS)
    return max(1, min(_MOST, cores, room))
