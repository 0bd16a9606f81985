"""Worker processes that outlive their tasks, and a queue that outlives its workers."""

from __future__ import annotations

import contextlib
import errno
import heapq
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

from crossprop.errors import ConfigError, StoreError
from crossprop.methods import Family
from crossprop.training.device import THREAD_VARIABLES, configure, process_environment

ORPHAN_CHECK_SECONDS = 1.0
_FIRST_TO_KILL = "500"
"""Linux's ``oom_score_adj`` of workers: when memory runs out one of them goes, not the scheduler or the desktop."""
_FULL = (errno.ENOSPC, errno.EDQUOT)

_begun: Any = ()
_unfit: Raised | None = None


@dataclass(frozen=True)
class Raised:
    """What a task raised, as plain data: some errors cannot be unpickled, or only where their package is.

    Attributes:
        name: Class of the error.
        text: Its message.
        out_of_memory: Whether memory was what was missing.
        store: Whether nothing more can be stored, which concerns everybody: a :class:`StoreError`, or a full disk.
    """

    name: str
    text: str
    out_of_memory: bool = False
    store: bool = False


def start_worker(backend: str, parent: int, begun: Any) -> None:
    """Prepare a worker, which ends itself once its scheduler is gone (a killed one cannot tell it).

    Args:
        backend: Keras backend, imported here and never again.
        parent: Process id of the scheduler.
        begun: Shared array of integers; a worker writes its process id where it begins a slot's task.
    """

    def watch() -> None:
        while os.getppid() == parent:
            sleep(ORPHAN_CHECK_SECONDS)
        os._exit(1)

    global _begun, _unfit
    _begun = begun
    Thread(target=watch, daemon=True).start()
    # Ctrl-C reaches the whole group; the scheduler ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_KILL, encoding="ascii")
    # A linear model that does not converge is a poor trial, not news.
    warnings.simplefilter("ignore")
    try:
        configure(backend, 1)
    except Exception as error:  # e.g. a backend that is not installed: every task will say so
        _unfit = _as_data(error)


def do_task(run: Callable[[Any], Any], task: Any, slot: int) -> Any:
    """Do one task; what it raises is returned."""
    _begun[slot] = os.getpid()
    if _unfit is not None:
        return _unfit
    try:
        return run(task)
    except Exception as error:
        return _as_data(error)


def _as_data(error: Exception) -> Raised:
    name, text = type(error).__name__, str(error)
    if isinstance(error, MemoryError) or name == "ResourceExhaustedError":  # TensorFlow's own
        return Raised(name.lstrip("_"), text or "nothing could be allocated", out_of_memory=True)
    if isinstance(error, OSError) and (
        error.errno in _FULL or "No space left" in text
    ):  # HDF5 sets no number
        text = f"{text}. Free some space, then run again: what is finished is kept."
        return Raised(name, text, store=True)
    return Raised(name, text or "no reason given", store=isinstance(error, StoreError))


TASKS_AHEAD = 2
"""Tasks handed out per worker: one in work, one waiting, so that a busy scheduler leaves no worker idle."""


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
    slot: int = -1


class WorkerPool:
    """Runs tasks in spawned processes of one thread each, as many at a time as there are workers.

    A task that raises is tried again ``retries`` times. A task whose worker died, or that found no memory, is repeated
    while nothing else runs; the tasks of the other workers, which end with it, are innocent and just begin again.

    Args:
        run: Importable function that does one task.
        workers: Number of processes; 0 takes one for every core that this process may use, which is also the most.
        backend: Keras backend of the workers.
        retries: How often a failing task is tried again; one whose worker died is repeated once in any case.
    """

    def __init__(
        self, run: Callable[[Any], Any], *, workers: int = 0, backend: str = "tensorflow", retries: int = 1
    ) -> None:
        self.workers = min(workers or usable_cores(), usable_cores())
        self._run = run
        self._backend = backend
        self._retries = retries
        self._queue: list[_Queued] = []
        self._flying: dict[Future[Any], _Queued] = {}
        self._order = count()
        self._executor: ProcessPoolExecutor | None = None
        self._begun: Any = ()

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
            if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                yield from self._after_crash()
                continue
            first = next(future for future in self._flying if future in done)
            yield from self._ended(self._flying.pop(first), first)

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
            self._start()
        assert self._executor is not None
        while self._queue and len(self._flying) < len(self._begun):
            alone = self._queue[0].alone
            if any(item.alone for item in self._flying.values()) or (alone and self._flying):
                break
            slot = min(set(range(len(self._begun))) - {item.slot for item in self._flying.values()})
            self._begun[slot] = 0
            try:
                future = self._executor.submit(do_task, self._run, self._queue[0].task, slot)
            except BrokenProcessPool:  # a worker died while it had nothing to do
                if not self._flying:
                    self._stop()
                    self._dispatch()
                break
            self._flying[future] = heapq.heappop(self._queue)
            self._flying[future].slot = slot
        self._watch_all()

    def _watch_all(self) -> None:
        """Let the executor's manager look at its workers anew.

        It watches those that were there when it last woke up, and ``submit`` wakes it before it spawns one: that one's
        death would be seen only with the next result, which may be hours away.
        """
        executor = self._executor
        if executor is not None:
            with executor._shutdown_lock:
                executor._executor_manager_thread_wakeup.wakeup()

    def _start(self) -> None:
        os.environ.update(process_environment(self._backend, 1))
        spawn = multiprocessing.get_context("spawn")
        self._begun = spawn.RawArray("i", TASKS_AHEAD * self.workers)  # who has begun the task of this slot
        self._executor = ProcessPoolExecutor(
            self.workers,
            mp_context=spawn,
            initializer=start_worker,
            initargs=(self._backend, os.getpid(), self._begun),
        )

    def _ended(self, item: _Queued, future: Future[Any]) -> Iterator[tuple[Any, Any]]:
        error = future.exception()
        if error is not None:  # not the task's own: e.g. its result cannot be pickled
            yield from self._failed(item, f"{type(error).__name__}: {error}")
            return
        result = future.result()
        if not isinstance(result, Raised):
            yield item.key, result
        elif result.store:
            raise StoreError(result.text)
        elif result.out_of_memory:
            self._isolate(item)
            yield from self._failed(item, f"out of memory ({result.name}: {result.text})")
        else:
            yield from self._failed(item, f"{result.name}: {result.text}")

    def _failed(self, item: _Queued, reason: str) -> Iterator[tuple[Any, Any]]:
        item.attempts += 1
        if item.attempts > self._retries:
            yield item.key, Failure(" ".join(reason.split()))
        else:
            heapq.heappush(self._queue, item)

    def _after_crash(self) -> Iterator[tuple[Any, Any]]:
        """Repeat alone what the dead worker did; where that is unknown, whatever had begun."""
        begun = list(self._begun)
        deaths = self._stop()
        flying, self._flying = self._flying, {}
        lost = []
        for future, item in flying.items():
            if isinstance(future.exception(), BrokenProcessPool):
                lost.append(item)
            else:
                yield from self._ended(item, future)
        culprits = [item for item in lost if begun[item.slot] in deaths]
        suspects = culprits or [item for item in lost if begun[item.slot]] or lost
        for item in lost:
            if item not in suspects:
                heapq.heappush(self._queue, item)
            elif item.alone:
                yield from self._failed(item, _cause_of_death(begun[item.slot], deaths))
            else:
                item.attempts += bool(culprits)
                self._isolate(item)
                heapq.heappush(self._queue, item)

    def _isolate(self, item: _Queued) -> None:
        item.alone, item.priority = True, float("-inf")

    def _stop(self, kill: bool = False) -> dict[int, int]:
        """End the workers; returns the exit codes of those that were dead before, by process id."""
        executor, self._executor = self._executor, None
        if executor is None:
            return {}
        processes = list((executor._processes or {}).values())
        executor.shutdown(wait=not kill, cancel_futures=True)
        deaths = {p.pid: p.exitcode for p in processes if p.pid and p.exitcode}
        for process in processes:
            if process.is_alive():
                process.terminate()
        # The executor itself ends the survivors of a crash, by SIGTERM.
        return {pid: code for pid, code in deaths.items() if code != -signal.SIGTERM}


def _cause_of_death(worker: int, deaths: Mapping[int, int]) -> str:
    code = deaths.get(worker) or next(iter(deaths.values()), None)
    if code is None:
        return "its worker process was ended from outside"
    if code == -signal.SIGKILL:
        return "its worker process was killed (by somebody, or by the system because memory ran out)"
    if code < 0:
        return f"its worker process died of {signal.Signals(-code).name}"
    return f"its worker process ended with code {code}"


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class InlinePool:
    """Runs tasks here and now, with one thread each; the same face as ``WorkerPool``.

    Nothing is spawned, so that it works in a notebook, in a script without a main guard, and inside the processes of a
    cross-validation. A task that raises is tried again ``retries`` times.

    Args:
        run: Does one task.
        workers: Ignored: it is one.
        backend: Keras backend, loaded with the first task that needs it.
        retries: How often a failing task is tried again.
    """

    workers = 1

    def __init__(
        self, run: Callable[[Any], Any], *, workers: int = 1, backend: str = "tensorflow", retries: int = 0
    ) -> None:
        self._run, self._backend, self._retries = run, backend, retries
        self._queue: list[tuple[float, int, Any, Any]] = []
        self._order = count()

    def submit(self, key: Any, task: Any, cost: float = 0.0) -> None:
        """Queue a task; dearer ones come first. May be called while results are being read."""
        heapq.heappush(self._queue, (-cost, next(self._order), key, task))

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Yield (key, result or :class:`~crossprop.experiments.executor.Failure`) until no task is left.

        Raises:
            StoreError: A result cannot be written.
            ConfigError: Keras runs on another backend in this process already.
        """
        while self._queue:
            _, _, key, task = heapq.heappop(self._queue)
            yield key, self._outcome(task)

    def __enter__(self) -> InlinePool:
        return self

    def __exit__(self, *exception: object) -> None:
        self._queue.clear()

    def _outcome(self, task: Any) -> Any:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        if _needs_keras(task):
            use_keras(self._backend)
        reason = ""
        for _ in range(self._retries + 1):
            try:
                # A linear model that does not converge is a poor trial, not news.
                with warnings.catch_warnings(), threadpool_limits(limits=1):
                    warnings.simplefilter("ignore")
                    return self._run(task)
            except StoreError:
                raise
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
        return Failure(" ".join(reason.split()))


def use_keras(backend: str) -> None:
    """Load Keras in this process, which is somebody else's: its own choice of threads is left alone.

    Raises:
        ConfigError: Keras runs on another backend already.
    """
    keras = sys.modules.get("keras")
    if keras is not None and keras.backend.backend() != backend:
        raise ConfigError(
            f"Keras runs on {keras.backend.backend()!r} in this process, crossprop needs {backend!r}. "
            "Fit in processes of its own (workers=2), or set KERAS_BACKEND before Keras is imported."
        )
    if keras is None:
        kept = {name: os.environ.get(name) for name in THREAD_VARIABLES}
        configure(backend, 1)
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _needs_keras(task: Any) -> bool:
    cell = task.tasks[0].cell if hasattr(task, "tasks") else task.cell
    return cell.method.family is Family.NETWORK or cell.source is not None
