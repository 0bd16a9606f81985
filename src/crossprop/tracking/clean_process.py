"""A process with nothing but crossprop in it, in which a model has to load and to repeat what was logged."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

import numpy as np

import crossprop
from crossprop.errors import PromotionError

PATIENCE_SECONDS = 300.0
_MODELS_A_PROCESS = 8
"""After so many a fresh process is started: networks leave memory behind."""
_KEPT = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES",
    "KERAS_BACKEND", "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "XDG_CACHE_HOME",
)  # fmt: skip
"""What of the environment the clean process sees: nothing that changes what Python imports."""


@dataclass(frozen=True)
class Repeated:
    """What a model gave in the clean process for n formulas.

    Attributes:
        value: Predictions, shape (n,).
        lower: Lower ends of the intervals, shape (n,).
        upper: Upper ends, shape (n,).
        stated: Coverage that the intervals promise.
        load_seconds: Time to load the model, without starting Python.
    """

    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    stated: float
    load_seconds: float


class CleanProcess:
    """Loads models one after the other in a process of its own, which is ended if it hangs; one thread uses it."""

    def __init__(self, patience: float = PATIENCE_SECONDS) -> None:
        self._patience = patience
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()
        self._said: IO[str] | None = None
        self._models = 0

    def repeat(self, folder: Path, formulas: Sequence[str]) -> Repeated:
        """Load a saved ensemble as the service does, and predict.

        Raises:
            PromotionError: It cannot be loaded, ends the process, or takes longer than the patience; the message
                says which.
        """
        answer = self._ask({"folder": str(folder), "formulas": list(formulas)})
        value = np.asarray(answer["value"], dtype=float)
        lower, upper = (np.asarray(answer[k], dtype=float) for k in ("lower", "upper"))
        return Repeated(value, lower, upper, float(answer["stated"]), float(answer["load_seconds"]))

    def predict_as_mlflow(self, model: Path, formulas: Sequence[str]) -> np.ndarray:
        """Load an MLflow model's folder with the code that lies in it, not with this crossprop's, and predict.

        Args:
            model: Folder with ``MLmodel``.
            formulas: Formulas, n of them.

        Returns:
            Values, shape (n,).

        Raises:
            PromotionError: As ``repeat``.
        """
        answer = self._ask({"mlflow_model": str(model), "formulas": list(formulas)})
        if not Path(answer["code"]).is_relative_to(model.resolve()):
            raise PromotionError(f"it runs the code in {answer['code']}, not its own")
        return np.asarray(answer["value"], dtype=float)

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        if self._models >= _MODELS_A_PROCESS:
            self.close()
        process = self._started()
        self._models += 1
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: the answer says so
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
        try:
            line = self._answers.get(timeout=self._patience)
        except queue.Empty:
            self.close()
            raise PromotionError(
                f"the model gave no answer within {self._patience:.0f} s and was ended"
            ) from None
        if not line:
            status, said = process.wait(), self._last_words()
            self.close()
            raise PromotionError(f"its process ended with status {status}{': ' if said else ''}{said}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PromotionError(str(answer["error"]))
        return answer

    def close(self) -> None:
        """End the process with all that it started; the next model gets a new one."""
        process, self._process, self._models = self._process, None, 0
        self._answers = queue.Queue()
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        if self._said is not None:
            self._said.close()
            self._said = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None:
            return self._process
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment.setdefault("OMP_NUM_THREADS", "2")
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", _code()],  # -B: nothing is written beside the code of a model
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment,
            cwd=tempfile.gettempdir(),
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        assert process.stdout is not None
        threading.Thread(target=_forward, args=(process.stdout, self._answers), daemon=True).start()
        self._process = process
        return process

    def _last_words(self) -> str:
        if self._said is None:
            return ""
        self._said.seek(0)
        lines = [line.strip() for line in self._said if line.strip()]
        return lines[-1][:300] if lines else ""


def _code() -> str:
    """What the process runs: this very crossprop, found by its path since the environment is not read."""
    source = str(Path(crossprop.__file__).parents[1])
    return f"import sys; sys.path.insert(0, {source!r}); from crossprop.tracking.clean_worker import main; main()"


def _forward(stream: IO[str], answers: queue.Queue[str]) -> None:
    """Pass lines on; an empty one says that there are no more."""
    with contextlib.suppress(ValueError, OSError):
        for line in stream:
            answers.put(line)
    answers.put("")


T = TypeVar("T")
_MOST = 4
_BYTES_A_PROCESS = 3 * 2**30
"""Memory that a process with a large blend of networks and forests takes, roughly."""


class CleanPool:
    """Runs jobs that need a clean process in threads; all processes are ended at the end, whatever happens."""

    def __init__(self, n: int, patience: float = PATIENCE_SECONDS) -> None:
        self._n, self._patience = n, patience
        self._idle: queue.Queue[CleanProcess] = queue.Queue()
        self._stack = ExitStack()
        self._threads = ThreadPoolExecutor(n, thread_name_prefix="clean")

    def submit(self, job: Callable[[CleanProcess], T]) -> Future[T]:
        """Run a job as soon as a process is idle."""
        return self._threads.submit(self._run, job)

    def __enter__(self) -> Self:
        for _ in range(self._n):
            self._idle.put(self._stack.enter_context(CleanProcess(self._patience)))
        self._stack.callback(self._threads.shutdown, wait=False, cancel_futures=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _run(self, job: Callable[[CleanProcess], T]) -> T:
        process = self._idle.get()
        try:
            return job(process)
        finally:
            self._idle.put(process)


def how_many() -> int:
    """Processes that this machine has cores and memory for, at least one and at most four."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    room = int(psutil.virtual_memory().available // _BYTES_A_PROCESS)
    return max(1, min(_MOST, cores, room))
