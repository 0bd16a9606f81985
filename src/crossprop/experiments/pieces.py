"""Pieces of work and what comes back: the screening of a cell, or one fit of its best configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.experiments.cells import Cell
from crossprop.experiments.inputs import TargetFiles
from crossprop.tuning.search_spaces import Hyperparameters


@dataclass(frozen=True)
class ScreenTask:
    """Tune one cell on the screening split."""

    cell: Cell
    files: TargetFiles
    journal: Path | None


@dataclass(frozen=True)
class ScreenReport:
    """What screening found: the best point, its validation MAE in the property's unit, and the trials."""

    hyperparameters: Hyperparameters
    val_mae: float
    trials: pd.DataFrame
    history: pd.DataFrame
    seconds: float
    peak_memory: int


@dataclass(frozen=True)
class FoldTask:
    """Fit one fold of a cell's best configuration.

    Attributes:
        folder: Where the model goes, or ``None``. A regressor is saved only where fitting it again would take long.
        always_save: Save it in any case.
        strict: Leave out the training rows whose composition is in the hold-out.
        share: Learn from this share of the fold's training rows.
    """

    cell: Cell
    files: TargetFiles
    hyperparameters: tuple[tuple[str, Any], ...]
    fold: int
    folder: Path | None = None
    always_save: bool = False
    strict: bool = False
    share: float | None = None

    @property
    def piece(self) -> str:
        """Name of the piece of the cell's work that this is."""
        shared = "" if self.share is None else f".share_{self.share:g}"
        return f"fold_{self.fold:02d}{'.strict' if self.strict else ''}{shared}"


@dataclass(frozen=True)
class FoldReport:
    """One fitted fold: predictions in the property's unit for its validation rows and for the hold-out."""

    val_mae: float
    val_rows: np.ndarray
    val_pred: np.ndarray
    test_pred: np.ndarray
    history: pd.DataFrame
    seconds: float
    peak_memory: int
    n_train: int = 0
