"""Pieces of work for the pool's tests; importable by the spawned workers."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from crossprop.errors import CellError, StoreError


def do(task: dict[str, Any]) -> Any:
    """Do what the task's key says, after noting the attempt in its folder."""
    note = Path(task["folder"]) / f"{task['name']}.{os.getpid()}.{time.monotonic_ns()}"
    note.touch()
    return globals()[f"_{task['what']}"](task)


def attempts(folder: Path, name: str) -> int:
    """How often a task was begun."""
    return len(list(folder.glob(f"{name}.*")))


def _answer(task: dict[str, Any]) -> Any:
    time.sleep(task.get("seconds", 0))
    return task["value"]


def _describe(task: dict[str, Any]) -> tuple[int, str, str]:
    return os.getpid(), os.environ["KERAS_BACKEND"], os.environ["OMP_NUM_THREADS"]


def _fail(task: dict[str, Any]) -> Any:
    raise CellError("no luck\n  today")


def _fail_once(task: dict[str, Any]) -> Any:
    if attempts(Path(task["folder"]), task["name"]) == 1:
        raise ValueError("not yet")
    return "second try"


def _full_disk(task: dict[str, Any]) -> Any:
    raise StoreError("the disk is full")


def _die(task: dict[str, Any]) -> Any:
    time.sleep(0.3)  # the others have begun
    os.kill(os.getpid(), signal.SIGKILL)


def _die_once(task: dict[str, Any]) -> Any:
    if attempts(Path(task["folder"]), task["name"]) == 1:
        _die(task)
    return "alive"


def main() -> None:
    """A scheduler whose workers sleep; killed by a test."""
    from crossprop.experiments.pool import WorkerPool

    folder = sys.argv[1]
    with WorkerPool(do, workers=2, backend="jax") as pool:
        for i in range(2):
            pool.submit(
                i, {"folder": folder, "name": f"task{i}", "what": "answer", "value": i, "seconds": 300}
            )
        list(pool.results())


if __name__ == "__main__":
    main()
