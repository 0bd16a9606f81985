"""Answers to ``/v1/predict``: admission, and the work on threads that reads, predicts and writes."""

import asyncio
import difflib
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from pydantic_core import to_json

from crossprop.data.compositions import Amounts, formula_warnings, parse_formulas
from crossprop.inference.predictor import OUTPUT_COLUMNS
from crossprop.service.http_errors import HttpError
from crossprop.service.logs import event
from crossprop.service.metrics import Metrics
from crossprop.service.model_cache import Answering, ModelCache, ServedProperty
from crossprop.service.schemas import AnsweredBy, PredictRequest
from crossprop.service.settings import Limits

_SHOWN = 200  # characters of what a caller sent that are repeated in an answer
_BATCH = 64  # formulas that are predicted together, unless a single request has more
_SIMILAR = 5
_MARGIN = 0.8  # share of the time for an answer that the predicted work may fill
Result = TypeVar("Result")
Waiting = tuple[Sequence[object], asyncio.Future[bytes]]
Compute = Callable[[Sequence[object]], list[dict[str, Any]]]


class PredictionExecutor:
    """Threads for ``"small"`` or ``"large"`` requests, those with a lower priority, and the admission to them."""

    def __init__(self, size: str, threads: int, limits: Limits, metrics: Metrics) -> None:
        self.threads = threads
        self._limits = limits
        self._gauge = metrics.waiting.labels(size)
        self._requests = 0
        self._seconds = 0.0
        initializer = _lower_priority if size == "large" else None
        self.pool = ThreadPoolExecutor(threads, f"crossprop-{size}", initializer)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one request; ``BusyError`` if all are taken."""
        if self._requests >= self._limits.waiting:
            message = f"{self._requests} requests are waiting already. Send this one again in a moment."
            raise HttpError("BusyError", message, 1)
        self._requests += 1
        self._gauge.set(self._requests)
        try:
            yield
        finally:
            self._requests -= 1
            self._gauge.set(self._requests)

    async def run(self, jobs: Sequence[tuple[float, Callable[[], Result]]]) -> list[Result]:
        """Run the jobs of one request, each with its probable seconds; refused if the work before leaves no time."""
        waiting, needed = self._seconds / self.threads, sum(seconds for seconds, _ in jobs) / self.threads
        if waiting and waiting + needed > _MARGIN * self._limits.seconds:
            message = f"This needs about {needed:.0f} s, and {waiting:.0f} seconds of work wait already. Send it later."
            raise HttpError("UnavailableError", message, retry_after=min(waiting, self._limits.seconds))

        def done(seconds: float, _: asyncio.Future[Result]) -> None:
            self._seconds = max(0.0, self._seconds - seconds)

        futures = []
        for seconds, job in jobs:
            self._seconds += seconds
            future = asyncio.wrap_future(self.pool.submit(job))
            future.add_done_callback(partial(done, seconds))
            futures.append(future)
        try:
            return await asyncio.gather(*futures)
        finally:  # if one fails or the request is cancelled, those not begun are dropped
            for future in futures:
                future.cancel()


class Batcher:
    """Computes small requests of one kind (the same models and options) together, one batch of them at a time."""

    def __init__(self, executor: PredictionExecutor) -> None:
        self._executor = executor
        self._waiting: dict[Hashable, deque[Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def results(self, kind: Hashable, formulas: Sequence[object], compute: Compute) -> bytes:
        """Results of a request as JSON; ``compute`` may get formulas of other requests of this kind, too."""
        answer = asyncio.get_running_loop().create_future()
        if kind in self._waiting:
            self._waiting[kind].append((formulas, answer))
        else:
            self._waiting[kind] = deque([(formulas, answer)])
            task = asyncio.create_task(self._work(kind, compute))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def _work(self, kind: Hashable, compute: Compute) -> None:
        waiting = self._waiting[kind]
        try:
            while waiting:
                batch = [waiting.popleft()]
                while waiting and sum(len(formulas) for formulas, _ in batch) + len(waiting[0][0]) <= _BATCH:
                    batch.append(waiting.popleft())
                if batch := [one for one in batch if not one[1].done()]:
                    await self._answer(batch, compute)
        finally:
            del self._waiting[kind]

    async def _answer(self, batch: Sequence[Waiting], compute: Compute) -> None:
        def job() -> list[bytes]:
            rows = iter(compute([item for formulas, _ in batch for item in formulas]))
            return [results_json(list(islice(rows, len(formulas)))) for formulas, _ in batch]

        try:
            (found,) = await self._executor.run([(0.0, job)])
        except Exception as error:
            if len(batch) > 1:  # the formulas of one request must not fail the others
                for one in batch:
                    await self._answer([one], compute)
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        for (_, answer), result in zip(batch, found, strict=True):
            if not answer.done():
                answer.set_result(result)


def _lower_priority() -> None:
    if sys.platform == "linux":  # where threads have priorities of their own
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


class Predictor:
    """Answers requests for predictions; small and large requests have ``threads`` threads each."""

    def __init__(self, cache: ModelCache, threads: int, limits: Limits, metrics: Metrics) -> None:
        self.cache, self.limits, self.metrics = cache, limits, metrics
        self.small = PredictionExecutor("small", threads, limits, metrics)
        self.large = PredictionExecutor("large", threads, limits, metrics)
        self.batcher = Batcher(self.small)

    def is_small(self, request: PredictRequest) -> bool:
        """Whether a request does not wait for large ones."""
        return len(request.formulas) * len(request.properties) <= self.limits.small

    async def answer(self, request: PredictRequest) -> bytes:
        """The JSON of the answer; cancelled, it computes nothing further."""
        limits, formulas = self.limits, len(request.formulas)
        asked = formulas * len(request.properties)
        for number, most, what in (
            (formulas, limits.formulas, "formulas"),
            (asked, limits.predictions, "predictions (formulas times properties)"),
            (asked * request.nearest, limits.neighbours, "neighbours (predictions times 'nearest')"),
        ):
            if number > most:
                message = f"The request asks for {number} {what}, but one may ask for {most}. Send several requests."
                raise HttpError("InvalidRequestError", message)
        executor = self.small if self.is_small(request) else self.large
        with executor.place():
            try:
                async with asyncio.timeout(limits.seconds):
                    return await self._answer(request, executor)
            except TimeoutError:
                message = f"{asked} predictions took longer than {limits.seconds:g} seconds. Send fewer."
                raise HttpError("UnavailableError", message, retry_after=5) from None

    async def _answer(self, request: PredictRequest, executor: PredictionExecutor) -> bytes:
        properties = {name: self.property(name) for name in request.properties}
        models = await asyncio.gather(*(self.cache.get(one, name) for name, one in properties.items()))
        formulas, neighbours = request.formulas, request.nearest > 0
        compute = partial(self.results, models=models, nearest=request.nearest, amounts=request.amounts)
        if executor is self.small:
            kind = (*((one.name, id(one.model)) for one in models), request.nearest, request.amounts)
            return _answer_json([await self.batcher.results(kind, formulas, compute)], models)
        # Each thread has work, and no job, which cannot be interrupted, takes long.
        most = min(self.limits.chunk, 8 * self.limits.chunk // len(models))
        chunk = max(1, min(most, -(-len(formulas) // executor.threads)))
        jobs = []
        for start in range(0, len(formulas), chunk):
            part = formulas[start : start + chunk]
            seconds = sum(one.version.predicted_seconds(len(part), neighbours) for one in models)
            jobs.append((seconds, lambda part=part: results_json(compute(part))))
        return _answer_json(await executor.run(jobs), models)

    def property(self, name: str) -> ServedProperty:
        """A property by name; the error for an unknown one names similar ones."""
        cache, asked = self.cache, name[:_SHOWN].lower()
        if found := cache.find(name):
            return found
        if not cache.properties:
            message = "No property is served yet, or no model was promoted ('crossprop promote <target>'). See /readyz."
            raise HttpError("UnavailableError", message, retry_after=2)
        near = [model for model, one in cache.properties.items() if one.target == name]  # of several studies
        near += difflib.get_close_matches(asked, cache.names)
        near += [n for n, one in cache.names.items() if asked in f"{n} {one.shown.metadata.description}".lower()]
        hint = f"Did you mean {', '.join(dict.fromkeys(near[:_SIMILAR]))}?" if near else ""
        hint = hint or f"There are: {', '.join(sorted(cache.names)[:_SIMILAR])}."
        hint += f" /v1/properties lists all {len(cache.names)}."
        raise HttpError("UnknownNameError", f"{name[:_SHOWN]!r} is no property that is served. {hint}")

    def close(self) -> None:
        """Let running jobs end and begin no others."""
        for executor in (self.small, self.large):
            executor.pool.shutdown(wait=False, cancel_futures=True)

    def results(
        self, formulas: Sequence[object], models: Sequence[Answering], nearest: int, amounts: str
    ) -> list[dict[str, Any]]:
        """Results of some formulas in their order."""
        fractions, good, errors = parse_formulas(formulas, amounts)
        results: list[dict[str, Any]] = [
            {"formula": _shown(item), "error": None, "predictions": {}} for item in formulas
        ]
        for place, error in errors.items():
            kind = type(error).__name__
            results[place]["error"] = {"type": kind, "message": str(error)}
            self.metrics.item_errors.labels(kind).inc()
        for one in models if len(good) else ():
            for place, row in zip(good, self._rows(one, fractions, nearest), strict=True):
                # The warnings are on numbers of atoms that no compound has.
                warnings = formula_warnings(formulas[place]) if amounts == Amounts.ATOMIC else []
                row["note"] = "; ".join(filter(None, (*warnings, row["note"])))
                results[place]["predictions"][one.name] = row
        return results

    def _rows(self, one: Answering, fractions: np.ndarray, nearest: int) -> list[dict[str, Any]]:
        """The predictions of one property as they stand in the answer."""
        info, began = one.version.info, time.perf_counter()
        try:
            got = one.model.predict(fractions)
            columns = [np.asarray(getattr(got, name)).tolist() for name in OUTPUT_COLUMNS]
            rows = [dict(zip(OUTPUT_COLUMNS, row, strict=True)) for row in zip(*columns, strict=True)]
            around = one.model.nearest(fractions, nearest) if nearest else [[]] * len(rows)
            for row, found in zip(rows, around, strict=True):
                row["nearest"] = [{"formula": n.formula, "value": n.y_true, "distance": n.distance} for n in found]
        except Exception as error:
            event("a model failed", logging.ERROR, exc_info=True, model=info.name)
            failed = f"The model of {one.name} (version {info.version}) failed: {type(error).__name__}."
            raise HttpError("UnavailableError", f"{failed} Ask for the other properties alone.") from error
        one.version.learn_seconds(len(rows), nearest > 0, time.perf_counter() - began)
        name = info.target if info.target in self.cache.names else info.name
        self.metrics.predictions.labels(name, info.version).inc(len(rows))
        return rows


def results_json(results: Sequence[Mapping[str, Any]]) -> bytes:
    """Results as JSON without brackets around them; numbers that are not finite become null."""
    return to_json(results, inf_nan_mode="null")[1:-1]


def _answer_json(results: Sequence[bytes], models: Sequence[Answering]) -> bytes:
    answered_by = {}
    for one in models:
        info, known = one.version.info, one.version.metadata
        of = {"model": info.name, "version": info.version, "method": known.method, "unit": known.unit}
        answered_by[one.name] = AnsweredBy(**of, coverage=known.coverage.stated)
    return b'{"results":[' + b",".join(results) + b'],"models":' + to_json(answered_by) + b"}"


def _shown(item: object) -> str:
    """An item as it is repeated in the answer: a text itself, anything else as JSON; cut where it is long."""
    text = item if isinstance(item, str) else to_json(item, inf_nan_mode="strings").decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
