"""What happens inside a worker process: it is prepared once, and then does one task after the other."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

from crossprop.errors import StoreError
from crossprop.training.device import configure

ORPHAN_CHECK_SECONDS = 1.0
_FIRST_TO_KILL = "500"
"""Linux's ``oom_score_adj`` of workers: when memory runs out one of them goes, not the scheduler or the desktop."""
_FULL = (errno.ENOSPC, errno.EDQUOT)

_begun: Any = ()
_unfit: Raised | None = None


@dataclass(frozen=True)
class Raised:
    """What a task raised, as plain data: some errors cannot be unpickled, or only where their package is.

    Attributes:
        name: Class of the error.
        text: Its message.
        out_of_memory: Whether memory was what was missing.
        store: Whether nothing more can be stored, which concerns everybody: a :class:`StoreError`, or a full disk.
    """

    name: str
    text: str
    out_of_memory: bool = False
    store: bool = False


def start_worker(backend: str, parent: int, begun: Any) -> None:
    """Prepare a worker, which ends itself once its scheduler is gone (a killed one cannot tell it).

    Args:
        backend: Keras backend, imported here and never again.
        parent: Process id of the scheduler.
        begun: Shared array of integers; a worker writes its process id where it begins a slot's task.
    """

    def watch() -> None:
        while os.getppid() == parent:
            sleep(ORPHAN_CHECK_SECONDS)
        os._exit(1)

    global _begun, _unfit
    _begun = begun
    Thread(target=watch, daemon=True).start()
    # Ctrl-C reaches the whole group; the scheduler ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_KILL, encoding="ascii")
    # A linear model that does not converge is a poor trial, not news.
    warnings.simplefilter("ignore")
    try:
        configure(backend, 1)
    except Exception as error:  # e.g. a backend that is not installed: every task will say so
        _unfit = _as_data(error)


def do_task(run: Callable[[Any], Any], task: Any, slot: int) -> Any:
    """Do one task; what it raises is returned."""
    _begun[slot] = os.getpid()
    if _unfit is not None:
        return _unfit
    try:
        return run(task)
    except Exception as error:
        return _as_data(error)


def _as_data(error: Exception) -> Raised:
    name, text = type(error).__name__, str(error)
    if isinstance(error, MemoryError) or name == "ResourceExhaustedError":  # TensorFlow's own
        return Raised(name.lstrip("_"), text or "nothing could be allocated", out_of_memory=True)
    if isinstance(error, OSError) and (
        error.errno in _FULL or "No space left" in text
    ):  # HDF5 sets no number
        text = f"{text}. Free some space, then run again: what is finished is kept."
        return Raised(name, text, store=True)
    return Raised(name, text or "no reason given", store=isinstance(error, StoreError))
