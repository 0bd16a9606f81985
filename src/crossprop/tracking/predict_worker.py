"""A script for a fresh process: loads an MLflow model, predicts, and writes the answer as JSON."""

import json
import os
import sys
import time
from typing import Any


def predict(job: dict[str, Any]) -> dict[str, Any]:
    """Load the model of a job and predict its formulas; with the model's own code, unless a folder is named."""
    if job["code"]:
        sys.path.insert(0, job["code"])
        import crossprop  # noqa: F401  # before the model's own copy is on the path
    import mlflow.pyfunc
    import pandas as pd

    began = time.monotonic()
    model = mlflow.pyfunc.load_model(job["model"])
    seconds = time.monotonic() - began
    table = model.predict(pd.DataFrame({"formula": job["formulas"]}))
    columns = {name: [float(v) for v in table[name]] for name in ("value", "lower", "upper")}
    return {**columns, "load_seconds": seconds, "code": sys.modules["crossprop"].__file__}


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to the error output
    try:
        answer = predict(json.load(sys.stdin))
    except BaseException as error:  # reported by the calling process
        answer = {"error": f"{type(error).__name__}: {error}"[:2000]}
    with answers:
        json.dump(answer, answers)
