"""Small requests for one model that come at the same time are predicted together.

One composition costs a model of many networks about as much as sixteen: what takes the time is reading its weights.
While a batch is computed the next ones gather. Callers who were answered together tend to ask again together: only
for them is waited a moment, so that nobody waits for company that may never come.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from crossprop.service.lanes import Lane
from crossprop.serving.served import Predictions, ServedModel

MOST_ROWS = 64
"""Rows that are predicted together, unless a single request has more."""
_SECONDS_A_CALLER = 0.001
_LONGEST_SECONDS = 0.005
"""How long callers who were answered together are waited for, all in all."""


@dataclass(eq=False)
class _Waiting:
    fractions: np.ndarray
    answer: asyncio.Future[Predictions]


@dataclass(eq=False)
class _Queue:
    model: ServedModel
    waiting: deque[_Waiting] = field(default_factory=deque)
    arrival: asyncio.Event = field(default_factory=asyncio.Event)
    worker: asyncio.Task[None] | None = None


class Batcher:
    """Gathers predictions by model and has a lane compute them, one batch of a model at a time."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._queues: dict[int, _Queue] = {}

    async def predict(self, model: ServedModel, fractions: np.ndarray) -> Predictions:
        """As ``ServedModel.predict``; the rows of others may be computed with these.

        Args:
            model: The model.
            fractions: Elemental fractions, shape (n, 86), n > 0.

        Raises:
            Exception: What the model raises for these rows alone.
        """
        queue = self._queues.setdefault(id(model), _Queue(model))
        waiting = _Waiting(fractions, asyncio.get_running_loop().create_future())
        queue.waiting.append(waiting)
        queue.arrival.set()
        if queue.worker is None:
            queue.worker = asyncio.create_task(self._work(queue))
        return await waiting.answer

    async def _work(self, queue: _Queue) -> None:
        try:
            while batch := _next_batch(queue.waiting):
                await self._compute(queue.model, batch)
                if len(batch) > 1:
                    await _gathered(queue, len(batch))
        finally:
            self._queues.pop(id(queue.model), None)
            for left in queue.waiting:  # only if this task was cancelled
                left.answer.cancel()

    async def _compute(self, model: ServedModel, batch: list[_Waiting]) -> None:
        try:
            got = await self._lane.run(model.predict, np.concatenate([one.fractions for one in batch]))
        except Exception as error:
            if len(batch) == 1:
                _settle(batch[0], error)
                return
            for one in batch:  # the rows of one caller are no reason to fail the others
                await self._compute(model, [one])
            return
        start = 0
        for one in batch:
            end = start + len(one.fractions)
            _settle(one, _rows(got, start, end))
            start = end


async def _gathered(queue: _Queue, callers: int) -> None:
    """Wait until so many wait as were answered together, or for a moment."""
    with suppress(TimeoutError):
        async with asyncio.timeout(min(_SECONDS_A_CALLER * callers, _LONGEST_SECONDS)):
            while len(queue.waiting) < callers:
                queue.arrival.clear()
                await queue.arrival.wait()


def _next_batch(waiting: deque[_Waiting]) -> list[_Waiting]:
    """Those who came first, as many as may be computed together; whoever hung up is left out."""
    batch: list[_Waiting] = []
    rows = 0
    while waiting and (not batch or rows + len(waiting[0].fractions) <= MOST_ROWS):
        one = waiting.popleft()
        if not one.answer.done():
            batch.append(one)
            rows += len(one.fractions)
    return batch


def _settle(one: _Waiting, outcome: Predictions | Exception) -> None:
    if one.answer.done():
        return
    if isinstance(outcome, Exception):
        one.answer.set_exception(outcome)
    else:
        one.answer.set_result(outcome)


def _rows(got: Predictions, start: int, end: int) -> Predictions:
    part = slice(start, end)
    assert got.lower is not None
    assert got.upper is not None
    assert got.in_domain is not None
    assert got.note is not None
    return Predictions(got.value[part], got.lower[part], got.upper[part], got.in_domain[part], got.note[part])
