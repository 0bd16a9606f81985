"""Finished pieces of cells on disk: written whole or not at all, found again after a kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from crossprop.errors import StoreError
from crossprop.experiments.grid import Cell
from crossprop.experiments.tasks import FoldReport, ScreenReport
from crossprop.io import replaced_whole
from crossprop.paths import StudyPaths

MODEL_FOLDER = "model"


class CellStore:
    """The finished pieces of a study's cells, one folder a cell, named by its content hash.

    Args:
        paths: Where the study's files lie.
    """

    def __init__(self, paths: StudyPaths) -> None:
        self._paths = paths

    def screening(self, cell: Cell) -> ScreenReport | None:
        """The cell's stored screening, or ``None`` where there is none."""
        folder = self._paths.cell(cell.id) / "screening"
        if not folder.is_dir():
            return None
        with _reading(folder):
            note = _read_json(folder / "report.json")
            return ScreenReport(
                note["hyperparameters"],
                note["val_mae"],
                pd.read_parquet(folder / "trials.parquet"),
                pd.read_parquet(folder / "history.parquet"),
                note["seconds"],
                note["peak_memory"],
            )

    def keep_screening(self, cell: Cell, report: ScreenReport) -> None:
        """Store a screening."""
        with replaced_whole(self._paths.cell(cell.id) / "screening") as folder:
            _write_json(
                folder / "report.json",
                {
                    "hyperparameters": report.hyperparameters,
                    "val_mae": report.val_mae,
                    "seconds": report.seconds,
                    "peak_memory": report.peak_memory,
                },
            )
            # A column may hold numbers in one trial and words in another: text keeps both.
            trials = report.trials.copy()
            for name in trials.columns:
                if name.startswith("params_") and trials[name].dtype == object:
                    trials[name] = [None if pd.isna(value) else str(value) for value in trials[name]]
            trials.to_parquet(folder / "trials.parquet")
            report.history.to_parquet(folder / "history.parquet")

    def fit(self, cell: Cell, piece: str) -> FoldReport | None:
        """A stored fit of the cell, such as ``fold_00``, or ``None`` where there is none."""
        folder = self._paths.cell(cell.id) / piece
        if not folder.is_dir():
            return None
        with _reading(folder):
            note = _read_json(folder / "report.json")
            with np.load(folder / "predictions.npz", allow_pickle=False) as arrays:
                return FoldReport(
                    note["val_mae"],
                    arrays["val_rows"],
                    arrays["val_pred"],
                    arrays["test_pred"],
                    pd.read_parquet(folder / "history.parquet"),
                    note["seconds"],
                    note["peak_memory"],
                    note["n_train"],
                )

    def model_draft(self, cell: Cell, piece: str) -> Path:
        """Folder that a worker writes a fit's model into, before the fit is kept."""
        return self._paths.cell(cell.id) / f"{piece}.model"

    def keep_fit(self, cell: Cell, piece: str, report: FoldReport) -> None:
        """Store a fit together with the model that its worker has written."""
        with replaced_whole(self._paths.cell(cell.id) / piece) as folder:
            note = {name: getattr(report, name) for name in ("val_mae", "seconds", "peak_memory", "n_train")}
            _write_json(folder / "report.json", note)
            np.savez(
                folder / "predictions.npz",
                val_rows=report.val_rows,
                val_pred=report.val_pred,
                test_pred=report.test_pred,
            )
            report.history.to_parquet(folder / "history.parquet")
            draft = self.model_draft(cell, piece)
            if draft.is_dir():
                draft.rename(folder / MODEL_FOLDER)

    def model(self, cell: Cell, piece: str) -> Path | None:
        """Folder of a stored fit's model, or ``None`` where it was not kept."""
        folder = self._paths.cell(cell.id) / piece / MODEL_FOLDER
        return folder if folder.is_dir() else None

    def drop_models(self, cell: Cell) -> None:
        """Free the room that the models of a cell take; its figures stay."""
        for folder in self._paths.cell(cell.id).glob(f"fold_*/{MODEL_FOLDER}"):
            shutil.rmtree(folder, ignore_errors=True)


class _reading:  # noqa: N801 - reads as a statement
    """Turns whatever is wrong with a stored piece into one error that says what to do."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (OSError, EOFError, BadZipFile, ValueError, KeyError, TypeError)):
            raise StoreError(
                f"{self._folder} is damaged ({error}). Delete that folder and run again."
            ) from error


def _read_json(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")
