"""Worker processes that outlive their tasks, and a queue that outlives its workers."""

from __future__ import annotations

import heapq
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import count
from threading import Thread
from time import sleep
from typing import Any

from crossprop.errors import StoreError
from crossprop.training.device import configure, process_environment

ORPHAN_CHECK_SECONDS = 1.0


@dataclass(frozen=True)
class Failure:
    """A task that failed as often as it may.

    Attributes:
        reason: One line for the report.
    """

    reason: str


@dataclass(order=True)
class _Queued:
    priority: float
    order: int
    key: Any = None
    task: Any = None
    attempts: int = 0
    alone: bool = False


class WorkerPool:
    """Runs tasks in spawned processes, as many at a time as there are workers.

    A task that raises is tried again ``retries`` times. When a worker dies, nobody knows whose fault it was: the tasks
    that were in flight are repeated one at a time, so that the culprit alone is counted.

    Args:
        run: Importable function that does one task.
        workers: Number of processes, one thread each; 0 takes one for every core that this process may use.
        backend: Keras backend of the workers.
        retries: How often a failing task is tried again.
    """

    def __init__(
        self, run: Callable[[Any], Any], *, workers: int = 0, backend: str = "tensorflow", retries: int = 1
    ) -> None:
        self.workers = workers or usable_cores()
        self._run = run
        self._backend = backend
        self._retries = retries
        self._queue: list[_Queued] = []
        self._flying: dict[Future[Any], _Queued] = {}
        self._order = count()
        self._executor: ProcessPoolExecutor | None = None

    def submit(self, key: Any, task: Any, cost: float = 0.0) -> None:
        """Queue a task; dearer ones start first. May be called while results are being read."""
        heapq.heappush(self._queue, _Queued(-cost, next(self._order), key, task))

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Yield (key, result or :class:`Failure`) as tasks end, until none is left.

        Raises:
            StoreError: A worker could not write its result; going on would only fail again.
        """
        while self._queue or self._flying:
            self._dispatch()
            done, _ = wait(self._flying, return_when=FIRST_COMPLETED)
            broken = False
            for future in done:
                item = self._flying.pop(future)
                error = future.exception()
                if error is None:
                    yield item.key, future.result()
                elif isinstance(error, BrokenProcessPool):
                    broken = True
                    yield from self._crashed(item)
                elif isinstance(error, StoreError):
                    raise error
                else:
                    yield from self._failed(item, f"{type(error).__name__}: {error}")
            if broken:
                for item in self._flying.values():
                    yield from self._crashed(item)
                self._flying.clear()
                self._stop()

    def close(self) -> None:
        """End the workers; tasks in flight are given up."""
        self._queue.clear()
        self._flying.clear()
        self._stop(kill=True)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _dispatch(self) -> None:
        if self._executor is None:
            os.environ.update(process_environment(self._backend, 1))
            self._executor = ProcessPoolExecutor(
                self.workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(self._backend, os.getpid()),
            )
        while self._queue and len(self._flying) < self.workers:
            alone = self._queue[0].alone
            if any(item.alone for item in self._flying.values()) or (alone and self._flying):
                break
            try:
                future = self._executor.submit(self._run, self._queue[0].task)
            except BrokenProcessPool:  # a worker died while it had nothing to do
                if not self._flying:
                    self._stop()
                    self._dispatch()
                break
            self._flying[future] = heapq.heappop(self._queue)

    def _failed(self, item: _Queued, reason: str) -> Iterator[tuple[Any, Any]]:
        item.attempts += 1
        if item.attempts > self._retries:
            yield item.key, Failure(" ".join(reason.split()))
        else:
            heapq.heappush(self._queue, item)

    def _crashed(self, item: _Queued) -> Iterator[tuple[Any, Any]]:
        if item.alone:
            yield from self._failed(item, "its worker process died (killed, or out of memory)")
        else:
            item.alone, item.priority = True, float("-inf")
            heapq.heappush(self._queue, item)

    def _stop(self, kill: bool = False) -> None:
        executor, self._executor = self._executor, None
        if executor is None:
            return
        processes = list((executor._processes or {}).values())
        executor.shutdown(wait=not kill, cancel_futures=True)
        for process in processes:
            if process.is_alive():
                process.terminate()


def _start_worker(backend: str, parent: int) -> None:
    """Prepare a worker, which ends itself once its scheduler is gone (a killed one cannot tell it)."""

    def watch() -> None:
        while os.getppid() == parent:
            sleep(ORPHAN_CHECK_SECONDS)
        os._exit(1)

    Thread(target=watch, daemon=True).start()
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the scheduler ends its workers
    # A linear model that does not converge is a poor trial, not news.
    warnings.simplefilter("ignore")
    configure(backend, 1)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
