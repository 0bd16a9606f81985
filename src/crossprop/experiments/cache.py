"""Finished tasks of cells on disk: written whole or not at all, found again after a kill, refused when damaged."""

import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from crossprop.errors import StoreError
from crossprop.experiments.grid import Cell
from crossprop.experiments.tasks import FoldReport, ScreenReport
from crossprop.io import atomic_folder, check_digests, digested, read_json, write_digests, write_json
from crossprop.paths import StudyPaths

MODEL_FOLDER = "model"
SCREENING = "screening"
_REPORT, _ARRAYS = "report.json", "predictions.npz"  # beside a parquet file for every table
Report = TypeVar("Report", ScreenReport, FoldReport)


class CellStore:
    """The finished tasks of a study's cells, one folder a cell, named by its content hash.

    A task whose files have changed since they were written is refused (StoreError).
    """

    def __init__(self, paths: StudyPaths) -> None:
        self._paths = paths

    def find(self, cell: Cell, name: str, kind: type[Report]) -> Report | None:
        """A stored task of the cell, ``screening`` or a fit such as ``fold_00``, or ``None`` where there is none."""
        folder = self._checked(cell, name, with_model=False)
        if folder is None:
            return None
        tables: dict[str, Any] = {
            file.removesuffix(".parquet"): pd.read_parquet(folder / file)
            for file in digested(folder)
            if file.endswith(".parquet") and "/" not in file
        }
        if (folder / _ARRAYS).is_file():
            with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
                tables |= dict(arrays)
        return kind(**read_json(folder / _REPORT), **tables)

    def model_draft(self, cell: Cell, name: str) -> Path:
        """Folder that a worker writes a fit's model into, before the fit is kept."""
        return self._paths.cell(cell.id) / f"{name}.model"

    def keep(self, cell: Cell, name: str, report: ScreenReport | FoldReport) -> None:
        """Store a task, a fit together with the model that its worker has written."""
        values = {field.name: getattr(report, field.name) for field in fields(report) if field.name != "baseline"}
        tables = {key: value for key, value in values.items() if isinstance(value, pd.DataFrame)}
        arrays: dict[str, Any] = {key: value for key, value in values.items() if isinstance(value, np.ndarray)}
        facts = {key: value for key, value in values.items() if key not in {*tables, *arrays}}
        with atomic_folder(self._paths.cell(cell.id) / name) as folder:
            write_json(folder / _REPORT, facts)
            for key, table in tables.items():
                # A parameter may be a number in one trial and a word in another: text keeps both.
                mixed = table.filter(like="params_").select_dtypes(object)
                texts = mixed.map(lambda value: None if pd.isna(value) else str(value))
                table.assign(**dict(texts)).to_parquet(folder / f"{key}.parquet")
            if arrays:
                np.savez(folder / _ARRAYS, **arrays)
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

    def _checked(self, cell: Cell, name: str, *, with_model: bool = True) -> Path | None:
        """Folder of a finished task, if there is one; changed files, of the model only if asked for, are refused."""
        folder = self._paths.cell(cell.id) / name
        if not folder.is_dir():
            return None
        files = [file for file in digested(folder) if with_model or "/" not in file]
        check_digests(folder, files, error=StoreError, remedy=f"Delete {folder} and run again.")
        return folder
