"""Tasks for the tests of executors; importable by the spawned workers."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from crossprop.errors import CellError


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
    return "done"


def _describe(task: dict[str, Any]) -> tuple[int, str, str]:
    return os.getpid(), os.environ["KERAS_BACKEND"], os.environ["OMP_NUM_THREADS"]


def _fail(task: dict[str, Any]) -> Any:
    raise CellError("no luck\n  today")


def _fail_once(task: dict[str, Any]) -> Any:
    if attempts(Path(task["folder"]), task["name"]) == 1:
        raise ValueError("not yet")
    return "second try"


def _disk_without_room(task: dict[str, Any]) -> Any:
    raise OSError(28, "No space left on device", "fold_00.model/network.keras")


def _die(task: dict[str, Any]) -> Any:
    while not attempts(Path(task["folder"]), task.get("beside", task["name"])):
        time.sleep(0.01)
    os.kill(os.getpid(), task.get("signal", signal.SIGKILL))


def _die_once(task: dict[str, Any]) -> Any:
    if attempts(Path(task["folder"]), task["name"]) == 1:
        _die(task)
    return "alive"


def _exit(task: dict[str, Any]) -> Any:
    os._exit(3)


def _need_too_much(task: dict[str, Any]) -> Any:
    import numpy as np

    return np.empty(2**55)


def _need_room(task: dict[str, Any]) -> Any:
    """Out of memory while any other task is in work."""
    working = Path(task["folder"]) / "working"
    if working.exists():
        raise MemoryError("too many at a time")
    return "enough room"


def _work(task: dict[str, Any]) -> Any:
    working = Path(task["folder"]) / "working"
    working.touch()
    time.sleep(1.0)
    working.unlink()
    return "worked"


class _UnpicklableError(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def _fail_oddly(task: dict[str, Any]) -> Any:
    raise _UnpicklableError(1, 2)


def main() -> None:
    """A scheduler whose workers sleep; killed by a test."""
    from crossprop.experiments.executor import WorkerPool

    folder = sys.argv[1]
    with WorkerPool(do, workers=2, backend="jax") as pool:
        for i in range(2):
            pool.submit({"folder": folder, "name": f"task{i}", "what": "answer", "seconds": 300})
        list(pool.results())


if __name__ == "__main__":
    main()
