"""Runs the application on uvicorn: bounded connections, one line of JSON per event, a clean end."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import uvicorn
from fastapi import FastAPI

from crossprop.errors import ServiceError
from crossprop.service.middleware import BoundedProtocol
from crossprop.service.settings import Limits

log = logging.getLogger("crossprop.service")

SWITCH_SECONDS = 0.0005
MOST_FILES = 65_536
"""More files than any number of models and connections needs; a bound, since some systems allow a billion."""

KEEP_ALIVE_SECONDS = 20
SHUTDOWN_SECONDS = 35
"""Longest that requests may take to be answered after the order to stop: a little more than a request may take."""


def open_socket(host: str, port: int) -> socket.socket:
    """Take the address to listen on, before anything costly is begun.

    Args:
        host: Address or name of this machine.
        port: Port; 0 for any that is free.

    Raises:
        ServiceError: The address is taken, unknown or not allowed; the message says what to do.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except socket.gaierror as error:
        raise ServiceError(
            f"The address {host!r} is unknown here. Use 127.0.0.1 (this machine only) or 0.0.0.0."
        ) from error
    except (OSError, OverflowError) as error:
        raise ServiceError(
            f"Port {port} on {host} cannot be used ({error}). Choose another one with --port, e.g. {port % 60000 + 1}, "
            "or end what listens there."
        ) from error
    return listening


def run_app(app: FastAPI, listening: socket.socket, limits: Limits, proxies: tuple[str, ...] = ()) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; requests that have begun are answered first.

    Args:
        app: The application.
        listening: Socket to listen on, as ``open_socket`` made it.
        limits: Tells how many connections may be open.
        proxies: Addresses or networks whose word on who is asking (``X-Forwarded-For``) is taken.
    """
    log_as_json()
    allow_many_files()
    # A prediction lets the interpreter go dozens of times. Whenever another thread computes in Python (one that asks
    # the registry, say), each time would cost up to this interval; the default is 5 ms.
    sys.setswitchinterval(SWITCH_SECONDS)
    build_server(app, limits, proxies).run(sockets=[listening])


def build_server(app: FastAPI, limits: Limits, proxies: tuple[str, ...] = ()) -> uvicorn.Server:
    """The server, not yet started; ``should_exit`` ends it."""
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        limit_concurrency=limits.connections,
        backlog=2048,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """Ends by itself when told to, rather than by the signal: whoever started it sees status 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals that ask for an end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup wants it
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._end, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _end(self, number: signal.Signals) -> None:
        open_requests = sum(not one.transport.is_closing() for one in self.server_state.connections)
        log.info("stopping", extra={"fields": {"signal": number.name, "connections": open_requests}})
        self.handle_exit(number, None)


def allow_many_files() -> None:
    """Open as many files as the system lets this process, not only as many as a shell begins with (often 1,024).

    A loaded model holds the files that it is mapped from, dozens of them, and every connection is one more.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS says that there is no bound, and has one
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def log_as_json() -> None:
    """Write what the service and uvicorn log to standard error, one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    for name, level in (("crossprop.service", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


class _JsonLines(logging.Formatter):
    """Time, level, message, and the fields that came with it."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
