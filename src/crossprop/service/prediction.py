"""Answers to ``/v1/predict``: admission, and the work on threads that reads, predicts and writes."""

from __future__ import annotations

import asyncio
import difflib
import logging
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from pydantic_core import to_json

from crossprop.data.compositions import formula_warnings, parse_formulas
from crossprop.inference.predictor import Predictions
from crossprop.service.http_errors import HttpError
from crossprop.service.logs import event
from crossprop.service.metrics import Metrics
from crossprop.service.model_cache import Answering, ModelCache, ServedProperty
from crossprop.service.schemas import AnsweredBy, PredictRequest
from crossprop.service.settings import Limits

SHOWN = 200
"""Characters of what a caller sent that are repeated in an answer."""
_BATCH = 64
"""Formulas that are predicted together, unless a single request has more."""
_SIMILAR = 5
Result = TypeVar("Result")
Waiting = tuple[Sequence[object], asyncio.Future[bytes]]
Compute = Callable[[Sequence[object], Sequence[Answering], int], list[dict[str, Any]]]
_MARGIN = 0.8
"""Share of the time for an answer that the predicted work may fill."""


class PredictionExecutor:
    """Threads that work in the order of arrival, and the admission of requests to them."""

    def __init__(self, size: str, threads: int, limits: Limits, metrics: Metrics) -> None:
        """Start no thread yet.

        Args:
            size: Of the requests: ``"small"`` or ``"large"``; threads for large ones give way to others (Linux).
            threads: How many there may be.
            limits: How many requests may wait, and for how long.
            metrics: Shows how many requests wait or are computed.
        """
        self.threads = threads
        self._limits = limits
        self._gauge = metrics.waiting.labels(size)
        self._requests = 0
        self._seconds = 0.0
        initializer = _lower_priority if size == "large" else None
        self._pool = ThreadPoolExecutor(threads, f"crossprop-{size}", initializer)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one request.

        Raises:
            HttpError: All places are taken.
        """
        if self._requests >= self._limits.waiting:
            raise HttpError(
                "BusyError",
                f"{self._requests} requests are waiting already. Send this one again in a moment.",
                1,
            )
        self._requests += 1
        self._gauge.set(self._requests)
        try:
            yield
        finally:
            self._requests -= 1
            self._gauge.set(self._requests)

    async def run(self, jobs: Sequence[tuple[float, Callable[[], Result]]]) -> list[Result]:
        """Run the jobs of one request; if one fails or the request is cancelled, those not begun are dropped.

        Args:
            jobs: Each with the predicted seconds that a thread needs for it.

        Raises:
            HttpError: The work that was admitted before does not leave enough time.
        """
        waiting, needed = self._seconds / self.threads, sum(seconds for seconds, _ in jobs) / self.threads
        if waiting and waiting + needed > _MARGIN * self._limits.seconds:
            raise HttpError(
                "UnavailableError",
                f"This request would take about {needed:.0f} seconds, and {waiting:.0f} seconds of work wait already: "
                f"more than the {self._limits.seconds:g} seconds for an answer. Send it again later.",
                retry_after=min(waiting, self._limits.seconds),
            )
        futures = [self._submit(seconds, job) for seconds, job in jobs]
        try:
            return await asyncio.gather(*futures)
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Let running jobs end and begin no others."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, seconds: float, job: Callable[[], Result]) -> asyncio.Future[Result]:
        def done(_: asyncio.Future[Result]) -> None:
            self._seconds = max(0.0, self._seconds - seconds)

        self._seconds += seconds
        future = asyncio.wrap_future(self._pool.submit(job))
        future.add_done_callback(done)
        return future


class Batcher:
    """Computes small requests for the same models together, one batch of them at a time."""

    def __init__(self, executor: PredictionExecutor, compute: Compute) -> None:
        self._executor = executor
        self._compute = compute
        self._waiting: dict[tuple[Any, ...], deque[Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def results(self, formulas: Sequence[object], models: tuple[Answering, ...], nearest: int) -> bytes:
        """Results of a request as JSON; formulas of other requests may be computed with these."""
        key = (*((one.name, id(one.model)) for one in models), nearest)
        answer = asyncio.get_running_loop().create_future()
        if key in self._waiting:
            self._waiting[key].append((formulas, answer))
        else:
            self._waiting[key] = deque([(formulas, answer)])
            task = asyncio.create_task(self._work(key, models, nearest))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def _work(self, key: tuple[Any, ...], models: tuple[Answering, ...], nearest: int) -> None:
        waiting = self._waiting[key]
        try:
            while waiting:
                batch = [waiting.popleft()]
                while waiting and sum(len(formulas) for formulas, _ in batch) + len(waiting[0][0]) <= _BATCH:
                    batch.append(waiting.popleft())
                if batch := [one for one in batch if not one[1].done()]:
                    await self._answer(batch, models, nearest)
        finally:
            del self._waiting[key]

    async def _answer(self, batch: Sequence[Waiting], models: Sequence[Answering], nearest: int) -> None:
        def compute() -> list[bytes]:
            rows = iter(self._compute([item for formulas, _ in batch for item in formulas], models, nearest))
            return [results_json(list(islice(rows, len(formulas)))) for formulas, _ in batch]

        try:
            (found,) = await self._executor.run([(0.0, compute)])
        except Exception as error:
            if len(batch) > 1:  # the formulas of one request must not fail the others
                for one in batch:
                    await self._answer([one], models, nearest)
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


@dataclass
class Predictor:
    """Answers requests for predictions.

    Attributes:
        cache: The models.
        threads: Threads for small and for large requests each.
        limits: Limits of a request.
        metrics: Counts predictions and errors.
    """

    cache: ModelCache
    threads: int
    limits: Limits
    metrics: Metrics

    def __post_init__(self) -> None:
        self.small = PredictionExecutor("small", self.threads, self.limits, self.metrics)
        self.large = PredictionExecutor("large", self.threads, self.limits, self.metrics)
        self.batcher = Batcher(self.small, self.results)

    def is_small(self, request: PredictRequest) -> bool:
        """Whether a request does not wait for large ones."""
        return len(request.formulas) * len(request.properties) <= self.limits.small

    async def answer(self, request: PredictRequest) -> bytes:
        """The JSON of the answer; cancelled, it computes nothing further.

        Raises:
            HttpError: Too much is asked for, a property is unknown or not available, or the time is over.
        """
        check_size(request, self.limits)
        executor = self.small if self.is_small(request) else self.large
        with executor.place():
            try:
                async with asyncio.timeout(self.limits.seconds):
                    return await self._answer(request, executor)
            except TimeoutError:
                raise HttpError(
                    "UnavailableError",
                    f"{len(request.formulas)} formulas for {len(request.properties)} properties took longer than "
                    f"{self.limits.seconds:g} seconds. Send fewer at a time, or come back when the load is lower.",
                    retry_after=5,
                ) from None

    async def _answer(self, request: PredictRequest, executor: PredictionExecutor) -> bytes:
        properties = {name: self.property(name) for name in request.properties}
        models = tuple(await asyncio.gather(*(self.cache.get(one, name) for name, one in properties.items())))
        formulas, neighbours = request.formulas, request.nearest > 0
        if executor is self.small:
            return _answer_json([await self.batcher.results(formulas, models, request.nearest)], models)
        # Each thread has work, and no job, which cannot be interrupted, takes long.
        most = min(self.limits.chunk, 8 * self.limits.chunk // len(models))
        chunk = max(1, min(most, -(-len(formulas) // executor.threads)))
        jobs = []
        for start in range(0, len(formulas), chunk):
            part = formulas[start : start + chunk]
            seconds = sum(one.version.predicted_seconds(len(part), neighbours) for one in models)
            jobs.append(
                (seconds, lambda part=part: results_json(self.results(part, models, request.nearest)))
            )
        return _answer_json(await executor.run(jobs), models)

    def property(self, name: str) -> ServedProperty:
        """A property by name.

        Raises:
            HttpError: There is none of this name; the message names similar ones. Or nothing is served yet.
        """
        found, cache = self.cache.find(name), self.cache
        if found is not None:
            return found
        if not cache.properties:
            raise HttpError(
                "UnavailableError",
                "No property is served yet: models are still being looked for, or none was promoted "
                "('crossprop promote <target>'). See /readyz, and ask again in a few seconds.",
                retry_after=2,
            )
        same = [model for model, one in cache.properties.items() if one.target == name]
        near = similar(name, cache.names)
        if same:
            hint = f"It is a target of several studies: name one of {', '.join(same)}."
        elif near:
            hint = f"Did you mean {', '.join(near)}?"
        else:
            hint = f"There are: {', '.join(sorted(cache.names)[:_SIMILAR])}."
        message = f"{name[:SHOWN]!r} is no property that is served. {hint} /v1/properties lists all {len(cache.names)}."
        raise HttpError("UnknownNameError", message)

    def close(self) -> None:
        """Begin no further work."""
        self.small.close()
        self.large.close()

    def results(
        self, formulas: Sequence[object], models: Sequence[Answering], nearest: int
    ) -> list[dict[str, Any]]:
        """Results of some formulas in their order."""
        fractions, good, errors = parse_formulas(formulas)
        results: list[dict[str, Any]] = [
            {"formula": shown(item), "error": None, "predictions": {}} for item in formulas
        ]
        for place, error in errors.items():
            kind = type(error).__name__
            results[place]["error"] = {"type": kind, "message": str(error)}
            self.metrics.item_errors.labels(kind).inc()
        for one in models if len(good) else ():
            for place, row in zip(good, self._rows(one, fractions, nearest), strict=True):
                notes = [*formula_warnings(formulas[place]), row["note"]]
                results[place]["predictions"][one.name] = row | {
                    "note": "; ".join(filter(None, notes)) or None
                }
        return results

    def _rows(self, one: Answering, fractions: np.ndarray, nearest: int) -> list[dict[str, Any]]:
        """The predictions of one property as they stand in the answer."""
        info, began = one.version.info, time.perf_counter()
        try:
            rows = prediction_rows(one.model.predict(fractions))
            if nearest:
                for row, found in zip(rows, one.model.nearest(fractions, nearest), strict=True):
                    row["nearest"] = [
                        {"formula": n.formula, "value": n.y_true, "distance": n.distance} for n in found
                    ]
        except Exception as error:
            event("a model failed", logging.ERROR, exc_info=True, model=info.name)
            raise HttpError(
                "UnavailableError",
                f"The model of {one.name} (version {info.version}) failed: {type(error).__name__}. Ask for the other "
                "properties alone, and report this to the operator of the service.",
            ) from error
        one.version.learn_seconds(len(rows), nearest > 0, time.perf_counter() - began)
        name = info.target if info.target in self.cache.names else info.name
        self.metrics.predictions.labels(name, info.version).inc(len(rows))
        return rows


def results_json(results: Sequence[Mapping[str, Any]]) -> bytes:
    """Results as JSON without brackets around them; numbers that are not finite become null."""
    return to_json(results, inf_nan_mode="null")[1:-1]


def prediction_rows(got: Predictions) -> list[dict[str, Any]]:
    """Predictions with intervals as they stand in an answer, one for every row, without neighbours."""
    names = ("value", "lower", "upper", "in_domain", "note")
    columns = [np.asarray(getattr(got, name)).tolist() for name in names]
    return [{**dict(zip(names, row, strict=True)), "nearest": []} for row in zip(*columns, strict=True)]


def shown(item: object) -> str:
    """An item as it is repeated in the answer: a text itself, anything else as JSON; cut where it is long."""
    text = item if isinstance(item, str) else to_json(item, inf_nan_mode="strings").decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def check_size(request: PredictRequest, limits: Limits) -> None:
    """Refuse a request for more than one request may ask for.

    Raises:
        HttpError: The message says what is too much.
    """
    n = len(request.formulas)
    predictions = n * len(request.properties)
    for number, most, what in (
        (n, limits.formulas, "formulas"),
        (predictions, limits.predictions, "predictions (formulas times properties)"),
        (predictions * request.nearest, limits.neighbours, "neighbours (predictions times 'nearest')"),
    ):
        if number > most:
            raise HttpError(
                "InvalidRequestError",
                f"The request asks for {number} {what}; one request may ask for {most}. Send several requests.",
            )


def similar(name: str, names: Mapping[str, ServedProperty]) -> list[str]:
    """Served names that may be meant: those in which the text or a similar one occurs, or whose description has it."""

    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower())

    asked, known = plain(name), {plain(one): one for one in sorted(names)}
    if not asked:
        return []
    found = [one for text, one in known.items() if asked in text or (len(text) > 3 and text in asked)]
    found += [known[text] for text in difflib.get_close_matches(asked[:SHOWN], known)]
    found += [one for one in known.values() if asked in plain(names[one].shown.metadata.description)]
    return list(dict.fromkeys(found))[:_SIMILAR]


def _answer_json(results: Sequence[bytes], models: Sequence[Answering]) -> bytes:
    answered_by = {}
    for one in models:
        info, metadata = one.version.info, one.version.metadata
        answered_by[one.name] = AnsweredBy(
            model=info.name,
            version=info.version,
            method=metadata.method,
            unit=metadata.unit,
            coverage=metadata.coverage.stated,
        )
    return b'{"results":[' + b",".join(results) + b'],"models":' + to_json(answered_by) + b"}"
