from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from waiting import PATIENCE

from crossprop.data.compositions import fraction_matrix
from crossprop.inference.predictor import Predictions
from crossprop.service.metrics import Metrics
from crossprop.service.prediction import MOST_ROWS, Batcher, Lane


class Sum:
    """A model whose value is the share of iron; the first call waits until it is let go."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.let_go = threading.Event()

    def predict(self, fractions: np.ndarray) -> Predictions:
        self.calls.append(len(fractions))
        if len(self.calls) == 1:
            self.let_go.wait(PATIENCE)
        if (fractions[:, 0] > 0).any():
            raise ArithmeticError("no hydrogen, please")
        value = fractions[:, 22].copy()
        return Predictions(value, value - 1, value + 1, value > 0, [f"{v:.2f}" for v in value])


@pytest.fixture
def lane():
    made = Lane("quick", 4, 100, Metrics().waiting)
    yield made
    made.close()


async def idle(batcher):
    """An idle model is not held on to."""
    async with asyncio.timeout(PATIENCE):
        while batcher._queues:
            await asyncio.sleep(0.001)


def together(lane, model, requests):
    """Outcomes of requests of which the first is being computed when the others come."""

    async def run():
        batcher = Batcher(lane)
        tasks = [
            asyncio.create_task(batcher.predict(model, fraction_matrix(formulas)))
            for formulas in requests[:1]
        ]
        while not model.calls:
            await asyncio.sleep(0.001)
        tasks += [
            asyncio.create_task(batcher.predict(model, fraction_matrix(formulas)))
            for formulas in requests[1:]
        ]
        await asyncio.sleep(0.02)
        model.let_go.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await idle(batcher)
        return outcomes

    return asyncio.run(run())


def test_requests_that_come_while_one_is_computed_are_computed_together_and_get_their_own_rows(lane):
    model = Sum()
    got = together(lane, model, [["FeO"], ["Fe2O3", "FeS"], ["NaCl"], ["Fe"]])
    assert model.calls == [1, 4]
    assert [list(p.value) for p in got] == [[0.5], [0.4, 0.5], [0.0], [1.0]]
    assert got[1].note == ["0.40", "0.50"]
    assert list(got[1].upper - got[1].lower) == [2.0, 2.0]
    assert list(got[2].in_domain) == [False]


def test_a_batch_has_a_bound_but_a_single_request_may_exceed_it(lane):
    model = Sum()
    got = together(
        lane, model, [["FeO"], ["FeO"] * (MOST_ROWS - 1), ["FeO"] * 2, ["FeO"] * (MOST_ROWS + 5), ["Fe"]]
    )
    assert model.calls == [1, MOST_ROWS - 1, 2, MOST_ROWS + 5, 1]
    assert [len(p.value) for p in got] == [1, MOST_ROWS - 1, 2, MOST_ROWS + 5, 1]


def test_rows_that_a_model_refuses_fail_their_own_caller_only(lane):
    got = together(lane, Sum(), [["FeO"], ["Fe"], ["H2O"], ["NaCl"]])
    assert isinstance(got[2], ArithmeticError)
    assert [list(got[i].value) for i in (0, 1, 3)] == [[0.5], [1.0], [0.0]]


def test_whoever_hung_up_is_not_computed_for(lane):
    model = Sum()

    async def run():
        batcher = Batcher(lane)
        first = asyncio.create_task(batcher.predict(model, fraction_matrix(["Fe"])))
        while not model.calls:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(batcher.predict(model, fraction_matrix(["FeO"])))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.sleep(0)
        model.let_go.set()
        await first

    asyncio.run(run())
    assert model.calls == [1]


def test_models_do_not_wait_for_each_other(lane):
    slow, fast = Sum(), Sum()
    fast.let_go.set()

    async def run():
        batcher = Batcher(lane)
        waiting = asyncio.create_task(batcher.predict(slow, fraction_matrix(["Fe"])))
        while not slow.calls:
            await asyncio.sleep(0.001)
        got = await asyncio.wait_for(batcher.predict(fast, fraction_matrix(["FeO"])), PATIENCE)
        slow.let_go.set()
        await waiting
        return got

    assert list(asyncio.run(run()).value) == [0.5]


def test_callers_who_were_answered_together_are_waited_for(lane, monkeypatch):
    monkeypatch.setattr("crossprop.service.prediction._LONGEST_SECONDS", PATIENCE)
    monkeypatch.setattr("crossprop.service.prediction._SECONDS_A_CALLER", PATIENCE)
    model = Sum()

    async def run():
        batcher = Batcher(lane)

        async def caller(number: int) -> None:
            if number:
                while not model.calls:
                    await asyncio.sleep(0.001)
            await batcher.predict(model, fraction_matrix(["FeO"]))
            await asyncio.sleep(0.005 * number)  # they come back one after the other
            if number:
                await batcher.predict(model, fraction_matrix(["FeO"]))

        callers = [asyncio.create_task(caller(number)) for number in range(4)]
        while sum(len(queue.waiting) for queue in batcher._queues.values()) < 3:
            await asyncio.sleep(0.001)
        model.let_go.set()
        await asyncio.gather(*callers)
        for task in [queue.worker for queue in batcher._queues.values()]:
            task.cancel()

    asyncio.run(run())
    assert model.calls == [1, 3, 3]


def test_a_single_caller_is_waited_for_by_nobody(lane, monkeypatch):
    monkeypatch.setattr("crossprop.service.prediction._gathered", None)  # would fail if it were called
    model = Sum()
    model.let_go.set()

    async def run():
        batcher = Batcher(lane)
        for _ in range(3):
            await batcher.predict(model, fraction_matrix(["FeO"]))
        await idle(batcher)

    asyncio.run(run())
    assert model.calls == [1, 1, 1]
