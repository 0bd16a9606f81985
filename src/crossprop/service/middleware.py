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
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from crossprop.service.http_errors import SlowBodyError, TooLargeError, error_body
from crossprop.service.metrics import Metrics
from crossprop.service.settings import Limits

access = logging.getLogger("crossprop.service.auth")
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


HEADER_SECONDS = 10.0
"""Longest from the opening of a connection, or the first byte of a request, to the end of its headers."""
HEADER_BYTES = 65_536
"""Most bytes of a request's headers, give or take what arrives at once."""
FLUSH_SECONDS = 60.0
"""Longest that a client may take to read what is left of an answer."""


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol, with a bound on the time for headers and for reading an answer.

    Uvicorn itself bounds only the time between two requests. The time for a body is the middleware's matter.
    """

    _deadline: asyncio.TimerHandle | None = None
    _heading = 0
    _flushing = 0.0

    def connection_made(self, transport: Any) -> None:
        """A client connected: it is to say something soon."""
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._forget_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something came in."""
        super().data_received(data)
        if self._deadline is not None and not self.transport.is_closing():
            self._heading += len(data)
            if self._heading > HEADER_BYTES:
                self.send_400_response("Headers are too long.")

    def on_message_begin(self) -> None:
        """The first byte of a request came in."""
        super().on_message_begin()
        if self._deadline is None:
            self._expect_headers()

    def on_headers_complete(self) -> None:
        """The headers are whole."""
        self._forget_deadline()
        super().on_headers_complete()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing was asked for a while: close, but let a slow reader finish within bounds."""
        unread = self.transport.get_write_buffer_size()
        if unread and not self.transport.is_closing():
            self._flushing += self.timeout_keep_alive
            if self._flushing >= FLUSH_SECONDS:
                self.transport.abort()
                return
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
            return
        super().timeout_keep_alive_handler()

    def _unsupported_upgrade_warning(self) -> None:
        """Whoever offers another protocol is answered in this one, which is no news."""

    def _expect_headers(self) -> None:
        self._heading = 0
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()
