"""Runs the application on uvicorn."""

import asyncio
import ipaddress
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from crossprop.errors import ServiceError
from crossprop.ports import take_port
from crossprop.service.logs import log_as_json
from crossprop.service.settings import Limits

_SWITCH_SECONDS = 0.0005
_MOST_FILES = 65_536
_KEEP_ALIVE_SECONDS = 20
_SHUTDOWN_SECONDS = 35  # for open requests after the order to stop: a little more than a request may take
_UNREAD_SECONDS = 60  # after which a client that reads nothing of an answer is cut off


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
    config = uvicorn.Config(
        app,
        http=_Http,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=[*proxies, *map(_mapped, proxies)],
        limit_concurrency=limits.connections + 1,  # at which uvicorn refuses
        backlog=2048,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)


class _Http(H11Protocol):
    """uvicorn's protocol, with a time limit for connections that send nothing, which count as open ones."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)


def _mapped(proxy: str) -> str:
    """An IPv4 network as a socket for IPv6 and IPv4 names it, within ::ffff:0:0/96; another one as it is."""
    network = ipaddress.ip_network(proxy)
    return f"::ffff:{network.network_address}/{96 + network.prefixlen}" if network.version == 4 else proxy


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
