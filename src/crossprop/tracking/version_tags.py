"""What a registered version says about itself: tags to find and to judge it by, and a note for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from crossprop.errors import TrackingError
from crossprop.experiments.results import CellResult
from crossprop.tracking.cells import fingerprint
from crossprop.tracking.context import RunContext
from crossprop.tracking.evidence import evidence_of
from crossprop.tracking.writer import FINGERPRINT_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def identity_tags(result: CellResult, context: RunContext) -> Mapping[str, str]:
    """What makes a version the same as another: cell, data and outcome."""
    data_hash = context.data_hashes.get(result.target, "")
    return {
        "crossprop.cell": result.cell,
        "crossprop.data_hash": data_hash,
        FINGERPRINT_TAG: fingerprint(result, data_hash),
    }


def version_tags(result: CellResult, context: RunContext, predictions: pd.DataFrame) -> dict[str, str]:
    """All tags of a version; what is not known is left out."""
    tags = {
        **identity_tags(result, context),
        "crossprop.method": str(result.method),
        "crossprop.source": result.source,
        "crossprop.representation": result.representation and str(result.representation),
        "crossprop.layer": result.layer,
        "crossprop.protocol": result.protocol,
        "crossprop.unit": result.unit,
        "crossprop.git_commit": context.git.commit,
        "crossprop.git_dirty": str(context.git.dirty).lower() if context.git.commit else None,
        "crossprop.n_train": result.n_train,
        "crossprop.n_test": result.n_test,
        "crossprop.base_mae": _number(_base_mae(predictions)),
        **{f"crossprop.{k}": _number(getattr(result, k)) for k in _ERRORS},
    }
    return {key: str(value) for key, value in tags.items() if value is not None}


_OF_THE_CODE = ("crossprop.git_commit", "crossprop.git_dirty")
"""Said of the code that made the version, not of the code that looks at it later."""


def _base_mae(predictions: pd.DataFrame) -> float | None:
    """Hold-out error of the mean of the training values: what every model has to beat."""
    try:
        return evidence_of(predictions, "predictions").base_mae()
    except TrackingError:
        return None


_ERRORS = ("cv_mae_mean", "test_mae", "test_mae_low", "test_mae_high", "test_mae_ensemble")


def version_note(result: CellResult) -> str:
    """What the version is and how good, in a few sentences."""
    unit = f" {result.unit}" if result.unit else ""
    lines = [f"{result.method.notation}: {result.label}, mean of {len(result.cv_mae or ())} fold models."]
    if result.cv_mae_mean is not None:
        lines.append(f"Cross-validation MAE {result.cv_mae_mean:.4g} ± {result.cv_mae_std:.2g}{unit}.")
    if result.test_mae is not None:
        bounds = [f"{v:.4g}" for v in (result.test_mae_low, result.test_mae_high) if v is not None]
        interval = f" [{', '.join(bounds)}]" if bounds else ""
        lines.append(f"Hold-out MAE of the best fold model {result.test_mae:.4g}{interval}{unit}.")
    if result.test_mae_ensemble is not None:
        lines.append(f"Hold-out MAE of this ensemble {result.test_mae_ensemble:.4g}{unit}.")
    return "\n\n".join(lines)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"


def add_missing_tags(client: MlflowClient, version: ModelVersion, tags: Mapping[str, str]) -> None:
    """Give a version that was registered by an older crossprop what it lacks."""
    for key, value in tags.items():
        if key not in version.tags and key not in _OF_THE_CODE:
            client.set_model_version_tag(version.name, str(version.version), key, value)
