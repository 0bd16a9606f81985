"""A saved ensemble as an MLflow model: self-contained, not pickled, and checked before anybody may use it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from crossprop.errors import PromotionError, TrackingError
from crossprop.experiments.results import CellResult
from crossprop.tracking.clean_process import CleanProcess
from crossprop.tracking.context import RunContext
from crossprop.tracking.requirements import folder_requirements

_EXAMPLES = 5
_CHECKED = 50
_TOLERANCE = 1e-3
"""Largest difference between a logged and a reloaded prediction, as a share of the predictions' spread."""


def save_model(
    folder: Path,
    model_id: str,
    run_id: str,
    model_folder: Path,
    predictions: pd.DataFrame,
    context: RunContext,
) -> None:
    """Write the MLflow model into a new folder: script, ensemble, crossprop's own code, signature, example.

    Args:
        folder: Where to; must not exist.
        model_id: MLflow's id of the logged model that it becomes.
        run_id: Run that it belongs to.
        model_folder: Saved ensemble.
        predictions: The cell's predictions: the input example is taken from its hold-out.
        context: Tells the git commit.
    """
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    import crossprop

    package = Path(crossprop.__file__).parent
    info = json.loads((model_folder / "model.json").read_text(encoding="utf-8"))
    outputs = [ColSpec("double", c) for c in ("value", "lower", "upper")]
    outputs += [ColSpec("boolean", "in_domain"), ColSpec("string", "note")]
    with tempfile.TemporaryDirectory(prefix="crossprop-code-") as scratch:
        code = Path(scratch) / package.name
        shutil.copytree(package, code, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(package / "serving" / "pyfunc_script.py"),
            artifacts={"predictor": str(model_folder)},
            code_paths=[str(code)],
            mlflow_model=Model(model_uuid=model_id, run_id=run_id, model_id=model_id),
            signature=ModelSignature(Schema([ColSpec("string", "formula")]), Schema(outputs)),
            input_example=_sample(predictions, _EXAMPLES)[["formula"]],
            pip_requirements=folder_requirements(model_folder, os.environ.get("KERAS_BACKEND", "tensorflow")),
            metadata={**info, "elements": len(info["elements"]), "git_commit": context.git.commit},
        )


def check_model(folder: Path, result: CellResult, predictions: pd.DataFrame, process: CleanProcess) -> None:
    """Refuse a model that does not load in a clean process or does not give the logged predictions back.

    Args:
        folder: The MLflow model.
        result: Its cell.
        predictions: The cell's predictions.
        process: Where it is loaded, with the code that lies in the folder.

    Raises:
        TrackingError: The message names the formula and both values, or says why it does not load.
    """
    sample = _sample(predictions, _CHECKED)
    try:
        got = process.predict_as_mlflow(folder, sample["formula"].tolist())
    except PromotionError as error:
        raise TrackingError(
            f"The saved model of {result.target!r} ({result.label}) was not registered: {error}. Run the stage "
            "'register' again if the machine was busy or out of memory, else the target's stage."
        ) from error
    wanted = sample["y_pred_ensemble"].to_numpy(dtype=float)
    spread = max(float(np.ptp(predictions["y_true"])), float(np.abs(wanted).max()), 1e-12)
    worst = int(np.argmax(np.abs(got - wanted)))
    formula = sample["formula"].iloc[worst]
    if not abs(got[worst] - wanted[worst]) <= _TOLERANCE * spread:
        raise TrackingError(
            f"The saved model of {result.target!r} gives {got[worst]:.6g} for {formula!r}, where "
            f"{wanted[worst]:.6g} was logged ({result.label}). It was not registered: its files and its "
            "results are not of the same training. Run the target's stage again."
        )


def _sample(predictions: pd.DataFrame, n: int) -> pd.DataFrame:
    rows = predictions[(predictions["split"] == "test") & predictions["y_pred_ensemble"].notna()]
    if not len(rows):
        raise TrackingError(
            "The winner has no hold-out predictions, so its model cannot be checked. Run its stage again."
        )
    return rows.head(n).reset_index(drop=True)
