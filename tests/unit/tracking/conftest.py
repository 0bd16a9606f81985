"""A small finished cell, a saved ensemble, and a store that is created once and copied."""

import shutil

import numpy as np
import pandas as pd
import pytest
from registries import FORMULAS, evidence_table, make_model, save_ridge

from crossprop.experiments.results import CellCost, CellOutcome, CellResult
from crossprop.methods import Method, Representation
from crossprop.tracking.provenance import GitState, RunContext


@pytest.fixture
def uri(template_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(template_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def context(uri):
    git = GitState(commit="c" * 40, branch="main", dirty=True)
    data = {"data_hashes": {"bulk_modulus": "d" * 32, "formation_energy": "e" * 32}}
    data["data_sources"] = {"bulk_modulus": "data/prepared/demo/bulk_modulus.parquet"}
    described = {"descriptions": {"bulk_modulus": "Bulk modulus"}, "config_text": "study:\n  name: demo\n"}
    return RunContext(uri=uri, study="demo", git=git, **data, **described)


def build_outcome(history=None, **changes):
    values: dict[str, object] = {
        "cell": "ab12", "study": "demo", "protocol": "published", "target": "bulk_modulus", "unit": "GPa",
        "source": None, "method": Method.ML, "representation": Representation.ELEMENTAL_FRACTIONS,
        "hyperparameters": {"algorithm": "ridge", "alpha": 0.5}, "n_train": 54, "n_test": 6, "n_trials": 4,
        "val_mae": 12.0, "cv_mae": (10.0, 14.0), "best_fold": 0, "test_mae": 11.0, "test_mae_low": 9.0,
        "test_mae_high": 13.5, "test_q95": 30.0, "test_r2": 0.75, "test_mae_ensemble": 10.5,
    }  # fmt: skip
    y_true = np.random.default_rng(0).uniform(50, 150, 12)
    predictions = {"split": ["validation"] * 6 + ["test"] * 6, "fold": [0, 1] * 6, "formula": FORMULAS[:12]}
    predictions |= {"y_true": y_true, "y_pred": y_true + 5, "y_pred_ensemble": [np.nan] * 6 + [100.0] * 6}
    trials = {"number": [0, 1, 2, 3], "state": ["COMPLETE", "PRUNED", "FAIL", "COMPLETE"]}
    trials |= {"value": [15.0, np.nan, np.nan, 12.0], "seconds": [1.0, 0.2, 0.1, 1.5]}
    trials |= {"params_alpha": [1.0, 0.1, 0.2, 0.5]}
    none = pd.DataFrame(columns=["stage", "fold", "epoch", "loss", "val_mae"])
    return CellOutcome(
        result=CellResult(**(values | changes)),
        cost=CellCost(tune_seconds=3.0, fit_seconds=2.0, peak_memory=512 * 2**20),
        trials=pd.DataFrame(trials),
        history=none if history is None else history,
        predictions=pd.DataFrame(predictions),
    )


@pytest.fixture
def make_outcome():
    """Builds a cross-validated cell; keywords replace fields of its result."""
    return build_outcome


@pytest.fixture
def good(tmp_path):
    """An MLflow model that passes all gates."""
    return make_model(tmp_path / "good", evidence_table(error=5.0))


@pytest.fixture
def bad(tmp_path):
    """One that is worse than the mean of the training values."""
    return make_model(tmp_path / "bad", evidence_table(error=60.0))


@pytest.fixture
def saved_ensemble(tmp_path):
    """Two ridge regressors on fractions with evidence, in the format of the winners' folder."""
    return save_ridge(tmp_path / "model", "bulk_modulus", exact=True)
