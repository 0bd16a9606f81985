"""Where predictions are computed: two lanes of threads, so that a small request never waits behind a large one."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import ParamSpec, TypeVar

from prometheus_client import Gauge

from crossprop.service.refusals import BusyError

P = ParamSpec("P")
Result = TypeVar("Result")


class Lane:
    """A bounded pool of threads with a bounded number of requests before it.

    A request hands its jobs over a few at a time, so that the jobs of several requests take turns.
    """

    def __init__(self, name: str, threads: int, waiting: int, gauge: Gauge, yields: bool = False) -> None:
        """Start no thread yet.

        Args:
            name: Names the threads.
            threads: How many there may be.
            waiting: Requests that may be in the lane.
            gauge: Told how many are.
            yields: Whether its threads give way to others of the machine (Linux).
        """
        self.name = name
        self.threads = threads
        self._waiting = waiting
        self._gauge = gauge.labels(name)
        self._requests = 0
        self._pool = ThreadPoolExecutor(
            threads, f"crossprop-{name}", initializer=_be_nice if yields else None
        )

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        """Let a request into the lane.

        Raises:
            BusyError: As many as may wait are in it.
        """
        if self._requests >= self._waiting:
            raise BusyError(
                f"{self._requests} requests are waiting already. Send this one again in a moment.",
                retry_after=1,
            )
        self._requests += 1
        self._gauge.set(self._requests)
        try:
            yield
        finally:
            self._requests -= 1
            self._gauge.set(self._requests)

    async def run(self, job: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run a job on one of the threads; cancelled before it begins, it is never run."""

        def guarded() -> Result:
            try:
                return job(*args, **kwargs)
            except StopIteration as error:  # which no future can hold: its waiter would wait for ever
                raise RuntimeError(f"{type(error).__name__} from {job}") from error

        return await asyncio.wrap_future(self._pool.submit(guarded))

    def close(self) -> None:
        """Let running jobs end and begin no others."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _be_nice() -> None:
    if sys.platform == "linux":  # where threads have priorities of their own
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
