"""A few threads that all compiled models of a process share, taking turns task by task."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

Task = Callable[[], None]
_TURN_SECONDS = 0.002
"""Short tasks of a caller that are done in one turn: queueing anew after each would cost more than some of them."""

_pools: dict[int, ThreadPoolExecutor] = {}
_guard = threading.Lock()


def available_threads() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def run_tasks(tasks: Iterable[Task], threads: int) -> None:
    """Run tasks that do not depend on each other, on so many threads, and wait for all.

    Callers take turns: a large batch that came first does not keep one formula waiting for more than a task or two.

    Raises:
        Exception: What a task raised first; the tasks that were not begun by then are dropped.
    """
    waiting = deque(tasks)
    if threads == 1 or len(waiting) == 1:
        for task in waiting:
            task()
        return
    if waiting:
        _Job(waiting, _pool(threads)).run(threads)


class _Job:
    """The tasks of one caller; every step does a few short ones of them, or one that is not, and queues again."""

    def __init__(self, waiting: deque[Task], pool: ThreadPoolExecutor) -> None:
        self._waiting = waiting
        self._pool = pool
        self._steps = 0
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._error: BaseException | None = None

    def run(self, threads: int) -> None:
        self._steps = min(threads, len(self._waiting))
        for _ in range(self._steps):
            self._pool.submit(self._step)
        self._finished.wait()
        if self._error is not None:
            raise self._error

    def _step(self) -> None:
        began = time.monotonic()
        try:
            while time.monotonic() - began < _TURN_SECONDS:
                try:
                    task = self._waiting.popleft()
                except IndexError:  # others were quicker
                    self._leave()
                    return
                task()
            self._pool.submit(self._step)
        except BaseException as error:
            self._waiting.clear()
            self._leave(error)

    def _leave(self, error: BaseException | None = None) -> None:
        with self._lock:
            self._error = self._error or error
            self._steps -= 1
            if not self._steps:
                self._finished.set()


def _pool(threads: int) -> ThreadPoolExecutor:
    with _guard:
        if not _pools:
            os.register_at_fork(after_in_child=_forget)
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="crossprop-predict")
        return _pools[threads]


def _forget() -> None:
    """Threads and held locks do not survive a fork."""
    global _guard
    _guard = threading.Lock()
    _pools.clear()
