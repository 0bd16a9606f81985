"""What is known about a registered version's errors: its predictions of the rows that it was judged on."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crossprop.data.compositions import composition_keys, fraction_matrix
from crossprop.errors import CrosspropError, TrackingError
from crossprop.tracking.faults import named_faults

if TYPE_CHECKING:
    from crossprop.tracking.versions import VersionInfo

EVIDENCE_FILE = "evidence.parquet"
PREDICTIONS_FILE = "predictions.parquet"


@dataclass(frozen=True)
class Evidence:
    """Rows that a version learnt from and rows that were held out.

    Attributes:
        training: Values of the training rows, in the property's unit, shape (n_train,).
        holdout: Columns formula, composition, y_true, y_pred (the ensemble's); one row per row held out.
        origin: Where it was found, for people.
    """

    training: np.ndarray
    holdout: pd.DataFrame
    origin: str

    @property
    def errors(self) -> np.ndarray:
        """Absolute errors on the hold-out, shape (n_test,)."""
        return (self.holdout["y_true"] - self.holdout["y_pred"]).abs().to_numpy(dtype=float)

    @property
    def mae(self) -> float:
        """Mean absolute error of the ensemble on the hold-out."""
        return float(self.errors.mean())

    def base_mae(self) -> float:
        """Error of ``base`` on the same hold-out: the mean of the training values for every row."""
        return float(np.abs(self.holdout["y_true"] - self.training.mean()).mean())

    def median_mae(self) -> float:
        """Error of the median of the training values on the same hold-out."""
        return float(np.abs(self.holdout["y_true"] - np.median(self.training)).mean())


def load_evidence(uri: str, info: VersionInfo, folder: Path | None) -> Evidence:
    """Evidence beside the saved ensemble, or else the predictions logged on the version's run.

    Args:
        uri: Store.
        info: The version.
        folder: Its saved ensemble; ``None`` if that is gone.

    Raises:
        TrackingError: There is none of both, or it cannot be read.
    """
    beside = None if folder is None else folder / EVIDENCE_FILE
    if beside is not None and beside.is_file():
        return evidence_of(_read(beside), "evidence.parquet of the model")
    if not info.run_id:
        raise TrackingError(f"{info.name} version {info.version} has no {EVIDENCE_FILE} and names no run.")
    return evidence_of(_predictions_of_run(uri, info), f"predictions of run {info.run_id[:8]}")


def evidence_of(rows: pd.DataFrame, origin: str) -> Evidence:
    """Evidence from a table: ``evidence.parquet``'s columns, or those of a run's predictions.

    Raises:
        TrackingError: Columns are missing, or there are no training or no hold-out rows.
    """
    needed = {"split", "formula", "y_true", "y_pred"}
    if missing := sorted(needed - set(rows.columns)):
        raise TrackingError(f"The {origin} lack the columns {', '.join(missing)}. Register the winner again.")
    of_run = "y_pred_ensemble" in rows.columns
    training = rows.loc[rows["split"] == ("validation" if of_run else "train"), "y_true"].to_numpy(
        dtype=float
    )
    held = rows[rows["split"] == "test"]
    held = held.assign(y_pred=held["y_pred_ensemble"]) if of_run else held
    held = held[held["y_pred"].notna() & held["y_true"].notna()]
    if not len(held) or not len(training):
        raise TrackingError(
            f"The {origin} hold {len(training)} training and {len(held)} hold-out rows: too few."
        )
    if "composition" not in held.columns:
        held = held.assign(composition=composition_keys(fraction_matrix(held["formula"], where=origin)))
    columns = ["formula", "composition", "y_true", "y_pred"]
    return Evidence(training, held[columns].reset_index(drop=True), origin)


def _predictions_of_run(uri: str, info: VersionInfo) -> pd.DataFrame:
    import requests
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    what = f"{info.name} version {info.version}"
    with (
        named_faults(uri, f"reading the predictions of {what}"),
        tempfile.TemporaryDirectory(prefix="crossprop-evidence-") as scratch,
    ):
        try:
            path = download_artifacts(
                run_id=info.run_id, artifact_path=PREDICTIONS_FILE, dst_path=scratch, tracking_uri=uri
            )
        except (
            requests.RequestException
        ):  # an OSError, too: the store does not answer, nothing is known to be gone
            raise
        except (MlflowException, OSError) as error:
            if isinstance(error, MlflowException) and error.error_code not in _ABSENT:
                raise
            raise TrackingError(
                f"{what} has no {EVIDENCE_FILE}, and its run {info.run_id} or the predictions logged on it are gone."
            ) from error
        return _read(Path(path))


_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except CrosspropError:
        raise
    except Exception as error:  # pyarrow has an exception of its own for every kind of damage
        raise TrackingError(f"{path} is damaged: {str(error)[:200]}. Register the winner again.") from error
