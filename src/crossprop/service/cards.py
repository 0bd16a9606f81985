"""What is told of a model without loading it: unit, method, errors, coverage, the hold-out's points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossprop.service.sources import read_info
from crossprop.serving.evidence import read_evidence
from crossprop.serving.served import ServedModel

if TYPE_CHECKING:
    from crossprop.tracking.lookup import VersionInfo

PARITY_POINTS = 2000
"""Most points of a parity plot."""


@dataclass(frozen=True)
class _Untouched:
    """Stands in for the predictor of a model of which only the evidence is read."""

    info: Mapping[str, Any]

    def predict(self, fractions: np.ndarray) -> np.ndarray:
        raise NotImplementedError


@dataclass(frozen=True)
class Card:
    """What ``/v1/properties`` says of a version.

    Attributes:
        label: What is predicted, in a few words.
        description: The same at more length.
        unit: Unit of the values.
        method: How they are predicted.
        holdout_mae: Mean absolute error on the hold-out, in the property's unit.
        holdout_rows: Rows of the hold-out.
        training_rows: Rows that were learnt from.
        stated: Coverage that the intervals promise.
        measured: Coverage that they had on the hold-out.
    """

    label: str
    description: str
    unit: str
    method: str
    holdout_mae: float | None = None
    holdout_rows: int = 0
    training_rows: int = 0
    stated: float | None = None
    measured: float | None = None

    @cached_property
    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "label": self.label,
            "description": self.description,
            "unit": self.unit,
            "method": self.method,
            "holdout_mae": _finite(self.holdout_mae),
            "holdout_rows": self.holdout_rows,
            "training_rows": self.training_rows,
            "coverage": {"stated": _finite(self.stated), "measured": _finite(self.measured)},
        }


def card_of_tags(info: VersionInfo) -> Card:
    """What the registry alone knows: for the time until the model's files have been read."""
    return Card(
        label=info.description or info.target,
        description=info.description or info.target,
        unit=info.unit,
        method=info.method,
        holdout_mae=_finite(info.holdout_mae),
    )


def card_of_folder(info: VersionInfo, folder: Path) -> Card:
    """What ``model.json`` and the evidence say; takes milliseconds.

    Raises:
        ModelFormatError: The folder's ``model.json`` cannot be read.
    """
    known, content = card_of_tags(info), read_info(folder)
    evidence, calibration = read_evidence(folder) or (None, None)
    described = ServedModel(_Untouched(content), folder, evidence, calibration)
    coverage = described.coverage()
    return Card(
        label=known.label,
        description=known.description,
        unit=str(content.get("unit") or known.unit or ""),
        method=str(content.get("method") or known.method),
        holdout_mae=known.holdout_mae if described.holdout_mae is None else described.holdout_mae,
        holdout_rows=0 if evidence is None else int((evidence["split"] == "test").sum()),
        training_rows=described.n_training,
        stated=coverage.stated,
        measured=coverage.share,
    )


def parity(folder: Path) -> dict[str, Any]:
    """The hold-out's formulas with true and predicted values, at most ``PARITY_POINTS``, drawn evenly by value."""
    found = read_evidence(folder)
    if found is None:
        return {"mae": None, "formulas": [], "y_true": [], "y_pred": []}
    evidence = found[0]
    rows = evidence[evidence["split"] == "test"].sort_values("y_true", kind="stable")
    mae = float((rows["y_true"] - rows["y_pred"]).abs().mean()) if len(rows) else None
    if len(rows) > PARITY_POINTS:
        rows = rows.iloc[np.linspace(0, len(rows) - 1, PARITY_POINTS).round().astype(int)]
    return {
        "mae": _finite(mae),
        "formulas": rows["formula"].astype(str).tolist(),
        "y_true": rows["y_true"].tolist(),
        "y_pred": rows["y_pred"].tolist(),
    }


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
