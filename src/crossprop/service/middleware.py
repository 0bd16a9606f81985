"""What holds for every request: allowed hosts, limits of the body, headers of the answer, the access log, metrics."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import secrets
import time
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossprop.service.http_errors import HttpError, error_response
from crossprop.service.logs import event
from crossprop.service.metrics import Metrics
from crossprop.service.settings import Limits, ServiceSettings

access = logging.getLogger("crossprop.service.access")

_SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "geolocation=(), camera=(), microphone=()",
}
_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
_METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH")
_PROBES = ("/healthz", "/readyz", "/metrics")  # only their failures are logged
_SHOWN = 200


class ServiceMiddleware:
    """The innermost middleware around the routes."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._settings.limits)
        self._metrics.in_flight.inc()
        try:
            check_host(exchange.headers.get("host", ""), self._settings)
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            exchange.status = exchange.status or 499
            raise
        except Exception as error:
            if not isinstance(error, HttpError):
                event("a request failed", logging.ERROR, exc_info=True, id=exchange.id)
                message = f"The service failed; its log says why under the id {exchange.id}. Try again later."
                error = HttpError("InternalError", message)
            if exchange.status:
                raise
            answer = error_response(error.kind, str(error), error.status, error.headers)
            await answer(exchange.scope, receive, exchange.send)
        finally:
            self._metrics.in_flight.dec()
            self._record(exchange)

    def _record(self, exchange: _Exchange) -> None:
        scope, seconds = exchange.scope, time.perf_counter() - exchange.began
        # The route's own path, so that the number of different metrics stays small.
        path = getattr(scope.get("route"), "path", None)
        path = path or ("/static" if scope["path"].startswith("/static/") else "unknown")
        self._metrics.requests.labels(exchange.method, path, exchange.status).inc()
        self._metrics.seconds.labels(path).observe(seconds)
        if path in _PROBES and exchange.status < 400:
            return
        client = scope["client"][0].removeprefix("::ffff:") if scope.get("client") else ""
        asked = {"id": exchange.id, "client": client, "method": exchange.method}
        answered = {"status": exchange.status, "ms": round(seconds * 1000, 1), "sent": exchange.sent}
        owner = scope.get("crossprop.key", "")
        fields = {**asked, "path": scope["path"][:_SHOWN], **answered, "key": owner}
        access.info("request", extra={"fields": fields})


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        self.method = scope["method"] if scope["method"] in _METHODS else "other"
        # GET routes answer HEAD, too: the server leaves out the body.
        self.scope = {**scope, "method": "GET"} if self.method == "HEAD" else scope
        self.headers = Headers(scope=scope)
        given = self.headers.get("x-request-id", "")
        self.id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        self.began = time.perf_counter()
        self.status = 0
        self.sent = 0
        self._receive, self._send, self._limits = receive, send, limits
        self._received, self._complete = 0, False

    async def receive(self) -> Message:
        """The next piece of the body, within the limits."""
        if self._complete:
            return await self._receive()
        length = self.headers.get("content-length", "0")
        self._check_size(int(length) if length.isdigit() and len(length) < 20 else 0)
        left = self.began + self._limits.body_seconds - time.perf_counter()
        try:
            async with asyncio.timeout(max(left, 0.001)):
                message = await self._receive()
        except TimeoutError:
            seconds = self._limits.body_seconds
            text = f"The body did not arrive within {seconds:g} seconds. Send it faster, or in parts."
            raise HttpError("SlowBodyError", text) from None
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            self._check_size(self._received)
        return message

    async def send(self, message: Message) -> None:
        """Send a piece of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            # The page's files have an ETag; nothing else is to be stored.
            cached = "no-cache" if self.scope["path"].startswith("/static/") else "no-store"
            headers = MutableHeaders(scope=message)
            own = {**_SECURITY_HEADERS, "cache-control": cached, "x-request-id": self.id}
            for name, value in own.items():
                headers.setdefault(name, value)
        elif message["type"] == "http.response.body":
            self.sent += len(message.get("body", b""))
        await self._send(message)

    def _check_size(self, n: int) -> None:
        if n > self._limits.body_bytes:
            message = f"The body holds {n} bytes or more; at most {self._limits.body_bytes} are read."
            raise HttpError("TooLargeError", f"{message} Send several requests.")


def check_host(host: str, settings: ServiceSettings) -> None:
    """Refuse a host name that is not allowed, as a page that rebinds its name to this address sends."""
    name = re.sub(r":\d*$", "", host.strip().lower())
    for allowed in settings.hosts:
        if name in ("", allowed) or allowed == "*" or (allowed[:2] == "*." and name.endswith(allowed[1:])):
            return
    with suppress(ValueError):
        if settings.any_address and ipaddress.ip_address(name.strip("[]")):
            return
    why = f"This service does not answer for the host {name[:_SHOWN]!r}. Use one of"
    raise HttpError("UnknownHostError", f"{why} {', '.join(settings.hosts)} or start it with --allowed-host.")
