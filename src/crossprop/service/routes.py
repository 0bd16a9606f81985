"""The operations of the service."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi import Path as PathParameter
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic_core import to_json
from starlette.responses import FileResponse, Response

from crossprop.service import schemas
from crossprop.service.auth import Scope, require
from crossprop.service.bodies import read_request
from crossprop.service.http_errors import HungUpError, UnavailableError
from crossprop.service.models import parity
from crossprop.service.openapi import METRICS_ANSWER, STYLE, docs_page, errors, predict_extra
from crossprop.service.prediction import unknown_property
from crossprop.service.state import Service


def build(service: Service) -> APIRouter:
    """The operations that the OpenAPI document describes."""
    router = APIRouter()
    keys = service.settings.keys

    def reader(request: Request) -> None:
        require(keys, Scope.READ, request)

    def admin(request: Request) -> None:
        require(keys, Scope.ADMIN, request)

    def scraper(request: Request) -> None:
        if not service.settings.open_metrics:
            require(keys, Scope.READ, request)

    @router.post(
        "/v1/predict",
        dependencies=[Depends(reader)],
        response_model=schemas.PredictAnswer,
        responses=errors(400, 401, 404, 408, 413, 415, 422, 429, 503),
        openapi_extra=predict_extra(service.settings.limits),
        tags=["predictions"],
        summary="Predict properties of compositions",
    )
    async def predict(request: Request) -> Response:
        """Many formulas, many properties, one call.

        Results stand in the order of the formulas. An item that is no formula gets an `error` of its own; all others
        are answered. All predictions of a property within one answer come from one version of its model.
        """
        wanted = await read_request(request)
        if service.desk.is_quick(wanted):
            return _json(await service.desk.answer(wanted))
        return _json(await _unless_gone(request, service.desk.answer(wanted)))

    @router.get(
        "/v1/properties",
        dependencies=[Depends(reader)],
        response_model=schemas.PropertiesAnswer,
        responses=errors(401),
        tags=["models"],
        summary="What can be predicted, how well, and whether it is ready",
    )
    async def properties() -> Response:
        """Figures are those of the version that answers now."""
        return _json(to_json({"properties": service.properties()}, inf_nan_mode="null"))

    @router.get(
        "/v1/properties/{name}/parity",
        dependencies=[Depends(reader)],
        response_model=schemas.ParityAnswer,
        responses=errors(401, 404, 422, 503),
        tags=["models"],
        summary="True and predicted values of the hold-out",
    )
    async def property_parity(
        name: Annotated[str, PathParameter(description="As in `/v1/properties`.", max_length=200)],
    ) -> Response:
        """At most 2,000 points, drawn evenly; none for a model that was saved without evidence."""
        slot = service.shelf.find(name)
        if slot is None:
            raise unknown_property(name, service.shelf)
        edition = slot.shown
        if edition.folder is None:
            raise UnavailableError(
                f"The files of {name} are not there yet. Ask again in a moment.", retry_after=2
            )
        points = await asyncio.to_thread(parity, edition.folder)
        return _json(to_json({"name": name, "unit": edition.card.unit, **points}, inf_nan_mode="null"))

    @router.get(
        "/v1/models",
        dependencies=[Depends(reader)],
        response_model=schemas.ModelsAnswer,
        responses=errors(401),
        tags=["models"],
        summary="Every registered model: champion, former champion, challenger, and what is served",
    )
    async def models() -> Response:
        """The registry is asked at most every few seconds; while it is gone, what was known last is told."""
        shown = await asyncio.to_thread(service.models)
        return _json(to_json({"models": shown, "registry": service.registry()}, inf_nan_mode="null"))

    @router.post(
        "/v1/refresh",
        dependencies=[Depends(admin)],
        response_model=schemas.RefreshAnswer,
        responses=errors(401, 403),
        tags=["models"],
        summary="Look at the registry now",
    )
    async def refresh() -> Response:
        """Needs a key of scope `admin`. Nothing is changed in the registry."""
        await asyncio.to_thread(service.follower.look)
        return _json(to_json({"properties": len(service.shelf.slots), "registry": service.registry()}))

    @router.get(
        "/healthz", response_model=schemas.HealthAnswer, tags=["operation"], summary="The process lives"
    )
    async def healthz() -> Response:
        """Says nothing of models: for restarting what hangs."""
        return _json(b'{"status":"ok"}')

    @router.get(
        "/readyz",
        response_model=schemas.ReadyAnswer,
        responses=errors(503),
        tags=["operation"],
        summary="At least one property is served",
    )
    async def readyz() -> Response:
        """For load balancers. A registry that is gone does not make a service unready that has models."""
        n = service.answering
        if not n:
            raise UnavailableError(service.advice, retry_after=2)
        return _json(to_json({"status": "ready", "properties": n, "note": service.follower.state.note}))

    @router.get(
        "/metrics",
        dependencies=[Depends(scraper)],
        responses=METRICS_ANSWER if service.settings.open_metrics else METRICS_ANSWER | errors(401),
        response_class=Response,
        tags=["operation"],
        summary="Metrics for Prometheus",
    )
    async def metrics() -> Response:
        """In Prometheus' text format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router


def build_pages(pages: Path, document: Mapping[str, Any]) -> APIRouter:
    """The page, and the description of the API: as JSON, and to be read."""
    router = APIRouter(include_in_schema=False)
    described, readable = to_json(document), docs_page(document).encode()

    @router.get("/openapi.json")
    async def openapi() -> Response:
        return _json(described)

    @router.get("/docs")
    async def docs() -> Response:
        return Response(readable, media_type="text/html")

    @router.get("/docs.css")
    async def style() -> Response:
        return Response(STYLE, media_type="text/css")

    @router.get("/")
    async def page() -> Response:
        index = pages / "index.html"
        if not index.is_file():
            return Response(readable, media_type="text/html")
        return FileResponse(index, headers={"Cache-Control": "no-cache"})

    return router


async def _unless_gone(request: Request, answer: Any) -> bytes:
    """The answer, unless the caller hangs up before it is there: then nothing further is computed."""
    working = asyncio.ensure_future(answer)
    watching = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HungUpError("The caller hung up.")
        result: bytes = working.result()
        return result
    finally:
        working.cancel()
        watching.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
