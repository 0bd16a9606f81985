"""What a service is told when it starts: what it serves, and its limits."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from crossprop.io import usable_cores
from crossprop.service.auth import ApiKey

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""Host names that a service answers for without being told."""


def half_of_memory() -> int:
    """Half of the memory of this machine, or of the container that this process runs in."""
    total = int(psutil.virtual_memory().total)
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            total = min(total, int(Path(name).read_text()))
    return total // 2


@dataclass(frozen=True)
class Limits:
    """Limits of one request, of all that wait, and of connections."""

    body_bytes: int = 4 * 2**20  # largest request body
    body_seconds: float = 15.0  # longest time for a client to send its body
    formulas: int = 10_000  # most formulas of one request
    predictions: int = 100_000  # most formulas times properties of one request
    neighbours: int = 100_000  # most formulas times properties times ``nearest`` of one request
    seconds: float = 30.0  # longest time from the body of a request to its answer, waiting included
    small: int = 128  # requests of up to so many formulas times properties do not wait for larger ones
    chunk: int = 512  # formulas of a large request that are predicted at a time
    waiting: int = 64  # requests for predictions that may wait or be computed, small and large ones each
    connections: int = 1024  # open connections, above which uvicorn answers 503


@dataclass(frozen=True)
class ServiceSettings:
    """Settings of one service."""

    alias: str = "champion"  # whose versions are served
    study: str | None = None  # serve only this study's models
    properties: tuple[str, ...] = ()  # serve only these targets or models; all of them if empty
    poll_seconds: float = 2.0  # time between two polls of the registry
    memory_bytes: int = field(default_factory=half_of_memory)  # for all loaded models together
    threads: int = field(default_factory=usable_cores)  # for small and for large requests each
    keys: tuple[ApiKey, ...] = ()  # without any the service is open for reading
    hosts: tuple[str, ...] = LOOPBACK  # that requests may name, such as ``*.example.org`` or ``*``
    any_address: bool = False  # whether requests may also name any IP address
    cors: tuple[str, ...] = ()  # origins whose pages may call the service
    proxies: tuple[str, ...] = ()  # addresses or networks whose ``X-Forwarded-For`` is believed
    limits: Limits = field(default_factory=Limits)
