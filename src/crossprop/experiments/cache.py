"""Finished tasks of cells on disk: written whole or not at all, found again after a kill, refused when damaged."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.errors import StoreError
from crossprop.experiments.grid import Cell
from crossprop.experiments.tasks import FoldReport, ScreenReport
from crossprop.io import atomic_folder, check_digests, read_json, write_digests, write_json
from crossprop.paths import StudyPaths

MODEL_FOLDER = "model"
SCREENING = "screening"
_REPORT, _HISTORY, _TRIALS, _ARRAYS = "report.json", "history.parquet", "trials.parquet", "predictions.npz"
_ARRAY_FIELDS = ("val_rows", "val_pred", "test_pred")


class CellStore:
    """The finished tasks of a study's cells, one folder a cell, named by its content hash.

    A task whose files have changed since they were written is refused (StoreError).
    """

    def __init__(self, paths: StudyPaths) -> None:
        self._paths = paths

    def screening(self, cell: Cell) -> ScreenReport | None:
        """The cell's stored screening, or ``None`` where there is none."""
        folder = self._checked(cell, SCREENING, _REPORT, _TRIALS, _HISTORY)
        if folder is None:
            return None
        tables: Any = {
            key: pd.read_parquet(folder / name) for key, name in (("trials", _TRIALS), ("history", _HISTORY))
        }
        return ScreenReport(**read_json(folder / _REPORT), **tables)

    def keep_screening(self, cell: Cell, report: ScreenReport) -> None:
        """Store a screening."""
        with atomic_folder(self._paths.cell(cell.id) / SCREENING) as folder:
            names = ("hyperparameters", "val_mae", "seconds", "peak_memory")
            write_json(folder / _REPORT, {name: getattr(report, name) for name in names})
            # A column may hold numbers in one trial and words in another: text keeps both.
            trials = report.trials.copy()
            for name in trials.filter(like="params_").select_dtypes(object):
                trials[name] = [None if pd.isna(value) else str(value) for value in trials[name]]
            trials.to_parquet(folder / _TRIALS)
            report.history.to_parquet(folder / _HISTORY)
            write_digests(folder)

    def fit(self, cell: Cell, name: str) -> FoldReport | None:
        """A stored fit of the cell, such as ``fold_00``, or ``None`` where there is none."""
        folder = self._checked(cell, name, _REPORT, _ARRAYS, _HISTORY)
        if folder is None:
            return None
        with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
            return FoldReport(
                **read_json(folder / _REPORT),
                **{field: arrays[field] for field in _ARRAY_FIELDS},
                history=pd.read_parquet(folder / _HISTORY),
            )

    def model_draft(self, cell: Cell, name: str) -> Path:
        """Folder that a worker writes a fit's model into, before the fit is kept."""
        return self._paths.cell(cell.id) / f"{name}.model"

    def keep_fit(self, cell: Cell, name: str, report: FoldReport) -> None:
        """Store a fit together with the model that its worker has written."""
        with atomic_folder(self._paths.cell(cell.id) / name) as folder:
            facts = ("val_mae", "seconds", "peak_memory", "n_train")
            write_json(folder / _REPORT, {fact: getattr(report, fact) for fact in facts})
            np.savez(folder / _ARRAYS, **{field: getattr(report, field) for field in _ARRAY_FIELDS})
            report.history.to_parquet(folder / _HISTORY)
            draft = self.model_draft(cell, name)
            if draft.is_dir():
                draft.rename(folder / MODEL_FOLDER)
            write_digests(folder)

    def model(self, cell: Cell, name: str) -> Path | None:
        """Folder of a stored fit's model, or ``None`` where it was not kept."""
        if not (self._paths.cell(cell.id) / name / MODEL_FOLDER).is_dir():
            return None
        folder = self._checked(cell, name)
        return folder and folder / MODEL_FOLDER

    def drop_models(self, cell: Cell) -> None:
        """Free the disk space of a cell's models; its figures stay."""
        for folder in self._paths.cell(cell.id).glob(f"fold_*/{MODEL_FOLDER}"):
            dropped = folder.with_name(f"{MODEL_FOLDER}.dropped")
            shutil.rmtree(dropped, ignore_errors=True)  # what an interruption has left
            shutil.rmtree(folder.rename(dropped), ignore_errors=True)

    def _checked(self, cell: Cell, name: str, *files: str) -> Path | None:
        """Folder of a finished task, if there is one; changed ``files`` (by default any) are refused."""
        folder = self._paths.cell(cell.id) / name
        if not folder.is_dir():
            return None
        check_digests(folder, files or None, error=StoreError, remedy=f"Delete {folder} and run again.")
        return folder
