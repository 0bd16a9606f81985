"""Hand-made cells and results of fits, for tests that compute nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crossprop.experiments.grid import Cell
from crossprop.experiments.tasks import FoldReport, ScreenReport
from crossprop.methods import Method, Representation

HISTORY = pd.DataFrame({"epoch": [1], "loss": [0.5], "val_mae": [2.0]})


def make_cell(method: Method | str, name: str = "", **fields: Any) -> Cell:
    """A cell of a target in five folds; its id is its method and the name."""
    given: dict[str, Any] = {
        "id": f"{method}{name}", "study": "tiny", "protocol": "published", "target": "slme", "unit": "%",
        "source": None, "method": Method(method), "representation": None, "seed": 1, "n_trials": 1,
        "seconds": 1.0, "folds": 5, "recipe": None, "space": None,
    }  # fmt: skip
    if "representation" in fields:
        fields["representation"] = Representation(fields["representation"])
    return Cell(**(given | fields))


def make_screening(val_mae: float, **hyperparameters: Any) -> ScreenReport:
    """What the screening of a cell found."""
    trials = pd.DataFrame({"number": [0], "state": ["COMPLETE"], "value": [val_mae], "seconds": [0.1]})
    return ScreenReport(hyperparameters, val_mae, trials, HISTORY, 1.0, 10)


def make_fold(
    rows: np.ndarray, val_pred: np.ndarray, test_pred: np.ndarray, values: np.ndarray, n_train: int = 9
) -> FoldReport:
    """A fold with these predictions; ``values`` are those of all rows."""
    error = float(np.abs(val_pred - values[rows]).mean())
    return FoldReport(error, rows, val_pred, test_pred, HISTORY, 0.5, 20, n_train)
