"""The evidence of a saved model: its own predictions of rows that were not in the training data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossprop.data.compositions import composition_keys, fraction_matrix
from crossprop.data.splits import AUXILIARY, GROUP_COLUMN
from crossprop.errors import ModelFormatError
from crossprop.features.element_tables import ELEMENTS_FILE, keep_element_tables
from crossprop.io import DIGESTS_FILE, check_digests, write_digests, write_json
from crossprop.methods import unit_behind
from crossprop.models.saved import INFO_FILE, read_info
from crossprop.uncertainty.conformal import Calibration, Judgement
from crossprop.uncertainty.neighbours import SPACE_FILES, CompositionSpace, unseen_elements_notes

COLUMNS: Final = ("formula", "composition", "split", "y_true", "y_pred", "y_pred_single")
EVIDENCE_FILE: Final = "evidence.parquet"
CALIBRATION_FOLDER: Final = "calibration"
_POINTS_FILE: Final = "points.npy"


def evidence_of(predictions: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """The evidence (:data:`COLUMNS`) in a cell's predictions: out of fold in training, of all folds on the hold-out.

    ``frame`` is the prepared table: its auxiliary rows, which have no predictions, and its groups are kept, too.
    """
    held_out = (predictions["split"] == "test").to_numpy()
    rows = pd.DataFrame(
        {
            "formula": predictions["formula"].to_numpy(),
            "composition": composition_keys(fraction_matrix(predictions["formula"])),
            "split": np.where(held_out, "test", "train"),
            "y_true": predictions["y_true"].to_numpy(float),
            "y_pred": predictions["y_pred_ensemble"].where(held_out, predictions["y_pred"]).to_numpy(float),
            "y_pred_single": predictions["y_pred"].to_numpy(float),
        }
    )
    only_learnt = frame.loc[frame["split"] == AUXILIARY].rename(columns={"value": "y_true"})
    if len(only_learnt):
        rows = pd.concat([rows, only_learnt.reindex(columns=COLUMNS)], ignore_index=True)
    if GROUP_COLUMN in frame:
        group_of = frame.drop_duplicates("composition").set_index("composition")[GROUP_COLUMN]
        rows[GROUP_COLUMN] = rows["composition"].map(group_of)
    return rows


def write_evidence(model_folder: Path, rows: pd.DataFrame) -> None:
    """Complete a saved model: evidence, calibration, and last the digests, without which it cannot be loaded."""
    rows = rows.filter([*COLUMNS, GROUP_COLUMN]).reset_index(drop=True)
    train, predicted = rows[rows["split"] == "train"], rows[rows["split"] != AUXILIARY]
    if train.empty or not np.isfinite(predicted[["y_true", "y_pred", "y_pred_single"]].to_numpy()).all():
        raise ModelFormatError(
            f"The evidence of {model_folder} lacks training rows or holds values that are no numbers. "
            "Run the target's stage again."
        )
    calibration = Calibration.fit(rows)
    info = read_info(model_folder, part=True) | calibration.as_info()
    (model_folder / DIGESTS_FILE).unlink(missing_ok=True)
    folder = model_folder / CALIBRATION_FOLDER
    folder.mkdir(exist_ok=True)
    calibration.around.space.save(folder)
    np.save(folder / _POINTS_FILE, calibration.around.points, allow_pickle=False)
    rows.to_parquet(model_folder / EVIDENCE_FILE, index=False)
    write_json(model_folder / INFO_FILE, info)
    keep_element_tables(model_folder / ELEMENTS_FILE)
    write_digests(model_folder)


def read_evidence(model_folder: Path) -> tuple[pd.DataFrame, Calibration]:
    """The evidence of a saved model and its calibration; ModelFormatError if they are damaged."""
    info = read_info(model_folder)
    folder = model_folder / CALIBRATION_FOLDER
    kept = [f"{CALIBRATION_FOLDER}/{name}" for name in (_POINTS_FILE, *SPACE_FILES)]
    check_digests(model_folder, [EVIDENCE_FILE, *kept])
    try:
        rows = pd.read_parquet(model_folder / EVIDENCE_FILE)
        points = np.load(folder / _POINTS_FILE, allow_pickle=False)
        return rows, Calibration.restore(info, rows, CompositionSpace.load(folder), points)
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise ModelFormatError(
            f"The evidence of {model_folder} cannot be read: {error}. Register or pull the model again."
        ) from error


def evenly(n: int, most: int) -> NDArray[np.intp]:
    """Indices of at most so many of ``n`` rows, evenly spaced, first and last among them."""
    return np.linspace(0, n - 1, min(n, most)).round().astype(np.intp)


# Share of the known range by which a value may lie beyond it: a band gap slightly below 0 is no extrapolation.
MARGIN: Final = 0.01


@dataclass(frozen=True)
class KnownValues:
    """Least and greatest of all values in a model's data, in the property's unit, and the number of rows."""

    least: float
    most: float
    n: int

    @classmethod
    def of(cls, evidence: pd.DataFrame) -> Self:
        """Those of a model's evidence."""
        values = evidence["y_true"].to_numpy(float)
        return cls(float(values.min()), float(values.max()), len(values))

    def beyond(self, values: np.ndarray) -> NDArray[np.int8]:
        """For every value 1 if it lies above all known ones, -1 if it lies below all of them, otherwise 0."""
        room = MARGIN * (self.most - self.least)
        values = np.asarray(values, dtype=np.float64)
        above, below = values > self.most + room, values < self.least - room
        return above.astype(np.int8) - below.astype(np.int8)

    def notes(self, values: np.ndarray, unit: str) -> list[str]:
        """For every prediction a note if it lies beyond the known values, or an empty text."""
        after = unit_behind(unit)
        said = {
            0: "",
            1: f"above all {self.n:,} known values, at most {self.most:.4g}{after}",
            -1: f"below all {self.n:,} known values, at least {self.least:.4g}{after}",
        }
        return [said[side] for side in self.beyond(values).tolist()]


@dataclass(frozen=True)
class Coverage:
    """How often the interval contains the value on the hold-out; without one only the ``stated`` is known."""

    stated: float
    share: float | None = None
    n: int = 0
    mean_width: float | None = None
    flagged: float | None = None  # share of rows outside of the applicability domain
    mae: float | None = None
    mae_inside: float | None = None
    mae_outside: float | None = None
    share_outside: float | None = None


def judge(info: Mapping[str, Any], calibration: Calibration, values: np.ndarray, fractions: np.ndarray) -> Judgement:
    """Intervals and domain of values, shape (n,), of compositions, shape (n, 86)."""
    unseen = unseen_elements_notes(fractions, frozenset(info["seen_elements"]))
    said = calibration.judge(values, fractions)
    notes = ["; ".join(filter(None, both)) for both in zip(unseen, said.notes, strict=True)]
    return Judgement(said.lower, said.upper, notes)


def measured_coverage(info: Mapping[str, Any], evidence: pd.DataFrame, calibration: Calibration) -> Coverage:
    """Compare the intervals with the hold-out rows of the evidence, if there are any."""
    rows = evidence[evidence["split"] == "test"]
    if rows.empty:
        return Coverage(calibration.coverage)
    y_true, y_pred = rows["y_true"].to_numpy(), rows["y_pred"].to_numpy()
    said = judge(info, calibration, y_pred, fraction_matrix(rows["formula"]))
    outside = np.array([bool(note) for note in said.notes])
    inside, errors = ~outside, np.abs(y_true - y_pred)
    held = (said.lower <= y_true) & (y_true <= said.upper)
    return Coverage(
        stated=calibration.coverage,
        share=float(held.mean()),
        n=len(rows),
        mean_width=float((said.upper - said.lower).mean()),
        flagged=float(outside.mean()),
        mae=float(errors.mean()),
        mae_inside=float(errors[inside].mean()) if inside.any() else None,
        mae_outside=float(errors[outside].mean()) if outside.any() else None,
        share_outside=float(held[outside].mean()) if outside.any() else None,
    )


def folder_coverage(model_folder: Path) -> Coverage | None:
    """Coverage of a saved model from its folder; ``None`` if that is empty, as of a target without a winner."""
    if not (model_folder / INFO_FILE).is_file():
        return None
    return measured_coverage(read_info(model_folder), *read_evidence(model_folder))
