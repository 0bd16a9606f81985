"""Finished tasks of cells on disk: written whole or not at all, found again after a kill."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from crossprop.errors import StoreError
from crossprop.experiments.grid import Cell
from crossprop.experiments.tasks import FoldReport, ScreenReport
from crossprop.io import atomic_folder, read_json, write_json
from crossprop.paths import StudyPaths

MODEL_FOLDER = "model"
SCREENING = "screening"


class CellStore:
    """The finished tasks of a study's cells, one folder a cell, named by its content hash."""

    def __init__(self, paths: StudyPaths) -> None:
        self._paths = paths

    def screening(self, cell: Cell) -> ScreenReport | None:
        """The cell's stored screening, or ``None`` where there is none."""
        folder = self._paths.cell(cell.id) / SCREENING
        if not folder.is_dir():
            return None
        with _damage_is_named(folder):
            return ScreenReport(
                **read_json(folder / "report.json"),
                trials=pd.read_parquet(folder / "trials.parquet"),
                history=pd.read_parquet(folder / "history.parquet"),
            )

    def keep_screening(self, cell: Cell, report: ScreenReport) -> None:
        """Store a screening."""
        with atomic_folder(self._paths.cell(cell.id) / SCREENING) as folder:
            names = ("hyperparameters", "val_mae", "seconds", "peak_memory")
            write_json(folder / "report.json", {name: getattr(report, name) for name in names})
            # A column may hold numbers in one trial and words in another: text keeps both.
            trials = report.trials.copy()
            for name in trials.columns:
                if name.startswith("params_") and trials[name].dtype == object:
                    trials[name] = [None if pd.isna(value) else str(value) for value in trials[name]]
            trials.to_parquet(folder / "trials.parquet")
            report.history.to_parquet(folder / "history.parquet")

    def fit(self, cell: Cell, name: str) -> FoldReport | None:
        """A stored fit of the cell, such as ``fold_00``, or ``None`` where there is none."""
        folder = self._paths.cell(cell.id) / name
        if not folder.is_dir():
            return None
        with (
            _damage_is_named(folder),
            np.load(folder / "predictions.npz", allow_pickle=False) as arrays,
        ):
            return FoldReport(
                **read_json(folder / "report.json"),
                **{key: arrays[key] for key in ("val_rows", "val_pred", "test_pred")},
                history=pd.read_parquet(folder / "history.parquet"),
            )

    def model_draft(self, cell: Cell, name: str) -> Path:
        """Folder that a worker writes a fit's model into, before the fit is kept."""
        return self._paths.cell(cell.id) / f"{name}.model"

    def keep_fit(self, cell: Cell, name: str, report: FoldReport) -> None:
        """Store a fit together with the model that its worker has written."""
        with atomic_folder(self._paths.cell(cell.id) / name) as folder:
            facts = ("val_mae", "seconds", "peak_memory", "n_train")
            write_json(folder / "report.json", {fact: getattr(report, fact) for fact in facts})
            np.savez(
                folder / "predictions.npz",
                val_rows=report.val_rows,
                val_pred=report.val_pred,
                test_pred=report.test_pred,
            )
            report.history.to_parquet(folder / "history.parquet")
            draft = self.model_draft(cell, name)
            if draft.is_dir():
                draft.rename(folder / MODEL_FOLDER)

    def model(self, cell: Cell, name: str) -> Path | None:
        """Folder of a stored fit's model, or ``None`` where it was not kept."""
        folder = self._paths.cell(cell.id) / name / MODEL_FOLDER
        return folder if folder.is_dir() else None

    def drop_models(self, cell: Cell) -> None:
        """Free the disk space of a cell's models; its figures stay."""
        for folder in self._paths.cell(cell.id).glob(f"fold_*/{MODEL_FOLDER}"):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _damage_is_named(folder: Path) -> Iterator[None]:
    """Turn whatever is wrong with a stored task into one error that says what to do."""
    try:
        yield
    except (OSError, EOFError, BadZipFile, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder} is damaged ({error}). Delete that folder and run again.") from error
