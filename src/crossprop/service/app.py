"""The application: the routes, the page, the description of the API, and the errors in one form."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from crossprop import __version__
from crossprop.inference.predictor import ServedModel
from crossprop.service import routes
from crossprop.service.http_errors import HttpError, error_response
from crossprop.service.middleware import ServiceMiddleware
from crossprop.service.model_cache import Loader
from crossprop.service.settings import ServiceSettings
from crossprop.service.sources import ModelSource
from crossprop.service.state import Service

STATIC = Path(__file__).with_name("static")
DESCRIPTION = """Predictions of materials properties from chemical formulas, by the models that were promoted.

Every prediction has an interval with a stated coverage and says whether the composition lies within the training domain
of its model. An error has the form `{"error": {"type": "…", "message": "…"}}`; the message says what to do next.
"""


def create_app(settings: ServiceSettings, source: ModelSource, load: Loader | None = None) -> FastAPI:
    """The service as an ASGI application, its ``Service`` in ``state.service``; ``load`` loads a saved model."""
    if load is None:
        load = partial(ServedModel.load, threads=max(1, settings.threads // 2))
    service = Service(settings, source, load)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="crossprop",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page loads its scripts from another server
        redoc_url=None,
        redirect_slashes=False,  # a redirect names a host and a path that a proxy in front may not have
    )
    app.state.service = service
    app.add_middleware(ServiceMiddleware, settings=settings, metrics=service.metrics)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key"],
            expose_headers=["Retry-After", "X-Request-ID"],
        )
    app.exception_handler(HttpError)(_refused)
    app.exception_handler(HTTPException)(_http_error)
    app.exception_handler(RequestValidationError)(_invalid)
    for router in routes.build(service):
        app.include_router(router)
    for path, page in (("/", "index.html"), ("/docs", "docs.html")):
        app.add_api_route(path, partial(_page, STATIC / page), include_in_schema=False)
    app.mount("/static/swagger", StaticFiles(packages=[("fastapi_offline", "static")]), name="swagger")
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


async def _page(file: Path) -> Response:
    return FileResponse(file, headers={"Cache-Control": "no-cache"})


async def _refused(request: Request, error: HttpError) -> Response:
    return error_response(error.kind, str(error), error.status, error.headers)


async def _http_error(request: Request, error: HTTPException) -> Response:
    path, known = request.url.path[:200], "The API is described under /docs and /openapi.json."
    if error.status_code == 404:
        hint = " Leave out the slash at its end." if path.endswith("/") else ""
        kind, message = "UnknownPathError", f"There is nothing under {path!r}.{hint} {known}"
    elif error.status_code == 405:
        kind, message = "MethodError", f"{path!r} does not answer {request.method[:20]!r}. {known}"
    else:
        kind, message = "RequestError", str(error.detail)
    return error_response(kind, message, error.status_code, error.headers or {})


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    return await _refused(request, HttpError("InvalidRequestError", routes.sentences(error.errors())))
