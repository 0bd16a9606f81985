"""Registries for tests: versions made by hand in milliseconds, and tiny real models without a study."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from made_ensembles import write_ensemble, write_info

from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix
from crossprop.tracking.store import client_of
from crossprop.tracking.subprocess_check import Repeated
from crossprop.training.trainer import fit_regressor
from crossprop.uncertainty.evidence import write_evidence

NAME = "demo.bulk_modulus"
METALS, OTHERS = ("Fe", "Co", "Ni", "Ti", "Mg"), ("O", "S", "N", "Cl")
FORMULAS = [f"{a}{n}{b}" for a in METALS for b in OTHERS for n in (1, 2, 3)]
INFO: dict[str, Any] = {"study": "demo", "target": "bulk_modulus", "unit": "GPa", "cell": "ab12"}
INFO |= {"seen_elements": ["Fe", "Co", "Ni", "Ti", "Mg", "O", "S", "N", "Cl"]}


def evidence_table(error: float = 5.0, n_test: int = 40) -> pd.DataFrame:
    """Rows with true values around 100 and predictions off by about ``error``."""
    formulas = FORMULAS[:n_test] + FORMULAS
    y_true = np.random.default_rng(1).normal(100, 30, len(formulas))
    noise = np.random.default_rng(0).normal(0, 1, len(formulas))
    columns = {"formula": formulas, "composition": composition_keys(fraction_matrix(formulas))}
    columns |= {"split": ["test"] * n_test + ["train"] * len(FORMULAS), "y_true": y_true}
    y_pred = y_true + error * np.sign(noise) * (0.5 + np.abs(noise))
    return pd.DataFrame(columns | {"y_pred": y_pred, "y_pred_single": y_pred})


def save_ridge(folder: Path, target="hardness", level=100.0, study="demo", exact=False) -> Path:
    """A saved ensemble of two regressors with errors of 1; an exact one's hold-out holds what it predicts."""
    fractions = fraction_matrix(FORMULAS)
    y = level + 20 * fractions @ np.random.default_rng(3).normal(size=len(ELEMENTS))
    small = fractions.astype(np.float32)
    members = [fit_regressor("ridge", {"alpha": alpha}, small, y, seed=1) for alpha in (0.1, 1.0)]
    write_ensemble(folder, members, "elemental_fractions", **INFO | {"study": study, "target": target})
    predicted = np.mean([member.predict(small) for member in members], axis=0)
    split = np.where(np.arange(len(y)) % 5, "train", "test")
    columns = {"formula": FORMULAS, "composition": composition_keys(fractions), "split": split, "y_true": y}
    y_pred = np.where(exact & (split == "test"), predicted, y + 1.0)
    write_evidence(folder, pd.DataFrame(columns | {"y_pred": y_pred, "y_pred_single": y_pred}))
    return folder


def write_mlmodel(folder: Path) -> None:
    """MLflow's description of a model whose ensemble lies in ``artifacts/model``."""
    types = dict.fromkeys(("value", "lower", "upper"), "double") | {"in_domain": "boolean", "note": "string"}
    outputs = [{"type": kind, "name": name} for name, kind in types.items()]
    inputs = [{"type": "string", "name": "formula", "required": True}]
    described = {
        "flavors": {"python_function": {"artifacts": {"predictor": {"path": "artifacts/model"}}}},
        "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs)},
    }
    (folder / "MLmodel").write_text(json.dumps(described), encoding="utf-8")  # JSON is YAML


def make_model(folder: Path, evidence: pd.DataFrame | None = None) -> Path:
    """An MLflow model's folder whose ensemble has one empty member."""
    ensemble = folder / "artifacts" / "model"
    (ensemble / "fold_00").mkdir(parents=True)
    write_info(ensemble, representation="elemental_fractions", members=["fold_00"], **INFO)
    if evidence is not None:
        write_evidence(ensemble, evidence)
    write_mlmodel(folder)
    return folder


def add_version(uri, folder, name=NAME, alias="challenger", **tags):
    """Register a folder as the next version of a model that is made if need be; returns its number."""
    from mlflow.exceptions import MlflowException

    client = client_of(uri)
    study, target = name.split(".", 1)
    own = {"crossprop.study": study, "crossprop.target": target, "crossprop.unit": "GPa"}
    with contextlib.suppress(MlflowException):
        description = f"The {target}.\n\nTakes formulas."
        client.create_registered_model(name, tags=own, description=description)
    said = {"data_hash": "d" * 32, "git_commit": "c" * 40, "git_dirty": "false", "method": "ml"} | tags
    tags = {f"crossprop.{k}": str(v) for k, v in said.items()}
    version = client.create_model_version(name, str(folder), tags=tags)
    if alias:
        client.set_registered_model_alias(name, alias, version.version)
    return str(version.version)


def logged(ensemble: Path, formulas: list[str], timeout: float = 0.0):
    """Stands in for the fresh process: gives what the evidence holds."""
    rows = pd.read_parquet(ensemble / "evidence.parquet").query("split == 'test'")
    assert list(formulas) == list(rows["formula"])
    value = rows["y_pred"].to_numpy()
    return Repeated(value, value - 12.0, value + 12.0, 0.1)


def aliases_of(uri, name=NAME):
    return {alias: str(v) for alias, v in client_of(uri).get_registered_model(name).aliases.items()}


def tags_of(uri, version, prefix="", name=NAME):
    tags = client_of(uri).get_model_version(name, version).tags
    return {key.removeprefix(prefix): value for key, value in tags.items() if key.startswith(prefix)}


@dataclass(frozen=True)
class SmallRegistry:
    """A store in the folder ``root``."""

    root: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.root / 'mlflow.db'}"

    def add(self, target: str = "hardness", level: float = 100.0) -> str:
        """Register a version; returns its number."""
        folder = self.root / f"{target}-{level:g}"
        save_ridge(folder / "artifacts" / "model", target, level)
        write_mlmodel(folder)
        return add_version(self.uri, folder, f"demo.{target}", alias=None)

    def move(self, alias: str, version: str, target: str = "hardness") -> None:
        """As somebody does by hand in MLflow's interface."""
        client_of(self.uri).set_registered_model_alias(f"demo.{target}", alias, version)
