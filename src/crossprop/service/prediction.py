"""Answers to ``/v1/predict``: formulas are read, predicted and written piece by piece, off the event loop."""

from __future__ import annotations

import asyncio
import difflib
import logging
import os
import re
import sys
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import numpy as np
from prometheus_client import Gauge
from pydantic_core import to_json

from crossprop.data.compositions import formula_warnings, parse_formulas
from crossprop.errors import FormulaError
from crossprop.inference.predictor import Neighbour, Predictions, ServedModel
from crossprop.service.bodies import check_size
from crossprop.service.http_errors import BusyError, RefusalError, UnavailableError, UnknownNameError
from crossprop.service.metrics import Metrics
from crossprop.service.model_cache import Edition, Shelf, Slot
from crossprop.service.schemas import PredictRequest
from crossprop.service.settings import Limits

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


SHOWN = 200
"""Characters of what a caller sent that are repeated in an answer."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """Some items of a request, read.

    Attributes:
        items: As they were sent, n of them.
        fractions: Of those that are formulas, shape (m, 86).
        good: Their places among the n.
        errors: What is wrong with the others, by place.
    """

    items: Sequence[object]
    fractions: np.ndarray
    good: Sequence[int]
    errors: Mapping[int, FormulaError]

    @classmethod
    def of(cls, items: Sequence[object]) -> Reading:
        """Read items that may be anything."""
        fractions, good, errors = parse_formulas(items)
        return cls(items, fractions, [int(i) for i in good], errors)


def prediction_rows(got: Predictions, near: Sequence[Sequence[Neighbour]] | None) -> list[Row]:
    """The predictions of one property as they stand in an answer, one for every row that was predicted."""
    rows: list[Row] = [
        {"value": value, "lower": lower, "upper": upper, "in_domain": inside, "note": note, "nearest": []}
        for value, lower, upper, inside, note in _columns(got)
    ]
    for row, found in zip(rows, near or (), strict=False):
        row["nearest"] = [{"formula": n.formula, "value": n.y_true, "distance": n.distance} for n in found]
    return rows


def write_results(reading: Reading, predicted: Mapping[str, Sequence[Row]]) -> bytes:
    """The results of some items as JSON, without brackets around them; what is no finite number becomes null.

    Args:
        reading: The items.
        predicted: Rows by property, as many as there are formulas among the items.
    """
    results: list[Row] = [
        {"formula": shown(item), "error": None, "predictions": {}} for item in reading.items
    ]
    for place, error in reading.errors.items():
        results[place]["error"] = {"type": type(error).__name__, "message": str(error)}
    for name, rows in predicted.items():
        for place, row in zip(reading.good, rows, strict=True):
            warnings = formula_warnings(reading.items[place])
            note = "; ".join(filter(None, (*warnings, row.get("note"))))
            results[place]["predictions"][name] = row | {"note": note} if warnings else row
    return to_json(results, inf_nan_mode="null")[1:-1]


def shown(item: object) -> str:
    """An item as it is repeated in the answer: a text itself, anything else as JSON; cut where it is long."""
    text = item if isinstance(item, str) else to_json(item, inf_nan_mode="strings").decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _columns(got: Predictions) -> Iterator[tuple[float, float, float, bool, str]]:
    assert got.lower is not None
    assert got.upper is not None
    assert got.in_domain is not None
    assert got.note is not None
    arrays = (got.value, got.lower, got.upper, got.in_domain)
    return zip(*(array.tolist() for array in arrays), got.note, strict=True)


_SHOWN = 200
_NEAR = 5


def unknown_property(name: str, shelf: Shelf) -> RefusalError:
    """The refusal of a property that is not served, with those that may be meant.

    Args:
        name: As the caller wrote it.
        shelf: What is served; while that is nothing at all, the caller is told to come back.
    """
    if not shelf.slots:
        return UnavailableError(
            "No property is served yet: models are still being looked for, or none was promoted "
            "('crossprop promote <target>'). See /readyz, and ask again in a few seconds.",
            retry_after=2,
        )
    same = [model for model, slot in shelf.slots.items() if slot.target == name]
    if same:
        return UnknownNameError(f"{name!r} is a target of several studies: name one of {', '.join(same)}.")
    near = similar(name, shelf.names)
    listed = (
        f"Did you mean {', '.join(near)}?"
        if near
        else f"There are: {', '.join(sorted(shelf.names)[:_NEAR])}."
    )
    more = f" All {len(shelf.names)} are listed under /v1/properties." if len(shelf.names) > 1 else ""
    return UnknownNameError(f"{name[:_SHOWN]!r} is no property that is served. {listed}{more}")


def similar(name: str, names: Mapping[str, Slot]) -> list[str]:
    """Served names that may be meant: those that hold what was written, those so described, those like it.

    Args:
        name: What was written.
        names: Slots by name.
    """
    asked = _plain(name)
    if not asked:
        return []
    plain = {known: _plain(known) for known in sorted(names)}
    holding = [known for known, text in plain.items() if asked in text or (len(text) > 3 and text in asked)]
    described = [known for known in plain if asked in _plain(names[known].shown.card.description)]
    close = set(difflib.get_close_matches(asked[:_SHOWN], plain.values(), n=_NEAR))
    like = [known for known, text in plain.items() if text in close]
    return list(dict.fromkeys([*holding, *like, *described]))[:_NEAR]


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


log = logging.getLogger("crossprop.service")


@dataclass(frozen=True)
class Asked:
    """A property as it was asked for, with the model that answers the whole request."""

    name: str
    edition: Edition
    model: ServedModel


@dataclass(frozen=True)
class Desk:
    """Answers requests for predictions.

    Attributes:
        shelf: The models.
        quick: Lane of small requests.
        bulk: Lane of large ones.
        batcher: Computes small requests together.
        limits: Bounds of a request.
        metrics: Told of predictions and errors.
    """

    shelf: Shelf
    quick: Lane
    bulk: Lane
    batcher: Batcher
    limits: Limits
    metrics: Metrics

    async def answer(self, request: PredictRequest) -> bytes:
        """The JSON of the answer; cancelled, it computes nothing further.

        Args:
            request: What is asked for.

        Raises:
            RefusalError: Too much was asked for, a property is unknown or not there, or time ran out.
        """
        check_size(request, self.limits)
        lane = self.quick if self.is_quick(request) else self.bulk
        async with lane.admit():
            try:
                async with asyncio.timeout(self.limits.seconds):
                    return await self._answer(request, lane)
            except TimeoutError:
                raise UnavailableError(
                    f"{len(request.formulas)} formulas for {len(request.properties)} properties took longer than "
                    f"{self.limits.seconds:g} seconds. Send fewer at a time, or come back when less is asked for.",
                    retry_after=5,
                ) from None

    async def _answer(self, request: PredictRequest, lane: Lane) -> bytes:
        names = list(dict.fromkeys(request.properties))
        for name in names:  # those that are not in memory begin to be loaded, several at a time
            self.shelf.acquire(self._slot(name))
        asked = [await self._model_of(name) for name in names]
        if lane is self.quick:
            results = await self._answer_quickly(request.formulas, asked, request.nearest)
        else:
            results = await self._answer_in_pieces(request.formulas, asked, request.nearest)
        models = {one.name: _model_note(one) for one in asked}
        return b'{"results":[' + results + b'],"models":' + to_json(models) + b"}"

    async def _answer_quickly(
        self, formulas: Sequence[object], asked: Sequence[Asked], nearest: int
    ) -> bytes:
        """Few predictions, computed together with those that others ask for."""
        reading = self._read(formulas)
        turns = asyncio.Semaphore(max(1, self.quick.threads // 2))

        async def column(one: Asked) -> list[Row]:
            if not len(reading.fractions):
                return []
            async with turns:
                with self._naming(one):
                    got = await self.batcher.predict(one.model, reading.fractions)
                    find = one.model.nearest
                    near = await self.quick.run(find, reading.fractions, nearest) if nearest else None
            self._count(one, len(reading.fractions))
            return prediction_rows(got, near)

        rows = await _all_or_none([column(one) for one in asked])
        return write_results(reading, {one.name: row for one, row in zip(asked, rows, strict=True)})

    async def _answer_in_pieces(
        self, formulas: Sequence[object], asked: Sequence[Asked], nearest: int
    ) -> bytes:
        """Many predictions, a piece after the other, so that large requests take turns."""
        turns = asyncio.Semaphore(self.bulk.threads)

        async def in_turn(job: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
            async with turns:
                return await self.bulk.run(job, *args, **kwargs)

        async def piece(part: Sequence[object]) -> bytes:
            if len(asked) == 1:
                return await in_turn(self._whole_piece, part, asked[0], nearest)
            reading = await in_turn(self._read, part)
            rows = await _all_or_none([in_turn(self._predict, one, reading, nearest) for one in asked])
            names = (one.name for one in asked)
            return await in_turn(write_results, reading, dict(zip(names, rows, strict=True)))

        chunk = self.limits.chunk
        parts = [formulas[start : start + chunk] for start in range(0, len(formulas), chunk)]
        return b",".join(await _all_or_none([piece(part) for part in parts]))

    def _whole_piece(self, part: Sequence[object], one: Asked, nearest: int) -> bytes:
        reading = self._read(part)
        return write_results(reading, {one.name: self._predict(one, reading, nearest)})

    def _read(self, part: Sequence[object]) -> Reading:
        reading = Reading.of(part)
        for kind, n in Counter(type(error).__name__ for error in reading.errors.values()).items():
            self.metrics.item_errors.labels(kind).inc(n)
        return reading

    def _predict(self, one: Asked, reading: Reading, nearest: int) -> list[Row]:
        """The predictions of one property, as they stand in the answer."""
        fractions = reading.fractions
        if not len(fractions):
            return []
        with self._naming(one):
            got = one.model.predict(fractions)
            near = one.model.nearest(fractions, nearest) if nearest else None
        self._count(one, len(fractions))
        return prediction_rows(got, near)

    def _count(self, one: Asked, n: int) -> None:
        info = one.edition.info
        name = info.target if info.target in self.shelf.names else info.name  # however it was asked for
        self.metrics.predictions.labels(name, info.version).inc(n)

    @contextmanager
    def _naming(self, one: Asked) -> Iterator[None]:
        """A model that fails is named to the caller; why it failed stands in the log."""
        try:
            yield
        except Exception as error:
            log.exception("a model failed", extra={"fields": {"model": one.edition.info.name}})
            raise UnavailableError(
                f"The model of {one.name} (version {one.edition.info.version}) failed: {type(error).__name__}. "
                "Ask for the other properties alone, and tell whoever runs this service."
            ) from error

    async def _model_of(self, name: str) -> Asked:
        while True:
            edition = self.shelf.acquire(self._slot(name))
            model, load = edition.model, edition.loading
            if model is not None:
                return Asked(name, edition, model)
            if load is not None:
                try:
                    async with asyncio.timeout(self.limits.seconds * 0.8):
                        await asyncio.shield(asyncio.wrap_future(load.future))
                except asyncio.CancelledError:
                    if load.future.cancelled():
                        raise UnavailableError(
                            "The service is being stopped. Ask again.", retry_after=5
                        ) from None
                    raise
                except TimeoutError:
                    raise UnavailableError(
                        f"{name} is still being loaded. Ask again in a few seconds.", retry_after=5
                    ) from None

    def is_quick(self, request: PredictRequest) -> bool:
        """Whether a request is a small one."""
        return len(request.formulas) * len(request.properties) <= self.limits.quick_items

    def _slot(self, name: str) -> Slot:
        slot = self.shelf.find(name)
        if slot is None:
            raise unknown_property(name, self.shelf)
        return slot


async def _all_or_none(jobs: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Results in order; the first failure, or a cancellation, ends the others, too."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise


def _model_note(one: Asked) -> dict[str, Any]:
    info, card = one.edition.info, one.edition.card
    return {
        "model": info.name,
        "version": info.version,
        "method": card.method,
        "unit": card.unit,
        "coverage": card.stated,
    }
