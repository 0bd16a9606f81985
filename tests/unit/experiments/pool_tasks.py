"""Tasks for the tests of executors; importable by the spawned workers."""

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


def _first(task: dict[str, Any]) -> bool:
    return attempts(Path(task["folder"]), task["name"]) == 1


def _answer(task: dict[str, Any]) -> str:
    time.sleep(task.get("seconds", 0))
    return "done"


def _describe(task: dict[str, Any]) -> tuple[int, str, str]:
    return os.getpid(), os.environ["KERAS_BACKEND"], os.environ["OMP_NUM_THREADS"]


def _fail(task: dict[str, Any]) -> None:
    raise CellError("no luck\n  today")


def _fail_once(task: dict[str, Any]) -> str:
    if _first(task):
        raise ValueError("not yet")
    return "second try"


def _die(task: dict[str, Any]) -> None:
    os.kill(os.getpid(), task.get("signal", signal.SIGKILL))


def _die_once(task: dict[str, Any]) -> str:
    if _first(task):
        _die(task)
    return "alive"


def _exit(task: dict[str, Any]) -> None:
    os._exit(3)


def _need_too_much(task: dict[str, Any]) -> None:
    import numpy as np

    np.empty(2**55)


def _need_room(task: dict[str, Any]) -> str:
    """Out of memory while any other task is in work."""
    if (Path(task["folder"]) / "working").exists():
        raise MemoryError("too many at a time")
    return "enough room"


def _work(task: dict[str, Any]) -> None:
    working = Path(task["folder"]) / "working"
    working.touch()
    time.sleep(1.0)
    working.unlink()


def _give_much(task: dict[str, Any]) -> Any:
    import numpy as np

    return np.zeros(4_000_000)


class _UnpicklableError(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def _fail_oddly(task: dict[str, Any]) -> None:
    raise _UnpicklableError(1, 2)


if __name__ == "__main__":  # a scheduler whose workers sleep; killed by a test
    import pool_tasks

    from crossprop.experiments.executor import WorkerPool

    with WorkerPool(pool_tasks.do, workers=2, backend="jax") as pool:
        for i in range(2):
            pool.submit({"folder": sys.argv[1], "name": f"task{i}", "what": "answer", "seconds": 300})
        list(pool.results())
