"""The operations of the REST API."""

import asyncio
import json
from collections.abc import Awaitable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from crossprop.errors import CrosspropError
from crossprop.service import schemas
from crossprop.service.auth import Scope, key_check
from crossprop.service.http_errors import HttpError, documented
from crossprop.service.sources import parity
from crossprop.service.state import Service

_EXAMPLE = {"formulas": ["Fe2O3", "NaCl"], "properties": ["bulkmoduluskv"], "nearest": 3}
_PREDICT_ERRORS = (
    "BadRequestError", "UnknownNameError", "SlowBodyError", "TooLargeError", "MediaTypeError",
    "UnsupportedCodingError", "InvalidRequestError", "BusyError", "UnavailableError",
)  # fmt: skip
_FIELDS = tuple(schemas.PredictRequest.model_fields)
_NAMED = 5  # problems of a request that are named; the others are counted


def build(service: Service) -> tuple[APIRouter, APIRouter]:
    """The operations of a service."""
    settings = service.settings
    reading, ordering = key_check(settings.keys, Scope.READ), key_check(settings.keys, Scope.ADMIN)
    refused = documented(*(["UnauthorizedError"] if settings.keys else []))
    v1 = APIRouter(prefix="/v1", responses=refused, tags=["models"])
    operation = APIRouter(responses=documented(), tags=["operation"])
    body = schemas.PredictRequest.model_json_schema()
    body["properties"]["formulas"]["maxItems"] = settings.limits.formulas

    @v1.post(
        "/predict",
        dependencies=reading,
        response_model=schemas.PredictAnswer,
        responses=documented(*_PREDICT_ERRORS),
        openapi_extra={
            "requestBody": {
                "required": True,
                "description": f"At most {settings.limits.formulas:,} formulas, {settings.limits.predictions:,} "
                f"predictions, {settings.limits.body_bytes:,} bytes.",
                "content": {"application/json": {"schema": body, "example": _EXAMPLE}},
            }
        },
        summary="Predict properties of compositions",
    )
    async def predict(request: Request) -> Response:
        """Many formulas, many properties, one call.

        Results have the order of the formulas. A formula that cannot be parsed gets its own `error`; all others are
        answered. All predictions of a property within one answer come from one version of its model.
        """
        wanted = await read_request(request)
        answer: Awaitable[bytes] = service.predictor.answer(wanted)
        if not service.predictor.is_small(wanted):
            answer = _unless_gone(request, answer)
        return Response(await answer, media_type="application/json")

    @v1.get("/properties", dependencies=reading, summary="What can be predicted, and how well")
    async def properties() -> schemas.PropertiesAnswer:
        """The figures belong to the version that answers now."""
        return schemas.PropertiesAnswer(properties=service.properties())

    @v1.get(
        "/properties/{name}/parity",
        dependencies=reading,
        response_model=schemas.ParityAnswer,
        responses=documented("UnknownNameError", "InvalidRequestError", "UnavailableError"),
        summary="True and predicted values of the hold-out",
    )
    async def property_parity(
        name: Annotated[str, PathParameter(description="As in `/v1/properties`.", max_length=200)],
    ) -> Response:
        """At most 2,000 points, drawn evenly; none for a model without a hold-out."""
        version = service.predictor.property(name).shown
        if version.folder is None:
            message = f"The model of {name} is still being loaded. Try again in a moment."
            raise HttpError("UnavailableError", message, 2)
        try:
            answer = await asyncio.to_thread(parity, name, version.info.version, version.metadata.unit, version.folder)
        except CrosspropError as error:  # its files were removed or changed after it was loaded
            message = f"The hold-out of {name} cannot be read: {error}"
            raise HttpError("UnavailableError", message, 5) from error
        return Response(answer, media_type="application/json")

    @v1.get("/models", dependencies=reading, summary="Every registered model with its champion and challenger")
    async def models() -> schemas.ModelsAnswer:
        """The registry is asked at most every few seconds; while it is down, the last known state is shown."""
        return schemas.ModelsAnswer(models=await service.models(), registry=service.registry)

    @v1.post(
        "/refresh",
        dependencies=ordering,
        responses=documented("ForbiddenError"),
        summary="Poll the registry now",
    )
    async def refresh() -> schemas.RefreshAnswer:
        """Needs a key of scope `admin`. Nothing is changed in the registry."""
        await service.poll()
        return schemas.RefreshAnswer(properties=len(service.cache.properties), registry=service.registry)

    @operation.get("/healthz", summary="The process is alive")
    async def healthz() -> schemas.HealthAnswer:
        """Does not check the models: use it to restart a process that hangs."""
        return schemas.HealthAnswer()

    @operation.get("/readyz", responses=documented("UnavailableError"), summary="At least one property is served")
    async def readyz() -> schemas.ReadyAnswer:
        """For load balancers. A service that has models stays ready while the registry is down."""
        if not service.answering:
            raise HttpError("UnavailableError", service.advice, retry_after=2)
        return schemas.ReadyAnswer(properties=service.answering, note=service.registry.note)

    @operation.get(
        "/metrics",
        responses={200: {"content": {"text/plain": {}}}},
        response_class=Response,
        summary="Metrics for Prometheus",
    )
    async def metrics() -> Response:
        """In Prometheus' text format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return v1, operation


async def read_request(request: Request) -> schemas.PredictRequest:
    """The body of ``/v1/predict``; FastAPI would accept other types, ``NaN`` and repeated fields, and any caller's."""
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    kind, parameters = kind.strip().lower()[:100], parameters.strip()[:50]
    if kind != "application/json":
        message = f"The body is declared as {kind!r}. Send JSON with 'Content-Type: application/json'."
        raise HttpError("MediaTypeError", message)
    coding = request.headers.get("content-encoding", "identity").strip().lower()[:50]
    if coding != "identity":
        message = f"The body is declared as compressed ({coding!r}). Send it as it is."
        raise HttpError("UnsupportedCodingError", message)
    try:
        body = (await request.body()).removeprefix(b"\xef\xbb\xbf")
    except ClientDisconnect:
        message = "The caller closed the connection before the body was complete."
        raise HttpError("DisconnectedError", message) from None
    try:
        values = from_json(body, allow_inf_nan=False)
        if any(body.count(f'"{name}"'.encode()) > 1 for name in _FIELDS):
            json.loads(body, object_pairs_hook=_refuse_repeated, parse_int=str)
        unknown = [name for name in values if name not in _FIELDS] if isinstance(values, dict) else []
        if len(unknown) > _NAMED:  # pydantic would take seconds to describe each of them
            problems = [{"loc": [name], "msg": "Extra inputs are not permitted"} for name in unknown[:_NAMED]]
            raise HttpError("InvalidRequestError", sentences(problems, len(unknown) - _NAMED))
        return schemas.PredictRequest.model_validate(values)
    except ValidationError as error:
        raise HttpError("InvalidRequestError", sentences(error.errors())) from None
    except ValueError as error:
        declared = f" It is declared as {parameters!r}, but JSON is UTF-8." if parameters else ""
        message = f"The body is no JSON: {error}.{declared} Send an object such as {json.dumps(_EXAMPLE)}."
        raise HttpError("BadRequestError", message) from None


def _refuse_repeated(pairs: Sequence[tuple[str, Any]]) -> None:
    """Refuse an object that holds a field twice: one of the two would be lost without notice."""
    names = [name for name, _ in pairs]
    if repeated := [name for name in _FIELDS if names.count(name) > 1]:
        message = f"The body holds {repeated[0]!r} twice. Put all of it into one list."
        raise HttpError("InvalidRequestError", message)


def sentences(problems: Sequence[Mapping[str, Any]], unnamed: int = 0) -> str:
    """What is wrong with a request, field by field, in pydantic's words; ``unnamed`` further ones are counted."""
    named = [f"{'.'.join(map(str, p['loc']))[:50] or 'the body'}: {p['msg']}" for p in problems[:_NAMED]]
    more = f" (and {unnamed} more)" if (unnamed := unnamed + len(problems) - len(named)) else ""
    return f"The request is not what this operation takes: {'; '.join(named)}{more}. See /docs."


async def _unless_gone(request: Request, answer: Awaitable[bytes]) -> bytes:
    """The answer, unless the caller closes the connection before it is ready: then nothing further is computed."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(answer), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HttpError("DisconnectedError", "The caller closed the connection.")
        return working.result()
    finally:
        working.cancel()
        watching.cancel()
