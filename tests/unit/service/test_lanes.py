from __future__ import annotations

import asyncio
import gc
import platform
import threading
import weakref
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
from waiting import PATIENCE, until

from crossprop.service.http_errors import BusyError
from crossprop.service.metrics import Metrics
from crossprop.service.model_cache import LoadQueue, Urgency, settle_memory
from crossprop.service.prediction import Lane


@pytest.fixture
def lane():
    made = Lane("quick", 2, 3, Metrics().waiting)
    yield made
    made.close()


@pytest.fixture
def queue_that_settles() -> Iterator[LoadQueue]:
    """As the service has it; what it took out of the collector's sight is put back."""
    made = LoadQueue(1, settle_memory)
    yield made
    made.close()
    gc.unfreeze()


def test_more_requests_than_may_wait_are_told_to_come_back(lane):
    async def crowd() -> None:
        async with lane.admit(), lane.admit(), lane.admit():
            with pytest.raises(BusyError, match="3 requests are waiting") as caught:
                async with lane.admit():
                    pass
            assert caught.value.headers == {"Retry-After": "1"}
        async with lane.admit():
            pass

    asyncio.run(crowd())


def test_a_request_that_fails_leaves_its_place(lane):
    async def fail() -> None:
        async with lane.admit():
            raise ValueError

    for _ in range(4):
        with pytest.raises(ValueError):  # noqa: PT011
            asyncio.run(fail())


def test_jobs_run_on_the_lanes_threads_and_raise_to_the_caller(lane):
    async def run() -> str:
        with pytest.raises(ZeroDivisionError):
            await lane.run(lambda: 1 / 0)
        return await lane.run(lambda: threading.current_thread().name)

    assert asyncio.run(run()).startswith("crossprop-quick")


def test_a_job_that_is_cancelled_before_it_begins_is_never_run(lane):
    ran, let_go = [], threading.Event()

    async def run() -> None:
        busy = [asyncio.create_task(lane.run(let_go.wait, PATIENCE)) for _ in range(2)]
        late = asyncio.create_task(lane.run(ran.append, 1))
        await asyncio.sleep(0.05)
        late.cancel()
        await asyncio.sleep(0)
        let_go.set()
        await asyncio.gather(*busy)

    asyncio.run(run())
    assert not ran


def test_loads_are_done_in_the_order_of_their_urgency():
    queue, done, let_go = LoadQueue(1), [], threading.Event()
    first = queue.submit(lambda: let_go.wait(PATIENCE), Urgency.PRELOAD)
    later = [queue.submit(lambda n=n: done.append(n), Urgency.PRELOAD) for n in range(3)]
    queue.submit(lambda: done.append("new"), Urgency.NEW_VERSION)
    queue.hurry(later[2], Urgency.REQUEST)
    let_go.set()
    first.future.result(PATIENCE)
    later[1].future.result(PATIENCE)
    queue.close()
    assert done == [2, "new", 0, 1]


def test_whoever_waits_for_a_load_is_told_when_the_queue_closes():
    queue, let_go = LoadQueue(1), threading.Event()
    running = queue.submit(lambda: let_go.wait(PATIENCE), Urgency.REQUEST)
    waiting = queue.submit(lambda: None, Urgency.REQUEST)
    until(running.future.running)
    queue.close()
    let_go.set()
    assert running.future.result(PATIENCE)
    assert waiting.future.cancelled()


def test_a_load_that_fails_does_not_end_its_thread():
    queue = LoadQueue(1)
    with pytest.raises(ZeroDivisionError):
        queue.submit(lambda: 1 / 0, Urgency.REQUEST).future.result(PATIENCE)
    assert queue.submit(lambda: 7, Urgency.REQUEST).future.result(PATIENCE) == 7
    queue.close()


def test_what_a_failed_load_had_in_hand_is_let_go(queue_that_settles):
    """It is tried again every few minutes for as long as the service lives."""

    class Half:
        """A model that was loaded in part."""

    held: list[weakref.ref] = []

    def fail():
        half = Half()
        held.append(weakref.ref(half))
        try:
            raise KeyError("coefficients")
        except KeyError as error:
            reason = error  # which refers to this frame, and the frame to it
            raise RuntimeError(str(reason)) from error

    for _ in range(3):
        with pytest.raises(RuntimeError):
            queue_that_settles.submit(fail, Urgency.REQUEST).future.result(PATIENCE)
    assert queue_that_settles.submit(lambda: 1, Urgency.REQUEST).future.result(PATIENCE) == 1
    until(lambda: gc.get_freeze_count() > 0)
    gc.collect()
    assert [one for one in held if one() is not None] == []


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library decides by itself")
def test_memory_that_a_load_needed_in_passing_goes_back_to_the_system():
    pieces = [np.ones(12_000) for _ in range(2_000)]  # 96 kB each: too small to be mapped one by one
    last = pieces[-1]
    del pieces
    held = psutil.Process().memory_info().rss
    settle_memory()
    gc.unfreeze()
    assert held - psutil.Process().memory_info().rss > 100e6
    assert last[0] == 1
