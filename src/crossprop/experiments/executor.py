"""Executors: they run tasks, in worker processes or in this one, and yield the results as the tasks end."""

from __future__ import annotations

import contextlib
import errno
import heapq
import multiprocessing
import os
import signal
import sys
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from crossprop.errors import ConfigError, StoreError
from crossprop.io import usable_cores
from crossprop.training.device import configure, process_environment

RECYCLED_AFTER = 500  # tasks after which a worker is replaced: libraries keep a little memory with every fit
_FIRST_TO_KILL = "500"  # ``oom_score_adj``: when memory runs out Linux kills a worker, not the scheduler
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Failure:
    """Why a task failed, in one line, as plain data: some errors cannot be unpickled."""

    reason: str
    out_of_memory: bool = field(default=False, compare=False)
    store: bool = field(default=False, compare=False)  # nothing more can be stored

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Sort an error."""
        name, text = type(error).__name__, " ".join(str(error).split())
        if isinstance(error, StoreError):
            return cls(text, store=True)
        if isinstance(error, MemoryError) or name == "ResourceExhaustedError":  # TensorFlow's own
            text = text or "nothing could be allocated"
            return cls(f"out of memory ({name.lstrip('_')}: {text})", out_of_memory=True)
        full = getattr(error, "errno", None) in _FULL or "No space left" in text  # HDF5 sets no number
        if isinstance(error, OSError) and full:
            return cls(f"{text}. Free some space, then run again: what is finished is kept.", store=True)
        return cls(f"{name}: {text or 'no reason given'}")


@dataclass(order=True)
class Queued:
    """A task that waits; ``alone``: it is to run while nothing else does."""

    priority: float
    order: int
    task: Any = field(compare=False)
    attempts: int = field(default=0, compare=False)
    alone: bool = field(default=False, compare=False)


class Executor(contextlib.AbstractContextManager["Executor"]):
    """Runs tasks with an importable function, ``workers`` at the same time; a context manager that ends its workers.

    A task that raises is tried again ``retries`` times, and is a :class:`Failure` if it never succeeds.
    """

    def __init__(
        self, run: Callable[[Any], Any], *, workers: int = 1, backend: str = "tensorflow", retries: int = 1
    ) -> None:
        self.workers = workers
        self._run, self._backend, self._retries = run, backend, retries
        self._queue: list[Queued] = []
        self._order = count()

    def submit(self, task: Any, cost: float = 0.0) -> None:
        """Queue a task; those of higher cost start first. May be called while results are being read."""
        heapq.heappush(self._queue, Queued(-cost, next(self._order), task))

    @abstractmethod
    def results(self) -> Iterator[tuple[Any, Any]]:
        """Yield (task, result or :class:`Failure`) as tasks end; ``StoreError`` where nothing more can be stored."""

    def _failed(self, item: Queued, failure: Failure) -> tuple[Any, Failure] | None:
        """A task that failed too often with its end, or ``None`` where it is tried again; without memory it is."""
        if failure.store:
            raise StoreError(failure.reason)
        item.attempts += 1
        if item.attempts > max(self._retries, int(failure.out_of_memory)):
            return item.task, failure
        if failure.out_of_memory:
            item.alone, item.priority = True, float("-inf")
        heapq.heappush(self._queue, item)
        return None

    def close(self) -> None:
        """Forget the queue and end the workers."""
        self._queue.clear()

    def __exit__(self, *exception: object) -> None:
        self.close()


def prepare(backend: str) -> Failure | None:
    """Load the backend in a worker, or say why not: e.g. it is not installed, which every task reports."""
    warnings.simplefilter("ignore")  # a linear model that does not converge is a poor trial, not news
    return attempt(lambda backend: configure(backend, 1), backend)


def attempt(run: Callable[[Any], Any], task: Any) -> Any:
    """The result of a task, or what it raised."""
    try:
        return run(task)
    except Exception as error:
        return Failure.of(error)


def _serve(tasks: Connection, run: Callable[[Any], Any], backend: str) -> None:
    """A worker process: load the backend once, then do one task after the other."""

    def end_with_the_scheduler() -> None:
        scheduler = parent_process()
        if scheduler is not None:
            scheduler.join()
        os._exit(1)

    Thread(target=end_with_the_scheduler, daemon=True).start()
    # Ctrl-C reaches the whole group; the scheduler ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_KILL, encoding="ascii")
    unfit = prepare(backend)
    while True:
        try:
            task = tasks.recv()
        except EOFError:  # the scheduler is gone
            return
        result = unfit or attempt(run, task)
        try:
            tasks.send(result)
        except Exception as error:  # e.g. the result cannot be pickled
            tasks.send(Failure.of(error))


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    tasks: Connection
    item: Queued | None = None
    done: int = 0


class WorkerPool(Executor):
    """An executor of spawned processes with one thread each.

    A task that found no memory, or whose worker died, is repeated while nothing else runs (at least once, whatever
    ``retries`` says). A dead worker is replaced, and the tasks of the other workers go on. Of ``workers`` 0 means one
    for every core that this process may use, which is also the most.
    """

    def __init__(
        self, run: Callable[[Any], Any], *, workers: int = 0, backend: str = "tensorflow", retries: int = 1
    ) -> None:
        workers = min(workers or usable_cores(), usable_cores())
        super().__init__(run, workers=workers, backend=backend, retries=retries)
        self._pool: list[_Worker] = []

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Yield (task, result or :class:`Failure`) as tasks end; see :meth:`Executor.results`."""
        while self._dispatch():
            busy = {worker.tasks: worker for worker in self._pool if worker.item is not None}
            ready = wait(list(busy))
            ended = [self._receive(worker) for tasks, worker in busy.items() if tasks in ready]
            self._dispatch()  # no worker waits while the results are dealt with
            yield from (result for result in ended if result is not None)

    def close(self) -> None:
        """End the workers; tasks in progress are given up."""
        super().close()
        for worker in list(self._pool):
            self._end(worker)

    def _dispatch(self) -> bool:
        """Give idle workers something to do; returns whether any is busy."""
        while self._queue:
            busy = [worker.item for worker in self._pool if worker.item is not None]
            if len(busy) == self.workers or (busy and (busy[0].alone or self._queue[0].alone)):
                return True
            worker = next((worker for worker in self._pool if worker.item is None), None) or self._start()
            try:
                worker.tasks.send(self._queue[0].task)
            except OSError:  # it died while it had nothing to do
                self._end(worker)
            else:
                worker.item = heapq.heappop(self._queue)
        return any(worker.item is not None for worker in self._pool)

    def _start(self) -> _Worker:
        os.environ.update(process_environment(self._backend, 1))
        spawn = multiprocessing.get_context("spawn")
        tasks, given = spawn.Pipe()
        process = spawn.Process(target=_serve, args=(given, self._run, self._backend), daemon=True)
        process.start()
        given.close()
        worker = _Worker(process, tasks)
        self._pool.append(worker)
        return worker

    def _end(self, worker: _Worker) -> None:
        self._pool.remove(worker)
        worker.process.terminate()
        worker.process.join()
        worker.tasks.close()

    def _receive(self, worker: _Worker) -> tuple[Any, Any] | None:
        """The result of a worker's task, or ``None`` where the task is tried again."""
        item, worker.item = worker.item, None
        assert item is not None
        worker.done += 1
        died = False
        try:
            result = worker.tasks.recv()
        except (EOFError, OSError):
            worker.process.join()
            result, died = Failure(_cause_of_death(worker.process.exitcode), out_of_memory=True), True
        if died or worker.done >= RECYCLED_AFTER:
            self._end(worker)
        return self._failed(item, result) if isinstance(result, Failure) else (item.task, result)


def _cause_of_death(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "its worker process was killed (by a user, or by the system because memory ran out)"
    if code is not None and code < 0:
        return f"its worker process died of {signal.Signals(-code).name}"
    return f"its worker process ended with code {code}"


class InlinePool(Executor):
    """An executor in this process: for notebooks, scripts without a main guard, and nested processes.

    It has one worker, whatever it is asked for. Keras is loaded with the first task whose ``needs_keras`` is true.
    """

    def __init__(self, run: Callable[[Any], Any], **options: Any) -> None:
        super().__init__(run, **{**options, "workers": 1})

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Yield (task, result or :class:`Failure`); ``ConfigError`` where Keras runs on another backend already."""
        while self._queue:
            item = heapq.heappop(self._queue)
            if item.task.needs_keras:
                use_keras(self._backend)
            with warnings.catch_warnings(), threadpool_limits(limits=1):
                warnings.simplefilter("ignore")
                result = attempt(self._run, item.task)
            ended = self._failed(item, result) if isinstance(result, Failure) else (item.task, result)
            if ended is not None:
                yield ended


def use_keras(backend: str) -> None:
    """Load Keras in a process that belongs to the user, whose thread settings stay, or refuse another backend."""
    keras = sys.modules.get("keras")
    if keras is not None and keras.backend.backend() != backend:
        raise ConfigError(
            f"Keras runs on {keras.backend.backend()!r} in this process, crossprop needs {backend!r}. "
            "Fit in worker processes (workers=2), or set KERAS_BACKEND before Keras is imported."
        )
    if keras is None:
        configure(backend, 1)
