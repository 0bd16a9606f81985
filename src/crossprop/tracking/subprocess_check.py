"""Predictions of a saved model in a fresh process, which shows that it loads elsewhere and gives what was logged."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import crossprop
from crossprop.errors import PromotionError

TIMEOUT_SECONDS = 300.0
WORKER = Path(__file__).with_name("predict_worker.py")
# What of the environment the process sees: nothing that changes what Python imports.
_ENVIRONMENT = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES",
    "KERAS_BACKEND", "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "XDG_CACHE_HOME",
)  # fmt: skip


@dataclass(frozen=True)
class Repeated:
    """What a model gave in a fresh process for n formulas, each of shape (n,); loaded in so many seconds."""

    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    load_seconds: float


def predict_in_subprocess(
    model: Path, formulas: Sequence[str], timeout: float = TIMEOUT_SECONDS, *, own_code: bool = False
) -> Repeated:
    """Predict with a saved ensemble in a fresh process; PromotionError if it does not load, ends or takes too long.

    With ``own_code`` it is an MLflow model, and the code in it runs, as ``mlflow models serve`` does. Without, nothing
    of the model but its numbers is used, as in the service.
    """
    model = model.resolve()
    code = "" if own_code else str(Path(crossprop.__file__).parents[1])
    job = json.dumps({"model": str(model), "formulas": list(formulas), "code": code})
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.setdefault("OMP_NUM_THREADS", "2")
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    text: dict[str, Any] = {"text": True, "encoding": "utf-8", "errors": "replace"}
    command = [sys.executable, "-I", "-B", str(WORKER)]  # -B: no file is written beside the code in a model
    where: dict[str, Any] = {"env": environment, "cwd": tempfile.gettempdir(), "start_new_session": True}
    with subprocess.Popen(command, **pipes, **text, **where) as process:
        try:
            output, messages = process.communicate(job, timeout)
        except subprocess.TimeoutExpired:
            raise PromotionError(f"the model gave no answer within {timeout:.0f} s and was ended") from None
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # with all that it started
    if not output:
        last = next((f": {line.strip()}" for line in reversed(messages.splitlines()) if line.strip()), "")
        raise PromotionError(f"its process ended with status {process.returncode}{last[:300]}")
    answer = json.loads(output)
    if "error" in answer:
        raise PromotionError(answer["error"])
    if own_code and not Path(answer["code"]).is_relative_to(model):
        raise PromotionError(f"it runs the code in {answer['code']}, not the copy in the model")
    value, lower, upper = (np.asarray(answer[k], dtype=float) for k in ("value", "lower", "upper"))
    return Repeated(value, lower, upper, float(answer["load_seconds"]))
