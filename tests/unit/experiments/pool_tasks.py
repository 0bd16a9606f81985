"""Tasks for the tests of executors; importable by the spawned workers."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from crossprop.errors import CellError


class _UnpicklableError(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def attempts(folder: Path, name: str) -> int:
    """How often a task was begun."""
    return len(list(folder.glob(f"{name}.*")))


def do(task: dict) -> object:
    """Do what the task's key says, after noting the attempt in its folder."""
    folder, name = Path(task["folder"]), task["name"]
    (folder / f"{name}.{os.getpid()}.{time.monotonic_ns()}").touch()
    again, working = attempts(folder, name) > 1, folder / "working"
    match task["what"]:
        case "answer":
            time.sleep(task.get("seconds", 0))
        case "describe":
            return os.getpid(), os.environ["KERAS_BACKEND"], os.environ["OMP_NUM_THREADS"]
        case "fail_once" if again:
            return "second try"
        case "fail_once":
            raise ValueError("not yet")
        case "fail":
            raise CellError("no luck\n  today")
        case "fail_oddly":
            raise _UnpicklableError(1, 2)
        case "die_once" if again:
            return "alive"
        case "die" | "die_once":
            os.kill(os.getpid(), task.get("signal", signal.SIGKILL))
        case "exit":
            os._exit(3)
        case "need_too_much":
            np.empty(2**55)
        case "need_room":  # while any other task is in work there is none
            if working.exists():
                raise MemoryError("too many at a time")
            return "enough room"
        case "work":
            working.touch()
            time.sleep(1.0)
            working.unlink()
        case "give_much":
            return np.zeros(4_000_000)
    return "done"


if __name__ == "__main__":  # a scheduler whose workers sleep; killed by a test
    import pool_tasks

    from crossprop.experiments.executor import WorkerPool

    with WorkerPool(pool_tasks.do, workers=2, backend="jax") as pool:
        for i in range(2):
            pool.submit({"folder": sys.argv[1], "name": f"task{i}", "what": "answer", "seconds": 300})
        list(pool.results())
