"""What holds for every request: allowed hosts, limits of the body, headers of the answer, the access log, metrics."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossprop.service.http_errors import HttpError, error_body
from crossprop.service.logs import event
from crossprop.service.metrics import Metrics
from crossprop.service.settings import Limits, ServiceSettings

access = logging.getLogger("crossprop.service.access")

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
_METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH")
_PROBES = ("/healthz", "/readyz", "/metrics")  # only their failures are logged
_SHOWN = 200


class ServiceMiddleware:
    """The innermost middleware around the routes."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._settings.limits)
        self._metrics.in_flight.inc()
        try:
            check_host(exchange.headers.get(b"host", b"").decode("latin-1"), self._settings)
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            exchange.status = exchange.status or 499
            raise
        except Exception as error:
            if not isinstance(error, HttpError):
                event("a request failed", logging.ERROR, exc_info=True, id=exchange.id)
                error = HttpError(
                    "InternalError",
                    f"The service failed; its log says why under the id {exchange.id}. Try again later.",
                )
            if exchange.status:
                raise
            await exchange.fail(error)
        finally:
            self._metrics.in_flight.dec()
            self._record(exchange)

    def _record(self, exchange: _Exchange) -> None:
        scope, seconds = exchange.scope, time.perf_counter() - exchange.began
        path = _route(scope)
        self._metrics.requests.labels(exchange.method, path, exchange.status).inc()
        self._metrics.seconds.labels(path).observe(seconds)
        if path in _PROBES and exchange.status < 400:
            return
        fields = {
            "id": exchange.id,
            "client": scope["client"][0] if scope.get("client") else "",
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
        self.method = scope["method"] if scope["method"] in _METHODS else "other"
        # GET routes answer HEAD, too: with the same headers and no body.
        self.scope = {**scope, "method": "GET"} if self.method == "HEAD" else scope
        self.headers = dict(scope["headers"])
        given = self.headers.get(b"x-request-id", b"")
        self.id = given.decode() if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        self.began = time.perf_counter()
        self.status = 0
        self.sent = 0
        self._receive = receive
        self._send = send
        self._limits = limits
        self._received = 0
        self._complete = False

    async def receive(self) -> Message:
        """The next piece of the body, within the limits."""
        if self._complete:
            return await self._receive()
        length = self.headers.get(b"content-length", b"0")
        self._check_size(int(length) if length.isdigit() and len(length) < 20 else 0)
        left = self.began + self._limits.body_seconds - time.perf_counter()
        try:
            async with asyncio.timeout(max(left, 0.001)):
                message = await self._receive()
        except TimeoutError:
            raise HttpError(
                "SlowBodyError",
                f"The body did not arrive within {self._limits.body_seconds:g} seconds. Send it faster, or in parts.",
            ) from None
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            self._check_size(self._received)
        return message

    async def send(self, message: Message) -> None:
        """Send a piece of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = list(message.get("headers", ()))
            # The page's files have an ETag; nothing else is to be stored.
            cached = b"no-cache" if self.scope["path"].startswith("/static/") else b"no-store"
            more = {**SECURITY_HEADERS, b"cache-control": cached, b"x-request-id": self.id.encode()}
            names = {name.lower() for name, _ in given}
            headers = [*given, *((name, value) for name, value in more.items() if name not in names)]
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body":
            self.sent += len(message.get("body", b""))
            if self.method == "HEAD":
                message = {**message, "body": b""}
        await self._send(message)

    async def fail(self, error: HttpError) -> None:
        """Answer in place of the application."""
        body = to_json(error_body(error.kind, str(error)))
        headers = {**error.headers, "content-type": "application/json", "content-length": str(len(body))}
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": error.status, "headers": encoded})
        await self.send({"type": "http.response.body", "body": body})

    def _check_size(self, n: int) -> None:
        if n > self._limits.body_bytes:
            raise HttpError(
                "TooLargeError",
                f"The body holds {n} bytes or more; at most {self._limits.body_bytes} are read. Send several requests.",
            )


def check_host(host: str, settings: ServiceSettings) -> None:
    """Refuse a request for a host name that is not allowed, as a page that rebinds its name to this address sends.

    A request without a host is answered: browsers always send one.
    """
    name = re.sub(r":\d*$", "", host.strip().lower())
    for allowed in settings.hosts:
        if name in ("", allowed) or allowed == "*" or (allowed[:2] == "*." and name.endswith(allowed[1:])):
            return
    if settings.any_address and is_address(name):
        return
    raise HttpError(
        "UnknownHostError",
        f"This service does not answer for the host {name[:_SHOWN]!r}. Use one of {', '.join(settings.hosts)}, or "
        "start it with --allowed-host.",
    )


def is_address(name: str) -> bool:
    """Whether a host is an IP address, in brackets or not."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _route(scope: Mapping[str, Any]) -> str:
    """The route's own path, so that the number of different metrics stays small."""
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        return "/static" if scope["path"].startswith("/static/") else "unknown"
    return str(path)
