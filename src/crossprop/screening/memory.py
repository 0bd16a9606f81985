"""How much memory a screening takes, and how many threads fit in what it may take."""

from __future__ import annotations

import os
import resource
import sys

import psutil

from crossprop.errors import ScreeningError

_GIB = 1 << 30
_FREE_SHARE = 0.5
"""Share of the free memory that is taken where nobody says how much."""


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(psutil.Process().memory_info().rss)


def peak() -> int:
    """Most bytes that this process ever had in memory."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def allowed(gib: float | None) -> int:
    """Bytes that the screening may have in all: what was asked for, or what it has and half of what is free."""
    if gib is not None:
        return int(gib * _GIB)
    return resident() + int(psutil.virtual_memory().available * _FREE_SHARE)


def fitting(workers: int, rows: int, per_batch: int, limit: int) -> tuple[int, int]:
    """Threads, and rows of a batch, that fit.

    Args:
        workers: Threads wanted.
        rows: Rows of a batch wanted.
        per_batch: Bytes that a batch of so many rows takes while it is predicted.
        limit: Bytes that the process may have.

    Raises:
        ScreeningError: The models alone take more than that.
    """
    room = limit - resident()
    if room <= 0:
        raise ScreeningError(
            f"The models take {resident() / _GIB:.1f} GiB, more than the {limit / _GIB:.1f} GiB that are allowed. "
            "Raise --memory or screen fewer properties at a time."
        )
    while rows > 64 and workers * per_batch > room:
        rows, per_batch = rows // 2, per_batch // 2
    while workers > 1 and workers * per_batch > room:
        workers -= 1
    return workers, rows
