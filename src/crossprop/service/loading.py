"""Loads of models in the background: a few at a time, what somebody waits for first."""

from __future__ import annotations

import ctypes
import gc
import heapq
import itertools
import logging
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, TypeVar

log = logging.getLogger("crossprop.service")
Result = TypeVar("Result")


class Urgency(IntEnum):
    """Who waits for a load."""

    REQUEST = 0
    NEW_VERSION = 1
    PRELOAD = 2


@dataclass(eq=False)
class Load(Generic[Result]):
    """One load, waiting, going on or done.

    Attributes:
        job: What it does.
        future: Its outcome.
    """

    job: Callable[[], Result]
    future: Future[Result] = field(default_factory=Future)
    _taken: bool = False

    def take(self) -> bool:
        """Whether the caller is the first to take it (it may stand in the queue twice)."""
        if self._taken:
            return False
        self._taken = True
        return self.future.set_running_or_notify_cancel()


class LoadQueue:
    """Threads that work on loads in the order of their urgency."""

    def __init__(self, threads: int, when_idle: Callable[[], None] | None = None) -> None:
        """Start the threads.

        Args:
            threads: How many loads go on at a time.
            when_idle: Called after a load if none waits.
        """
        self._when_idle = when_idle
        self._heap: list[tuple[int, int, Load]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"crossprop-load-{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Callable[[], Result], urgency: Urgency) -> Load[Result]:
        """Queue a load."""
        load = Load(job)
        self.hurry(load, urgency)
        return load

    def hurry(self, load: Load, urgency: Urgency) -> None:
        """Queue a load that waits already once more, with another urgency."""
        with self._changed:
            heapq.heappush(self._heap, (urgency, next(self._numbers), load))
            self._changed.notify()

    @property
    def waiting(self) -> int:
        """Loads that nobody works on yet."""
        return len({id(load) for _, _, load in list(self._heap) if not load.future.running()})

    def close(self) -> None:
        """Begin no further load; whoever waits for one is told."""
        with self._changed:
            self._closed = True
            for _, _, load in self._heap:
                load.future.cancel()
            self._heap.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._heap and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                _, _, load = heapq.heappop(self._heap)
                if not load.take():
                    continue
            try:
                load.future.set_result(load.job())
            except BaseException as error:
                _let_go(error)
                load.future.set_exception(error)
            if self._when_idle is not None and not self._heap:
                self._when_idle()


def _let_go(error: BaseException) -> None:
    """Free what the functions that failed had in hand.

    A failure remembers them with all their variables: a model that was loaded in part. Taken out of the garbage
    collector's sight together with what was loaded well, it would stay for ever, once for every attempt.
    """
    failure: BaseException | None = error
    while failure is not None:
        traceback.clear_frames(failure.__traceback__)
        failure = failure.__cause__ or failure.__context__


def settle_memory() -> None:
    """Take what has been loaded out of the garbage collector's sight, and give freed memory back to the system.

    Models are hundreds of thousands of objects that live for days. Looking through all of them, which Python does
    every now and then, would stop every request for a quarter of a second; for the same reason only what is young is
    looked through here. A model that is let go is freed all the same: nothing in it refers to itself.
    """
    gc.collect(1)
    gc.freeze()
    # What a load needed in passing, and models that gave way, stay with the C library unless it is asked for them.
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
