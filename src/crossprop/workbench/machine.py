"""How busy the machine is with other work, and how much longer a fit will take for it."""

from __future__ import annotations

import os

from crossprop.experiments.pool import usable_cores


def slowdown(workers: int = 0) -> float:
    """How many times longer so many processes need beside what the machine is doing now; 1 where it has room.

    The load average of the last minute counts the others, who share the cores evenly with the new processes. It
    decides nothing: the same file and minutes give the same plan, whatever else is going on.

    Args:
        workers: Processes; 0 for one on every core.
    """
    cores = usable_cores()
    processes = min(workers or cores, cores)
    return max(1.0, (load() + processes) / cores)


def load() -> float:
    """Processes that wanted a core in the last minute, this one not counted; 0 where the system does not tell."""
    try:
        return max(0.0, os.getloadavg()[0] - 1.0)
    except (AttributeError, OSError):
        return 0.0
