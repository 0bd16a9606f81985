"""A pool that does its tasks in this process, one after the other: for small data and for notebooks."""

from __future__ import annotations

import heapq
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from crossprop.errors import ConfigError, StoreError
from crossprop.experiments.pool import Failure
from crossprop.training.device import THREAD_VARIABLES, configure
from crossprop.vocabulary import Family


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
        """Yield (key, result or :class:`~crossprop.experiments.pool.Failure`) until no task is left.

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
