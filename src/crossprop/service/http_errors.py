"""Requests that are not answered: each kind of error with its status and meaning."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from crossprop.errors import ServiceError
from crossprop.service.schemas import ErrorAnswer

KINDS = {
    "BadRequestError": (400, "The body is no JSON."),
    "UnknownHostError": (400, "The service does not answer for this host name."),
    "UnauthorizedError": (401, "The key is missing or unknown."),
    "ForbiddenError": (403, "The key, or a service without keys, does not allow this."),
    "UnknownNameError": (404, "There is no such property."),
    "SlowBodyError": (408, "The body did not arrive in time."),
    "TooLargeError": (413, "The body is too large."),
    "MediaTypeError": (415, "The body is not declared as JSON."),
    "UnsupportedCodingError": (415, "The body is declared as compressed."),
    "InvalidRequestError": (422, "The request holds something that is not taken, or too much of it."),
    "BusyError": (429, "Too many requests are waiting; `Retry-After` says when to come back."),
    "DisconnectedError": (499, "The caller closed the connection; for the log and the metrics only."),
    "InternalError": (500, "The service failed."),
    "UnavailableError": (503, "Not loaded, or no answer in time; `Retry-After` says when to come back."),
}  # status and meaning by the type that stands in the answer
_HEADERS = {
    "UnauthorizedError": {"WWW-Authenticate": "Bearer"},
    "SlowBodyError": {"Connection": "close"},
    "TooLargeError": {"Connection": "close"},
    "UnsupportedCodingError": {"Accept-Encoding": "identity"},
}


class HttpError(ServiceError):
    """A request that is not answered with what it asked for; ``kind`` is one of ``KINDS``."""

    def __init__(self, kind: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = KINDS[kind][0]
        retry = {} if retry_after is None else {"Retry-After": str(max(1, round(retry_after)))}
        self.headers = {**_HEADERS.get(kind, {}), **retry}


def documented(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The errors of an operation for its OpenAPI description."""
    answers: dict[int | str, dict[str, Any]] = {}
    for status, meaning in (KINDS[kind] for kind in ("UnknownHostError", *kinds)):
        known = answers.setdefault(status, {"model": ErrorAnswer, "description": ""})
        known["description"] = f"{known['description']} {meaning}".strip()
        if status in (429, 503):
            retry = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
            known["headers"] = {"Retry-After": retry}
    return answers


def error_json(kind: str, message: str) -> bytes:
    """The body of every answer that is an error."""
    return to_json({"error": {"type": kind, "message": message}})


def error_response(kind: str, message: str, status: int, headers: Mapping[str, str]) -> Response:
    """The answer to a request that is not answered with what it asked for."""
    return Response(error_json(kind, message), status, headers, "application/json")
