"""Requests that are not answered: each kind with its status and what the caller may do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from crossprop.errors import ServiceError


class RefusalError(ServiceError):
    """A request that is not answered with what it asked for."""

    status: ClassVar[int] = 400
    closes: ClassVar[bool] = False
    """Whether the connection is of no further use, since part of the body was not read."""

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        headers = {"Connection": "close"} if self.closes else {}
        return headers | ({"Retry-After": str(self.retry_after)} if self.retry_after else {})


class BadRequestError(RefusalError):
    """The body is no JSON."""


class UnauthorizedError(RefusalError):
    """No key, or one that is unknown."""

    status = 401

    @property
    def headers(self) -> dict[str, str]:
        """Says which kind of key is asked for."""
        return {"WWW-Authenticate": "Bearer"}


class ForbiddenError(RefusalError):
    """The key does not allow this."""

    status = 403


class UnknownNameError(RefusalError):
    """There is no such property."""

    status = 404


class SlowBodyError(RefusalError):
    """The body did not arrive in time."""

    status = 408
    closes = True


class TooLargeError(RefusalError):
    """The body is larger than the service reads."""

    status = 413
    closes = True


class MediaTypeError(RefusalError):
    """The body is not said to be JSON."""

    status = 415


class UnsupportedCodingError(RefusalError):
    """The body is compressed."""

    status = 415

    @property
    def headers(self) -> dict[str, str]:
        """Says which codings are read."""
        return super().headers | {"Accept-Encoding": "identity"}


class InvalidRequestError(RefusalError):
    """The body is JSON, but not what the operation takes."""

    status = 422


class BusyError(RefusalError):
    """So many requests wait that another one would only make all of them late."""

    status = 429


class UnavailableError(RefusalError):
    """What was asked for is not there yet, or was not done in time."""

    status = 503


class HungUpError(RefusalError):
    """The caller is gone, so that nobody reads this; the status is for the log and the metrics."""

    status = 499


def error_body(kind: str, message: str) -> Mapping[str, Mapping[str, str]]:
    """The JSON of every answer that is an error."""
    return {"error": {"type": kind, "message": message}}
