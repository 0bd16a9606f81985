"""What runs in the clean process: loads models as the service does and answers with their predictions.

Reads jobs from the standard input and writes answers to the standard output, one JSON text a line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer until the input ends; what libraries print goes to the error output."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            job = json.loads(line)
            answer = _as_mlflow(job) if "mlflow_model" in job else _answer(job)
        except BaseException as error:  # whatever it is, the other side has to hear of it
            answer = {"error": f"{type(error).__name__}: {error}"[:2000]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    from crossprop.data.compositions import fraction_matrix
    from crossprop.inference.predictor import ServedModel

    began = time.monotonic()
    model = ServedModel.load(job["folder"])
    loaded = time.monotonic()
    predicted = model.predict(fraction_matrix(job["formulas"], where="the hold-out"))
    lower, upper = predicted.lower, predicted.upper
    return {
        "value": predicted.value.tolist(),
        "lower": None if lower is None else lower.tolist(),
        "upper": None if upper is None else upper.tolist(),
        "stated": model.info["interval"]["coverage"],
        "load_seconds": loaded - began,
        "predict_seconds": time.monotonic() - loaded,
    }


def _as_mlflow(job: dict[str, Any]) -> dict[str, Any]:
    """Load as ``mlflow models serve`` does: the code beside the model comes first, and that of others is forgotten."""
    import mlflow.pyfunc
    import pandas as pd

    for name in [name for name in sys.modules if name.split(".")[0] == "crossprop"]:
        del sys.modules[name]
    search_path = list(sys.path)
    try:
        model = mlflow.pyfunc.load_model(job["mlflow_model"])
        table = model.predict(pd.DataFrame({"formula": job["formulas"]}))
        code = str(Path(str(sys.modules["crossprop"].__file__)).resolve())
    finally:
        sys.path[:] = search_path
    return {"value": [float(value) for value in table["value"]], "code": code}
