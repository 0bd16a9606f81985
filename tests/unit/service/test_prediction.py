"""Executors and the batching of small requests."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest
from waiting import PATIENCE

from crossprop.service.http_errors import HttpError
from crossprop.service.metrics import Metrics
from crossprop.service.model_cache import LoadedVersion
from crossprop.service.prediction import Batcher, PredictionExecutor
from crossprop.service.settings import Limits


@pytest.fixture
def executor():
    made = PredictionExecutor("small", 2, Limits(waiting=3, seconds=10.0), Metrics())
    yield made
    made.close()


def test_more_requests_than_may_wait_are_told_to_come_back(executor):
    with executor.place(), executor.place():
        with pytest.raises(ZeroDivisionError), executor.place():
            raise ZeroDivisionError  # a request that fails leaves its place
        with (
            executor.place(),
            pytest.raises(HttpError, match="3 requests are waiting") as caught,
            executor.place(),
        ):
            pass
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "1"})


def test_work_that_cannot_be_done_in_time_is_refused_unless_nothing_waits(executor):
    gate = threading.Event()

    async def run() -> None:
        first = asyncio.create_task(
            executor.run([(100.0, lambda: gate.wait(PATIENCE))])
        )  # 50 s on two threads
        await asyncio.sleep(0)
        with pytest.raises(HttpError, match="50 seconds of work wait already") as caught:
            await executor.run([(1.0, lambda: None)])
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "10")
        gate.set()
        assert await first == [True]
        await asyncio.sleep(0)
        assert await executor.run([(1.0, lambda: 7)]) == [7]

    asyncio.run(run())


def test_jobs_of_a_cancelled_or_failed_request_are_not_begun(executor):
    ran, gate = [], threading.Event()

    async def run() -> None:
        busy = asyncio.create_task(executor.run([(0.0, lambda: gate.wait(PATIENCE))] * 2))
        late = asyncio.create_task(executor.run([(0.0, lambda: ran.append(1))]))
        await asyncio.sleep(0.05)
        late.cancel()
        await asyncio.sleep(0)
        gate.set()
        await busy
        with pytest.raises(ZeroDivisionError):
            await executor.run([(0.0, lambda: 1 / 0)])

    asyncio.run(run())
    assert not ran


def test_measured_times_of_large_batches_predict_the_work():
    version = LoadedVersion(
        SimpleNamespace(description="Hardness", unit="GPa", method="ml", holdout_mae=1.0, target="hardness")
    )
    version.learn_seconds(1, False, 5.0)
    version.learn_seconds(100, False, 1.0)
    assert version.predicted_seconds(1000, False) == pytest.approx(10.0)
    assert version.predicted_seconds(1000, True) == pytest.approx(1.0)
    version.learn_seconds(100, False, 2.0)
    assert version.predicted_seconds(1000, False) == pytest.approx(13.0)


class Computing:
    """Computes results that repeat the formulas; the first call waits until it may go on."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.gate = threading.Event()

    def __call__(self, formulas):
        self.calls.append(list(formulas))
        if len(self.calls) == 1:
            self.gate.wait(PATIENCE)
        if "bad" in formulas:
            raise ArithmeticError("no")
        return [{"formula": formula} for formula in formulas]


@pytest.mark.parametrize(
    ("requests", "calls", "failed"),
    [
        ([["a"], ["b", "c"], ["d"]], [["a"], ["b", "c", "d"]], []),
        ([["a"], ["b"] * 63, ["c"] * 2, ["d"] * 69], [["a"], ["b"] * 63, ["c"] * 2, ["d"] * 69], []),
        ([["a"], ["b"], ["bad"]], [["a"], ["b", "bad"], ["b"], ["bad"]], [2]),
    ],
    ids=["together", "at most 64, but a single request may exceed it", "a failure is nobody else's"],
)
def test_requests_that_come_while_one_is_computed_are_computed_together(executor, requests, calls, failed):
    compute = Computing()

    async def run():
        batcher = Batcher(executor)
        tasks = []
        for formulas in requests:
            tasks.append(asyncio.create_task(batcher.results("kind", formulas, compute)))
            await asyncio.sleep(0.02)
        gone = asyncio.create_task(batcher.results("kind", ["gone"], compute))
        await asyncio.sleep(0.02)
        gone.cancel()
        await asyncio.sleep(0)
        other = Computing()
        other.gate.set()
        apart = batcher.results("other kind", ["x"], other)
        assert await asyncio.wait_for(apart, PATIENCE) == b'{"formula":"x"}'
        compute.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    got = asyncio.run(run())
    assert compute.calls == calls
    for number, formulas in enumerate(requests):
        if number in failed:
            assert isinstance(got[number], ArithmeticError)
        else:
            assert got[number] == ",".join(f'{{"formula":"{formula}"}}' for formula in formulas).encode()
