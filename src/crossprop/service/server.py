"""Runs the application on uvicorn, with limits of connections that uvicorn itself does not have."""

import asyncio
import ipaddress
import math
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from crossprop.errors import ServiceError
from crossprop.ports import take_port
from crossprop.service.http_errors import HttpError, error_json
from crossprop.service.logs import log_as_json
from crossprop.service.settings import Limits

_SWITCH_SECONDS = 0.0005
_MOST_FILES = 65_536
_KEEP_ALIVE_SECONDS = 20
# First bytes of requests that are answered whatever the number of connections:
_PROBES = tuple(f"{method} /{path} ".encode() for method in ("GET", "HEAD") for path in ("healthz", "readyz"))
_SHUTDOWN_SECONDS = 35  # for open requests after the order to stop: a little more than a request may take
_UNREAD_SECONDS, _LEAST_READ = 60, 2**20  # so much of a long answer has to be read in so many seconds


def open_socket(host: str, port: int) -> socket.socket:
    """Take the address to listen on, before anything costly is begun; port 0 is any that is free."""
    listening = take_port(host, port, ServiceError, "--port ", "")
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * _UNREAD_SECONDS)
    return listening


def run_app(app: FastAPI, listening: socket.socket, limits: Limits, proxies: Sequence[str] = ()) -> None:
    """Serve on a socket of ``open_socket`` until SIGTERM, SIGINT or SIGHUP; answer first what has begun."""
    log_as_json()
    allow_many_files()
    # While another thread computes in Python, each release of the interpreter lock costs up to this interval.
    sys.setswitchinterval(_SWITCH_SECONDS)
    server = build_server(app, limits, proxies)
    end_on_signals(server)
    server.run(sockets=[listening])


def build_server(app: FastAPI, limits: Limits, proxies: Sequence[str] = ()) -> uvicorn.Server:
    """The server, not yet started; ``should_exit`` ends it."""
    protocol: Any = partial(_BoundedProtocol, limits=limits, proxies=proxies)
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        backlog=2048,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)


def end_on_signals(server: uvicorn.Server) -> None:
    """Let SIGHUP end the server, too, and let the process go on after it; uvicorn sends itself the signal again."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # in place once the server has ended
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # which nohup sets
        signal.signal(signal.SIGHUP, server.handle_exit)


def allow_many_files() -> None:
    """Raise the limit of open files: a loaded model holds dozens, and every connection is one more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS reports no limit, and has one
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _BoundedProtocol(H11Protocol):
    """What uvicorn lacks: limits of connections, slow headers and slow reading, and answers to half-closed clients."""

    def __init__(self, *args: Any, limits: Limits, proxies: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._proxies = proxies
        self._opened = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._over_limit = 0
        self._probe = False
        self._refused = False

    @property
    def _idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room by closing the oldest idle connection, or answer nothing but probes."""
        super().connection_made(transport)
        if self.client and (v4 := getattr(ipaddress.ip_address(self.client[0]), "ipv4_mapped", None)):
            self.client = (str(v4), self.client[1])  # a socket for IPv6 and IPv4 names it ::ffff:10.0.0.5
        self._deadline = self.loop.call_later(self._limits.header_seconds, transport.close)
        all_open = [one for one in self.connections if isinstance(one, _BoundedProtocol) and not one._refused]
        address = self.client[0] if self.client else ""
        same = [one for one in all_open if one.client and one.client[0] == address]
        if len(same) > self._limits.client_connections and not any(
            ipaddress.ip_address(address) in ipaddress.ip_network(proxy) for proxy in self._proxies
        ):
            crowd = same
        elif len(all_open) > self._limits.connections:
            crowd = all_open
        else:
            return
        idle = [one for one in crowd if one._idle and one is not self]
        if idle:
            oldest = min(idle, key=lambda one: one._opened)
            self.connections.discard(oldest)
            oldest.transport.abort()
        else:
            self._over_limit = len(crowd) - 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self, before: float = math.inf) -> None:
        """Let no client hold a long answer in memory by reading next to nothing of it."""
        super().pause_writing()
        if before - (left := self.transport.get_write_buffer_size()) < _LEAST_READ:
            self.transport.abort()
        else:
            self._unread = self.loop.call_later(_UNREAD_SECONDS, self.pause_writing, left)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def data_received(self, data: bytes) -> None:
        """Headers have a time limit, from their first byte to their end."""
        if self._refused:
            return
        if self._over_limit:
            if not data.startswith(_PROBES):
                message = f"{self._over_limit} connections are in use. Use them, or come back later."
                self._refuse("ConnectionsError", message)
                return
            self._probe, self._over_limit = True, 0
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._cancel_deadline()
            if self._probe:
                self.shutdown()  # after this answer
        elif self._idle and self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self._limits.header_seconds, self.transport.close)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer what the client asked, then close; not for long, since it may be gone."""
        if self._idle or self.cycle.more_body:
            return self._refused
        self.shutdown()
        self.loop.call_later(self._limits.half_closed_seconds, self._end_half_closed)
        return True

    def _end_half_closed(self) -> None:
        if not (self._idle or self.cycle.response_started or self.transport.is_closing()):
            self._refuse("HalfClosedError", "Keep the connection open in both directions.")

    def _refuse(self, kind: str, message: str) -> None:
        error, body = HttpError(kind, message, retry_after=5), error_json(kind, message)
        headers = error.headers | {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in {**headers, "Connection": "close"}.items()]
        self._refused = True
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.write_eof()
        # To close at once would discard the answer if the client still sends.
        self.loop.call_later(1.0, self.transport.close)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
