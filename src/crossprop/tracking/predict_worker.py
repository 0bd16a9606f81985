"""A script for a fresh process: loads a saved model, predicts, and writes the answer as JSON."""

import json
import os
import sys
import time
from typing import Any


def predict(job: dict[str, Any]) -> dict[str, Any]:
    """Predict the formulas of a job: with the ensemble in a folder, or with an MLflow model and the code in it."""
    began = time.monotonic()
    if job["code"]:
        sys.path.insert(0, job["code"])
        from crossprop.inference.predictor import ServedModel, predict_formulas

        model = ServedModel.load(job["model"])
        seconds = time.monotonic() - began
        table = predict_formulas(model, job["formulas"])
    else:
        import mlflow.pyfunc
        import pandas as pd

        mlflow_model = mlflow.pyfunc.load_model(job["model"])
        seconds = time.monotonic() - began
        table = mlflow_model.predict(pd.DataFrame({"formula": job["formulas"]}))
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
