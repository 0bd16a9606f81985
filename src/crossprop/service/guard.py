"""Around every request: bounds of its body, headers of its answer, one line in the log, metrics."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossprop.service.metrics import Metrics
from crossprop.service.refusals import SlowBodyError, TooLargeError, error_body
from crossprop.service.settings import Limits

access = logging.getLogger("crossprop.service.access")
log = logging.getLogger("crossprop.service")

_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
SECURITY_HEADERS: Mapping[bytes, bytes] = {
    b"content-security-policy": _POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"permissions-policy": b"geolocation=(), camera=(), microphone=()",
}
_REQUEST_ID = re.compile(rb"[\w.-]{1,64}")
_PROBES = ("/healthz", "/readyz", "/metrics")
"""Asked every few seconds by machines: only what is wrong with them is logged."""
_SHOWN = 200


class Guard:
    """Middleware; the innermost of what is around the routes."""

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._limits)
        self._metrics.in_flight.inc()
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            exchange.status = exchange.status or 499
            raise
        except Exception:
            log.exception("a request failed", extra={"fields": {"id": exchange.id}})
            if exchange.status:
                raise
            await exchange.fail()
        finally:
            self._metrics.in_flight.dec()
            self._record(exchange)

    def _record(self, exchange: _Exchange) -> None:
        scope, seconds = exchange.scope, time.perf_counter() - exchange.began
        path = _template(scope)
        self._metrics.requests.labels(exchange.method, path, exchange.status).inc()
        self._metrics.seconds.labels(path).observe(seconds)
        if path in _PROBES and exchange.status < 400:
            return
        client = scope.get("client")
        fields = {
            "id": exchange.id,
            "client": client[0] if client else "",
            "method": exchange.method,
            "path": scope["path"][:_SHOWN],
            "status": exchange.status,
            "ms": round(seconds * 1000, 1),
            "sent": exchange.sent,
            "key": scope.get("crossprop.key", ""),
        }
        access.info("request", extra={"fields": fields})


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        self.method = _method(scope)
        # What answers GET answers HEAD, too: the same headers, and no body.
        self.scope = {**scope, "method": "GET"} if self.method == "HEAD" else scope
        self.began = time.perf_counter()
        self.status = 0
        self.sent = 0
        self._receive = receive
        self._send = send
        self._limits = limits
        self._read = 0
        self._whole = False
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        self.id = given.decode() if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        length = headers.get(b"content-length", b"")
        self._announced = int(length) if length.isdigit() and len(length) < 20 else 0

    async def receive(self) -> Message:
        """The next piece of the body, within the bounds."""
        if self._whole:
            return await self._receive()
        if self._announced > self._limits.body_bytes:
            raise self._too_large(self._announced)
        left = self.began + self._limits.body_seconds - time.perf_counter()
        try:
            async with asyncio.timeout(max(left, 0.001)):
                message = await self._receive()
        except TimeoutError:
            raise SlowBodyError(
                f"The body did not arrive within {self._limits.body_seconds:g} seconds. Send it faster, or in parts."
            ) from None
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._read > self._limits.body_bytes:
                raise self._too_large(self._read)
        return message

    async def send(self, message: Message) -> None:
        """Send a piece of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = list(message.get("headers", ()))
            names = {name.lower() for name, _ in given}
            more = [(name, value) for name, value in SECURITY_HEADERS.items() if name not in names]
            if b"cache-control" not in names:
                # The page's files have an ETag; nothing else is to be kept.
                kept = b"no-cache" if self.scope["path"].startswith("/static/") else b"no-store"
                more.append((b"cache-control", kept))
            message = {**message, "headers": [*given, *more, (b"x-request-id", self.id.encode())]}
        elif self.method == "HEAD":
            message = {**message, "body": b""}
        else:
            self.sent += len(message.get("body", b""))
        await self._send(message)

    async def fail(self) -> None:
        """Answer in place of an application that raised what it should not have."""
        body = to_json(
            error_body(
                "InternalError",
                f"The service failed; its log says why under the id {self.id}. Try again later.",
            )
        )
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    def _too_large(self, n: int) -> TooLargeError:
        return TooLargeError(
            f"The body holds {n} bytes or more, and {self._limits.body_bytes} are the most that is read. "
            "Send several requests."
        )


def _method(scope: Mapping[str, Any]) -> str:
    known = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH")
    return scope["method"] if scope["method"] in known else "other"


def _template(scope: Mapping[str, Any]) -> str:
    """The route's own path, so that what callers make up fills no table."""
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        return "/static" if scope["path"].startswith("/static/") else "unknown"
    return str(path)
