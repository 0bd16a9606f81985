"""What is said about predictions, and how often it held on the hold-out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.data.compositions import fraction_matrix
from crossprop.models.saved import read_info
from crossprop.serving.calibration import Calibration, Judgement
from crossprop.serving.domain import unseen_elements_notes
from crossprop.serving.evidence import EVIDENCE_FILE, read_evidence


@dataclass(frozen=True)
class Coverage:
    """How often the interval held the value on the hold-out; without evidence only what is stated.

    Attributes:
        stated: Share that the interval promises.
        share: Share that was measured.
        n: Rows of the hold-out that it was measured on.
        mean_width: Mean width of their intervals, in the property's unit.
        flagged: Share of the rows that lie outside of the training domain.
        mae: Mean absolute error of all rows, in the unit.
        mae_inside: The same of the rows within the domain; ``None`` if there are none.
        mae_outside: The same of the rows outside of it.
        share_outside: Measured share among the rows outside of it.
    """

    stated: float
    share: float | None = None
    n: int = 0
    mean_width: float | None = None
    flagged: float | None = None
    mae: float | None = None
    mae_inside: float | None = None
    mae_outside: float | None = None
    share_outside: float | None = None


def judge(
    info: Mapping[str, Any], calibration: Calibration | None, values: np.ndarray, fractions: np.ndarray
) -> Judgement:
    """Intervals of predictions and why the model may not know.

    Args:
        info: Content of the model's ``model.json``.
        calibration: Its calibration; without one the interval is equally wide for all, and the domain is the
            elements that were seen.
        values: Predicted values, shape (n,).
        fractions: The compositions, shape (n, 86).
    """
    unseen = unseen_elements_notes(fractions, frozenset(info["seen_elements"]))
    if calibration is None:
        half_width = float(info["interval"]["half_width"])
        return Judgement(values - half_width, values + half_width, unseen)
    said = calibration.judge(values, fractions)
    notes = ["; ".join(filter(None, both)) for both in zip(unseen, said.notes, strict=True)]
    return Judgement(said.lower, said.upper, notes)


def measured_coverage(
    info: Mapping[str, Any], evidence: pd.DataFrame | None, calibration: Calibration | None
) -> Coverage:
    """Hold the intervals against the hold-out rows of the evidence.

    Args:
        info: Content of the model's ``model.json``.
        evidence: The model's evidence, if it carries any.
        calibration: Its calibration, if it has one.
    """
    stated = float(info["interval"]["coverage"]) if calibration is None else calibration.coverage
    rows = None if evidence is None else evidence[evidence["split"] == "test"]
    if rows is None or not len(rows):
        return Coverage(stated)
    y_true, y_pred = rows["y_true"].to_numpy(), rows["y_pred"].to_numpy()
    said = judge(info, calibration, y_pred, fraction_matrix(rows["formula"]))
    outside = np.array([bool(note) for note in said.notes])
    errors = np.abs(y_true - y_pred)
    held = (said.lower <= y_true) & (y_true <= said.upper)
    return Coverage(
        stated=stated,
        share=float(held.mean()),
        n=len(rows),
        mean_width=float((said.upper - said.lower).mean()),
        flagged=float(outside.mean()),
        mae=float(errors.mean()),
        mae_inside=float(errors[~outside].mean()) if (~outside).any() else None,
        mae_outside=float(errors[outside].mean()) if outside.any() else None,
        share_outside=float(held[outside].mean()) if outside.any() else None,
    )


def folder_coverage(model_folder: Path) -> Coverage | None:
    """Coverage of a saved model from its folder alone; ``None`` where it carries no evidence.

    Raises:
        ModelFormatError: Its evidence is damaged.
    """
    if not (model_folder / EVIDENCE_FILE).is_file():
        return None
    read = read_evidence(model_folder)
    return None if read is None else measured_coverage(read_info(model_folder), *read)
