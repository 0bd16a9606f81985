"""The evidence that a saved model carries: its own predictions of rows that it had not learnt from."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from crossprop.data.compositions import composition_keys, fraction_matrix
from crossprop.errors import ModelFormatError, StoreError
from crossprop.models.saved import FORMAT, INFO_FILE, read_info
from crossprop.serving.calibration import Calibration
from crossprop.serving.intervals import conformal_half_width
from crossprop.serving.space import CompositionSpace

COLUMNS: Final = ("formula", "composition", "split", "y_true", "y_pred", "y_pred_single")
EVIDENCE_FILE: Final = "evidence.parquet"
CALIBRATION_FOLDER: Final = "calibration"
_POINTS_FILE: Final = "points.npy"


def evidence_of(predictions: pd.DataFrame) -> pd.DataFrame:
    """The evidence in a cell's predictions.

    Args:
        predictions: Columns as in ``CellOutcome.predictions``, of one cell.

    Returns:
        Columns :data:`COLUMNS`: out-of-fold predictions of the training rows (split "train"), and of the hold-out
        (split "test") the mean over all fold models, which is what the saved ensemble predicts. ``y_pred_single`` is
        always the prediction of one fold model.
    """
    held_out = (predictions["split"] == "test").to_numpy()
    return pd.DataFrame(
        {
            "formula": predictions["formula"].to_numpy(),
            "composition": composition_keys(fraction_matrix(predictions["formula"])),
            "split": np.where(held_out, "test", "train"),
            "y_true": predictions["y_true"].to_numpy(float),
            "y_pred": predictions["y_pred_ensemble"].where(held_out, predictions["y_pred"]).to_numpy(float),
            "y_pred_single": predictions["y_pred"].to_numpy(float),
        }
    )


def write_evidence(model_folder: Path, rows: pd.DataFrame) -> None:
    """Put evidence beside a saved model and calibrate it: files that are there are replaced.

    ``model.json`` is written last; a model of an earlier format becomes one of the present.

    Args:
        model_folder: Saved ensemble or blend.
        rows: Columns :data:`COLUMNS`; at least one row of split "train".

    Raises:
        ModelFormatError: The folder holds no saved model, or the rows hold something else than numbers.
        StoreError: A file cannot be written.
    """
    rows = rows[list(COLUMNS)].reset_index(drop=True)
    if (
        not (rows["split"] == "train").any()
        or not np.isfinite(rows[["y_true", "y_pred", "y_pred_single"]].to_numpy()).all()
    ):
        raise ModelFormatError(
            f"The evidence of {model_folder} ({len(rows)} rows) lacks training rows or holds values that are no "
            "numbers. Run the target's stage again."
        )
    info = read_info(model_folder)
    calibration = Calibration.fit(rows)
    train = rows[rows["split"] == "train"]
    found = calibration.as_info()
    constant = conformal_half_width((train["y_true"] - train["y_pred"]).to_numpy())
    info |= {
        "format": FORMAT,
        "interval": {"half_width": constant, **found["interval"]},
        "domain": found["domain"],
    }
    draft = model_folder / f"calibration.{os.getpid()}.tmp"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        calibration.around.space.save(draft)
        np.save(draft / _POINTS_FILE, calibration.around.points, allow_pickle=False)
        rows.to_parquet(draft / EVIDENCE_FILE, index=False)
        (draft / INFO_FILE).write_text(json.dumps(info, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (draft / EVIDENCE_FILE).replace(model_folder / EVIDENCE_FILE)
        new_info = (draft / INFO_FILE).rename(model_folder / f"{draft.name}.json")
        shutil.rmtree(model_folder / CALIBRATION_FOLDER, ignore_errors=True)
        draft.rename(model_folder / CALIBRATION_FOLDER)
        new_info.replace(model_folder / INFO_FILE)
    except OSError as error:
        raise StoreError(
            f"{model_folder} cannot be written: {error}. Free some space and run again."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def read_evidence(model_folder: Path) -> tuple[pd.DataFrame, Calibration] | None:
    """The evidence beside a saved model and its calibration; ``None`` for models that were saved without.

    Raises:
        ModelFormatError: Something of it is missing, damaged or does not fit together.
    """
    info = read_info(model_folder)
    if "method" not in info.get("interval", {}):
        return None
    folder = model_folder / CALIBRATION_FOLDER
    try:
        rows = pd.read_parquet(model_folder / EVIDENCE_FILE, columns=list(COLUMNS))
        points = np.load(folder / _POINTS_FILE, allow_pickle=False)
        return rows, Calibration.restore(info, rows, CompositionSpace.load(folder), points)
    except (OSError, ValueError, KeyError) as error:
        raise ModelFormatError(
            f"The evidence of {model_folder} cannot be read: {error}. Register or pull the model again."
        ) from error


def complete_results(results: Path) -> Path | None:
    """Add evidence to the model of a finished target, from the predictions beside it; nothing is fitted again.

    Args:
        results: Results folder of one target.

    Returns:
        The model's folder; ``None`` where nobody won and there is no model.

    Raises:
        StoreError: The folder holds no finished results.
        ModelFormatError: Its model cannot be read.
    """
    try:
        winner = json.loads((results / "winners.json").read_text(encoding="utf-8"))["winner"]
        predictions = pd.read_parquet(results / "predictions.parquet")
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"{results} holds no finished results: {error}. Run the target's stage first."
        ) from error
    if winner is None:
        return None
    write_evidence(results / "model", evidence_of(predictions[predictions["cell"] == winner]))
    return results / "model"
