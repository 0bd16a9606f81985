"""A registry with real, tiny models: ridge regressors on fractions, registered without a study."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix
from crossprop.uncertainty.evidence import write_evidence

FORMULAS = [
    f"{a}{n}{b}" for a in ("Fe", "Co", "Ni", "Ti", "Mg") for b in ("O", "S", "N", "Cl") for n in (1, 2, 3)
]


def save_ridge(folder: Path, target: str = "hardness", level: float = 100.0, study: str = "demo") -> Path:
    """A saved ensemble of two regressors, with evidence; its values lie around ``level``."""
    from sklearn.linear_model import Ridge

    from crossprop.models.fitted import FittedModel
    from crossprop.models.target_transform import TargetTransform

    fractions = fraction_matrix(FORMULAS)
    y = level + 20 * fractions @ np.random.default_rng(3).normal(size=len(ELEMENTS))
    transform = TargetTransform.fit(y)
    folder.mkdir(parents=True)
    for member, alpha in (("fold_00", 0.1), ("fold_01", 1.0)):
        ridge = Ridge(alpha=alpha).fit(fractions.astype(np.float32), transform.forward(y))
        FittedModel("regressor", ridge, transform).save(folder / member)
    info = {
        "format": 3, "study": study, "target": target, "unit": "GPa", "cell": "ab12", "method": "ml",
        "representation": "elemental_fractions", "layer": None, "source": None, "elements": list(ELEMENTS),
        "members": ["fold_00", "fold_01"], "interval": {"coverage": 0.9, "half_width": 5.0},
        "seen_elements": ["Fe", "Co", "Ni", "Ti", "Mg", "O", "S", "N", "Cl"],
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(info))
    split = np.where(np.arange(len(y)) % 5, "train", "test")
    evidence = {"formula": FORMULAS, "composition": composition_keys(fractions), "split": split}
    write_evidence(
        folder, pd.DataFrame({**evidence, "y_true": y, "y_pred": y + 1.0, "y_pred_single": y + 1.0})
    )
    return folder


@dataclass(frozen=True)
class SmallRegistry:
    """A store in a folder.

    Attributes:
        root: The folder.
    """

    root: Path

    @property
    def path(self) -> Path:
        return self.root / "mlflow.db"

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.path}"

    def prepare(self) -> SmallRegistry:
        from crossprop.tracking.store import prepare_store

        prepare_store(self.uri)
        return self

    def add(self, target: str = "hardness", level: float = 100.0, whole: bool = False) -> str:
        """Register a version; returns its number. A whole one is what MLflow itself can serve, too."""
        from mlflow.exceptions import MlflowException

        name, client = f"demo.{target}", self.client()
        folder = self.root / f"{target}-{level:g}"
        if whole:
            self._log(folder, save_ridge(self.root / "ensemble", target, level))
        else:
            save_ridge(folder / "artifacts" / "model", target, level)
            flavor = {"python_function": {"artifacts": {"predictor": {"path": "artifacts/model"}}}}
            (folder / "MLmodel").write_text(json.dumps({"flavors": flavor}))
        tags = {"crossprop.study": "demo", "crossprop.target": target, "crossprop.unit": "GPa"}
        with contextlib.suppress(MlflowException):
            client.create_registered_model(name, tags=tags, description=f"The {target}. Unit: GPa.")
        return str(client.create_model_version(name, str(folder), tags={"crossprop.method": "ml"}).version)

    def move(self, alias: str, version: str, target: str = "hardness") -> None:
        """As somebody does by hand in MLflow's interface."""
        self.client().set_registered_model_alias(f"demo.{target}", alias, version)

    def _log(self, folder: Path, ensemble: Path) -> None:
        from crossprop.tracking.provenance import GitState, RunContext
        from crossprop.tracking.registration import save_model

        context = RunContext(uri=self.uri, study="demo", git=GitState(commit="c" * 40, branch="main"))
        save_model(folder, "m-0123456789abcdef0123456789abcdef", "0" * 32, ensemble, context)

    def client(self):
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
