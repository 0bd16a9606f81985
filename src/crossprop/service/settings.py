"""What a service is told when it starts: what it serves, and its limits."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from crossprop.io import usable_cores
from crossprop.service.auth import KeyRing

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""Host names that a service answers for without being told."""


def half_of_memory() -> int:
    """Half of the memory of this machine, or of the container that this process runs in."""
    import psutil

    total = int(psutil.virtual_memory().total)
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            total = min(total, int(Path(name).read_text()))
    return total // 2


@dataclass(frozen=True)
class Limits:
    """Limits of one request, of all that wait, and of connections.

    Attributes:
        body_bytes: Largest request body.
        body_seconds: Longest time for a client to send its body.
        header_seconds: Longest time from the opening of a connection, or the first byte of a further request, to the
            end of its headers.
        formulas: Most formulas of one request.
        predictions: Most formulas times properties of one request.
        neighbours: Most neighbours of one request: formulas times properties times ``nearest``.
        seconds: Longest time from the body of a request to its answer, waiting included.
        small: Requests of up to so many formulas times properties do not wait for larger ones.
        chunk: Formulas of a large request that are predicted at a time.
        waiting: Requests for predictions that may wait or be computed, small and large ones each.
        connections: Most open connections.
        client_connections: Most open connections of one client address; proxies are exempt.
        half_closed_seconds: Longest time to answer a client that has closed its sending side.
    """

    body_bytes: int = 4 * 2**20
    body_seconds: float = 15.0
    header_seconds: float = 10.0
    formulas: int = 10_000
    predictions: int = 100_000
    neighbours: int = 100_000
    seconds: float = 30.0
    small: int = 128
    chunk: int = 512
    waiting: int = 64
    connections: int = 1024
    client_connections: int = 128
    half_closed_seconds: float = 5.0


@dataclass(frozen=True)
class ServiceSettings:
    """Settings of one service.

    Attributes:
        alias: Alias whose versions are served.
        study: Serve only this study's models.
        properties: Serve only these targets or models; all of them if empty.
        poll_seconds: Time between two polls of the registry.
        memory_bytes: Limit of all loaded models together; the least recently used one is unloaded.
        threads: Threads that compute predictions, for small and for large requests each.
        keys: API keys; without any the service is open for reading.
        hosts: Host names that requests may name, such as ``example.org`` or ``*.example.org``; ``*`` for any.
        any_address: Whether requests may also name any IP address, for a service on all addresses of a machine.
        cors: Origins whose pages may call the service; none by default.
        proxies: Addresses or networks of proxies whose ``X-Forwarded-For`` is believed.
        limits: Limits of requests and connections.
    """

    alias: str = "champion"
    study: str | None = None
    properties: tuple[str, ...] = ()
    poll_seconds: float = 2.0
    memory_bytes: int = field(default_factory=half_of_memory)
    threads: int = field(default_factory=usable_cores)
    keys: KeyRing = field(default_factory=KeyRing)
    hosts: tuple[str, ...] = LOOPBACK
    any_address: bool = False
    cors: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
