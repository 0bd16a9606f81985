"""The application: what is put together around the routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from crossprop import __version__
from crossprop.inference.predictor import ServedModel
from crossprop.service import openapi, routes
from crossprop.service.bodies import sentences
from crossprop.service.http_errors import RefusalError, error_body
from crossprop.service.middleware import Guard
from crossprop.service.model_cache import Loader
from crossprop.service.models import ModelSource
from crossprop.service.settings import ServiceSettings
from crossprop.service.state import Service

PAGES = Path(__file__).with_name("pages")


def create_app(settings: ServiceSettings, source: ModelSource, load: Loader | None = None) -> FastAPI:
    """The service as an ASGI application; it follows the source from its start-up to its shutdown.

    Args:
        settings: What is served, and within which bounds.
        source: Where the models come from.
        load: Loads a saved model's folder; by default with half of the threads to a prediction.

    Returns:
        The application; its ``state.service`` holds the parts.
    """
    service = Service(
        settings, source, load or partial(ServedModel.load, threads=max(1, settings.threads // 2))
    )

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            service.stop()

    app = FastAPI(
        title="crossprop",
        version=__version__,
        description=openapi.DESCRIPTION,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # a redirect names a host and a path that a proxy in front may not have
    )
    app.state.service = service
    app.add_middleware(Guard, limits=settings.limits, metrics=service.metrics)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key"],
            expose_headers=["Retry-After", "X-Request-ID"],
        )
    app.add_exception_handler(RefusalError, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.include_router(routes.build(service))
    document = openapi.document(app, settings)
    app.openapi = lambda: document  # type: ignore[method-assign]
    app.include_router(routes.build_pages(PAGES, document))
    app.mount("/static", StaticFiles(directory=PAGES, check_dir=False), name="static")
    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)
    kind = type(error).__name__
    return _answer(error.status, error_body(kind, str(error)), error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path, known = request.url.path[:200], "The API is described under /docs and /openapi.json."
    if error.status_code == 404:
        hint = " Leave the slash at its end out." if path.endswith("/") else ""
        body = error_body("UnknownPathError", f"There is nothing under {path!r}.{hint} {known}")
    elif error.status_code == 405:
        body = error_body("MethodError", f"{path!r} does not answer {request.method[:20]!r}. {known}")
    else:
        body = error_body("RequestError", str(error.detail))
    return _answer(error.status_code, body, dict(error.headers or {}))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _answer(422, error_body("InvalidRequestError", sentences(error.errors())), {})


def _answer(status: int, body: Any, headers: dict[str, str]) -> Response:
    return Response(to_json(body), status, headers=headers, media_type="application/json")
