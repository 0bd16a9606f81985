"""Models for screenings: instant ones in memory, and small ones on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix
from crossprop.inference.predictor import ServedModel
from crossprop.screening.properties import PropertyModel


class LinearEnsemble:
    """Predicts the share of one element times a factor; counts the rows that it was asked for."""

    def __init__(self, element: str, factor: float = 100.0, seen: tuple[str, ...] = ELEMENTS) -> None:
        self.column, self.factor, self.rows = ELEMENTS.index(element), factor, 0
        self.info = {
            "target": element.lower(),
            "elements": list(ELEMENTS),
            "interval": {"coverage": 0.9, "half_width": 2.0},
            "seen_elements": list(seen),
        }

    def predict(self, fractions: np.ndarray) -> np.ndarray:
        self.rows += len(fractions)
        return self.factor * fractions[:, self.column]


@pytest.fixture
def linear() -> Callable[..., tuple[PropertyModel, ServedModel]]:
    """Makes a property of this name whose value is 100 times the share of an element."""

    def make(name: str, element: str, evidence: list[str] | None = None, **options: object):
        ensemble = LinearEnsemble(element, **options)
        known = None
        if evidence is not None:
            fractions = fraction_matrix(evidence)
            known = pd.DataFrame(
                {
                    "formula": evidence,
                    "composition": composition_keys(fractions),
                    "y_true": ensemble.predict(fractions),
                }
            )
            ensemble.rows = 0
        described = PropertyModel(name, f"/{name}", name, "", element, "GPa", 0.9, name)
        return described, ServedModel(ensemble, None, known)

    return make


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Saves an ensemble of two ridges that learnt 100 times the share of an element, and names its folder."""
    from crossprop.training.trainer import fit_regressor

    def save(element: str, seen: tuple[str, ...] = ELEMENTS) -> Path:
        folder = tmp_path_factory.mktemp(f"model_{element}")
        formulas = [
            f"{a}{i}{b}" for i in (1, 2, 3) for a in ("Fe", "Al", "O", "Co") for b in ("Ni", "Ti", "Cu")
        ]
        x = fraction_matrix(formulas)
        y = 100 * x[:, ELEMENTS.index(element)]
        for fold in ("fold_00", "fold_01"):
            fit_regressor("ridge", {"alpha": 0.001}, x.astype(np.float32), y, seed=1).save(folder / fold)
        info = {
            "format": 1,
            "study": "tiny",
            "target": f"share_of_{element.lower()}",
            "unit": "%",
            "method": "ml",
            "representation": "elemental_fractions",
            "layer": None,
            "elements": list(ELEMENTS),
            "members": ["fold_00", "fold_01"],
            "interval": {"coverage": 0.9, "half_width": 5.0},
            "seen_elements": list(seen),
        }
        (folder / "model.json").write_text(json.dumps(info), encoding="utf-8")
        return folder

    return save
