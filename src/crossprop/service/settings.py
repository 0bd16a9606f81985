"""What a service is told when it starts: what it serves, and the bounds that it keeps."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from crossprop.models.ensemble import available_threads
from crossprop.service.auth import KeyRing


def half_of_memory() -> int:
    """Half of the memory that this machine, or the container that this process is in, has."""
    import psutil

    total = int(psutil.virtual_memory().total)
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            total = min(total, int(Path(name).read_text()))
    return total // 2


@dataclass(frozen=True)
class Limits:
    """Bounds of one request and of all that wait.

    Attributes:
        body_bytes: Largest request body.
        body_seconds: Longest that a client may take to send its body.
        formulas: Most formulas of one request.
        predictions: Most formulas times properties of one request.
        neighbours: Most neighbours of one request: formulas times properties times ``nearest``.
        seconds: Longest that a request may take from its body to its answer, waiting included.
        quick_items: Requests of up to this many formulas times properties take the quick lane.
        chunk: Formulas of a large request that are predicted at a time.
        waiting: Requests that may wait or be worked on in each lane; more are told to come back.
        connections: Open connections; more are told to come back.
    """

    body_bytes: int = 4 * 2**20
    body_seconds: float = 15.0
    formulas: int = 10_000
    predictions: int = 100_000
    neighbours: int = 100_000
    seconds: float = 30.0
    quick_items: int = 128
    chunk: int = 512
    waiting: int = 64
    connections: int = 512


@dataclass(frozen=True)
class ServiceSettings:
    """Settings of one service.

    Attributes:
        alias: Alias whose versions are served.
        study: Serve only this study's models.
        properties: Serve only these targets or models; all of them if empty.
        poll_seconds: How often the registry is asked whether an alias has moved.
        memory_bytes: Bound of what the loaded models take together; the least recently used one gives way.
        threads: Threads that compute predictions, in each lane.
        loaders: Models that are loaded at a time.
        preload: Load models in the background at start rather than when they are first asked for.
        keys: API keys; without any the service is open, and nothing can be changed through it.
        open_metrics: Whether ``/metrics`` needs no key.
        cors: Origins whose pages may call the service; none by default.
        proxies: Addresses or networks of proxies whose ``X-Forwarded-For`` is believed.
        limits: Bounds of requests.
    """

    alias: str = "champion"
    study: str | None = None
    properties: tuple[str, ...] = ()
    poll_seconds: float = 2.0
    memory_bytes: int = field(default_factory=half_of_memory)
    threads: int = field(default_factory=available_threads)
    loaders: int = 2
    preload: bool = True
    keys: KeyRing = field(default_factory=KeyRing)
    open_metrics: bool = True
    cors: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
