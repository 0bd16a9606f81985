"""Answers to ``/v1/predict``: formulas are read, predicted and written piece by piece, off the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from pydantic_core import to_json

from crossprop.service.batching import Batcher
from crossprop.service.bodies import check_size
from crossprop.service.editions import Edition, Slot
from crossprop.service.lanes import Lane
from crossprop.service.metrics import Metrics
from crossprop.service.naming import unknown_property
from crossprop.service.refusals import UnavailableError
from crossprop.service.schemas import PredictRequest
from crossprop.service.settings import Limits
from crossprop.service.shelf import Shelf
from crossprop.service.writing import Reading, Row, prediction_rows, write_results
from crossprop.serving.served import ServedModel

P = ParamSpec("P")
Result = TypeVar("Result")
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
