"""Registered versions made by hand, in milliseconds: what a registration leaves behind, without fitting anything."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix
from crossprop.tracking.store import client_of
from crossprop.tracking.subprocess_check import Repeated

NAME = "demo.bulk_modulus"
FORMULAS = [
    f"{a}{n}{b}" for a in ("Fe", "Co", "Ni", "Ti", "Mg") for b in ("O", "S", "N", "Cl") for n in (1, 2, 3)
]


def evidence_table(error: float = 5.0, n_test: int = 40, seed: int = 0) -> pd.DataFrame:
    """Rows with true values around 100 and predictions off by about ``error``."""
    rng = np.random.default_rng(1)
    formulas = FORMULAS[:n_test] + FORMULAS
    y_true = rng.normal(100, 30, len(formulas))
    noise = np.random.default_rng(seed).normal(0, 1, len(formulas))
    return pd.DataFrame(
        {
            "formula": formulas,
            "composition": composition_keys(fraction_matrix(formulas)),
            "split": ["test"] * n_test + ["train"] * len(FORMULAS),
            "y_true": y_true,
            "y_pred": y_true + error * np.sign(noise) * (0.5 + np.abs(noise)),
        }
    )


def make_model(folder: Path, evidence: pd.DataFrame | None = None, **info: object) -> Path:
    """An MLflow model's folder whose ensemble has one empty member."""
    ensemble = folder / "artifacts" / "model"
    (ensemble / "fold_00").mkdir(parents=True)
    stated = {
        "format": 3, "study": "demo", "target": "bulk_modulus", "unit": "GPa", "method": "ml",
        "elements": list(ELEMENTS), "members": ["fold_00"], "interval": {"coverage": 0.9, "half_width": 12.0},
        "seen_elements": ["Fe", "O"],
    }  # fmt: skip
    (ensemble / "model.json").write_text(json.dumps(stated | info), encoding="utf-8")
    if evidence is not None:
        evidence.to_parquet(ensemble / "evidence.parquet")
    outputs = [{"type": "double", "name": n} for n in ("value", "lower", "upper")]
    outputs += [{"type": "boolean", "name": "in_domain"}, {"type": "string", "name": "note"}]
    described = {
        "flavors": {"python_function": {"artifacts": {"predictor": {"path": "artifacts/model"}}}},
        "signature": {
            "inputs": json.dumps([{"type": "string", "name": "formula", "required": True}]),
            "outputs": json.dumps(outputs),
        },
    }
    (folder / "MLmodel").write_text(json.dumps(described), encoding="utf-8")  # JSON is YAML
    return folder


def add_version(uri, folder, name=NAME, alias="challenger", run_id=None, **tags):
    """Register a folder as the next version of a model that is made if need be; returns its number."""
    from mlflow.exceptions import MlflowException

    client = client_of(uri)
    study, target = name.split(".", 1)
    own = {"crossprop.study": study, "crossprop.target": target, "crossprop.unit": "GPa"}
    with contextlib.suppress(MlflowException):
        client.create_registered_model(
            name, tags=own, description=f"The {target}. Unit: GPa.\n\nTakes formulas."
        )
    said = {"data_hash": "d" * 32, "git_commit": "c" * 40, "git_dirty": "false", "method": "ml"} | tags
    version = client.create_model_version(
        name,
        str(folder),
        run_id=run_id,
        tags={f"crossprop.{k}": str(v) for k, v in said.items() if v is not None},
    )
    if alias:
        client.set_registered_model_alias(name, alias, version.version)
    return str(version.version)


def logged(model: Path, formulas: list[str], timeout: float = 0.0) -> Repeated:
    """Stands in for the fresh process: gives what the evidence holds."""
    rows = pd.read_parquet(model / "artifacts" / "model" / "evidence.parquet").query("split == 'test'")
    assert list(formulas) == list(rows["formula"])
    value = rows["y_pred"].to_numpy()
    return Repeated(value, value - 12.0, value + 12.0, 0.1)


def aliases_of(uri, name=NAME):
    return {alias: str(v) for alias, v in client_of(uri).get_registered_model(name).aliases.items()}


def tags_of(uri, version, prefix="", name=NAME):
    tags = client_of(uri).get_model_version(name, version).tags
    return {key.removeprefix(prefix): value for key, value in tags.items() if key.startswith(prefix)}
