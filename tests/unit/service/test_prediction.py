"""Executors and the batching of small requests."""

import asyncio
import threading

import pytest
from waiting import PATIENCE

from crossprop.service.http_errors import HttpError
from crossprop.service.metrics import Metrics
from crossprop.service.prediction import Batcher, Predictor
from crossprop.service.settings import Limits


@pytest.fixture
def executor():
    predictor = Predictor(None, 2, Limits(waiting=3, seconds=10.0), Metrics())
    yield predictor.small
    predictor.close()


def test_more_requests_than_may_wait_are_told_to_come_back(executor):
    with executor.place(), executor.place():
        with pytest.raises(ZeroDivisionError), executor.place():
            raise ZeroDivisionError  # a request that fails leaves its place
        with executor.place(), pytest.raises(HttpError, match="3 requests are waiting") as caught:
            executor.place().__enter__()
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "1"})


def test_work_that_cannot_be_done_in_time_is_refused_unless_nothing_waits(executor):
    gate = threading.Event()

    async def run() -> None:
        # 50 s on two threads
        first = asyncio.create_task(executor.run([(100.0, lambda: gate.wait(PATIENCE))]))
        await asyncio.sleep(0)
        with pytest.raises(HttpError, match="50 seconds of work wait already") as caught:
            await executor.run([(1.0, lambda: None)])
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "10")
        gate.set()
        assert await first == [True]
        await asyncio.sleep(0)
        assert await executor.run([(1.0, lambda: 7)]) == [7]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("requests", "calls", "failed"),
    [
        ([["a"], ["b", "c"], ["d"]], [["a"], ["b", "c", "d"]], []),
        ([["a"], ["b"] * 63, ["c"] * 2, ["d"] * 69], [["a"], ["b"] * 63, ["c"] * 2, ["d"] * 69], []),
        ([["a"], ["b"], ["bad"]], [["a"], ["b", "bad"], ["b"], ["bad"]], [2]),
    ],
    ids=["together", "at most 64, but a single request may exceed it", "a failure fails no other request"],
)
def test_requests_that_come_while_one_is_computed_are_computed_together(executor, requests, calls, failed):
    seen, gate = [], threading.Event()

    def compute(formulas):
        seen.append(list(formulas))
        if len(seen) == 1:
            gate.wait(PATIENCE)
        if "bad" in formulas:
            raise ArithmeticError("no")
        return [{"formula": formula} for formula in formulas]

    async def run():
        batcher = Batcher(executor)
        tasks = []
        for formulas in (*requests, ["gone"]):
            tasks.append(asyncio.create_task(batcher.results("kind", formulas, compute)))
            await asyncio.sleep(0.02)
        tasks.pop().cancel()
        apart = batcher.results("other kind", ["x"], lambda formulas: [{"formula": "x"}])
        assert await asyncio.wait_for(apart, PATIENCE) == b'{"formula":"x"}'
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    got = asyncio.run(run())
    assert seen == calls
    for number, formulas in enumerate(requests):
        if number in failed:
            assert isinstance(got[number], ArithmeticError)
        else:
            assert got[number] == ",".join(f'{{"formula":"{formula}"}}' for formula in formulas).encode()
