"""A small finished cell, a saved ensemble, and a store that is created once and copied."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from registries import evidence_table, make_model

from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix
from crossprop.experiments.results import CellCost, CellOutcome, CellResult
from crossprop.methods import Method, Representation
from crossprop.tracking.provenance import GitState, RunContext
from crossprop.tracking.store import prepare_store

FORMULAS = ("NaCl", "MgO", "Fe2O3", "GaAs", "TiO2", "KBr")


@pytest.fixture(scope="session")
def template_store(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    prepare_store(f"sqlite:///{path}")
    return path


@pytest.fixture
def uri(template_store, tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(template_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def context(uri) -> RunContext:
    return RunContext(
        uri=uri,
        study="demo",
        git=GitState(commit="c" * 40, branch="main", dirty=True),
        data_hashes={"bulk_modulus": "d" * 32, "formation_energy": "e" * 32},
        data_sources={"bulk_modulus": "data/prepared/demo/bulk_modulus.parquet"},
        descriptions={"bulk_modulus": "Bulk modulus"},
        config_text="study:\n  name: demo\n",
    )


def make_result(**changes: object) -> CellResult:
    values: dict[str, object] = {
        "cell": "ab12",
        "study": "demo",
        "protocol": "published",
        "target": "bulk_modulus",
        "unit": "GPa",
        "source": None,
        "method": Method.ML,
        "representation": Representation.ELEMENTAL_FRACTIONS,
        "hyperparameters": {"algorithm": "ridge", "alpha": 0.5},
        "n_train": 54,
        "n_test": 6,
        "n_trials": 4,
        "val_mae": 12.0,
        "cv_mae": (10.0, 14.0),
        "best_fold": 0,
        "test_mae": 11.0,
        "test_mae_low": 9.0,
        "test_mae_high": 13.5,
        "test_q95": 30.0,
        "test_r2": 0.75,
        "test_mae_ensemble": 10.5,
    }
    return CellResult(**(values | changes))


def build_outcome(history: pd.DataFrame | None = None, **changes: object) -> CellOutcome:
    rng = np.random.default_rng(0)
    y_true = rng.uniform(50, 150, 12)
    predictions = pd.DataFrame(
        {
            "split": ["validation"] * 6 + ["test"] * 6,
            "fold": [0, 1] * 6,
            "formula": FORMULAS * 2,
            "y_true": y_true,
            "y_pred": y_true + 5,
            "y_pred_ensemble": [np.nan] * 6 + [100.0] * 6,
        }
    )
    trials = pd.DataFrame(
        {
            "number": [0, 1, 2, 3],
            "state": ["COMPLETE", "PRUNED", "FAIL", "COMPLETE"],
            "value": [15.0, np.nan, np.nan, 12.0],
            "seconds": [1.0, 0.2, 0.1, 1.5],
            "params_alpha": [1.0, 0.1, 0.2, 0.5],
        }
    )
    empty = pd.DataFrame(columns=["stage", "fold", "epoch", "loss", "val_mae"])
    return CellOutcome(
        result=make_result(**changes),
        cost=CellCost(tune_seconds=3.0, fit_seconds=2.0, peak_memory=512 * 2**20),
        trials=trials,
        history=empty if history is None else history,
        predictions=predictions,
    )


@pytest.fixture
def make_outcome() -> Callable[..., CellOutcome]:
    """Builds a cross-validated cell; keywords replace fields of its result."""
    return build_outcome


@pytest.fixture
def good(tmp_path) -> Path:
    """An MLflow model that passes all gates."""
    return make_model(tmp_path / "good", evidence_table(error=5.0))


@pytest.fixture
def bad(tmp_path) -> Path:
    """One that is worse than the mean of the training values."""
    return make_model(tmp_path / "bad", evidence_table(error=60.0))


@pytest.fixture
def saved_ensemble(tmp_path) -> Path:
    """Two ridge regressors on fractions with evidence, in the format of the winners' folder."""
    from sklearn.linear_model import Ridge

    from crossprop.models.fitted import FittedModel
    from crossprop.models.saved import load_predictor, write_digests
    from crossprop.models.target_transform import TargetTransform

    folder = tmp_path / "model"
    x = fraction_matrix(FORMULAS).astype(np.float32)
    y = np.array([25.0, 160.0, 200.0, 75.0, 210.0, 15.0])
    transform = TargetTransform.fit(y)
    for member, alpha in (("fold_00", 0.1), ("fold_01", 1.0)):
        FittedModel("regressor", Ridge(alpha=alpha).fit(x, transform.forward(y)), transform).save(
            folder / member
        )
    info = {
        "format": 3, "study": "demo", "target": "bulk_modulus", "unit": "GPa", "cell": "ab12", "method": "ml",
        "representation": "elemental_fractions", "layer": None, "source": None, "elements": list(ELEMENTS),
        "members": ["fold_00", "fold_01"], "interval": {"coverage": 0.9, "half_width": 20.0},
        "seen_elements": ["Na", "Cl", "Mg", "O", "Fe", "Ga", "As", "Ti", "K", "Br"],
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(info), encoding="utf-8")
    write_digests(folder)
    evidence = pd.DataFrame(
        {"formula": FORMULAS * 2, "split": ["train"] * 6 + ["test"] * 6, "y_true": [*y, *(y + 9)]}
    )
    evidence["composition"] = composition_keys(fraction_matrix(evidence["formula"]))
    evidence["y_pred"] = load_predictor(folder).predict(fraction_matrix(evidence["formula"]))
    evidence.to_parquet(folder / "evidence.parquet")
    return folder
