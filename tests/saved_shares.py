"""Models that predict 100 times the share of an element: ridges that learnt it, saved, and exact ones in memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from made_ensembles import write_ensemble

from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix
from crossprop.inference.predictor import ServedModel
from crossprop.training.trainer import fit_regressor
from crossprop.uncertainty.conformal import Calibration
from crossprop.uncertainty.evidence import write_evidence


def save_share(folder: Path, element: str) -> Path:
    """Save an ensemble whose target is named after the element; it has not seen Pu, and its intervals are ± 5."""
    pairs = [(a, b) for a in ("Fe", "Al", "O", "Co") for b in ("Ni", "Ti", "Cu", "Fe")]
    formulas = [f"{a}{i}{b}" for i in (1, 2, 3) for a, b in pairs]
    x = fraction_matrix(formulas)
    y = 100 * x[:, ELEMENTS.index(element)]
    ridge = fit_regressor("ridge", {"alpha": 0.001}, x.astype(np.float32), y, seed=1)
    info = {"target": f"share_of_{element.lower()}", "seen_elements": [e for e in ELEMENTS if e != "Pu"]}
    write_ensemble(folder, [ridge], "elemental_fractions", **info)
    write_evidence(folder, evidence_of(formulas, element, train=5.0, test=5.0))
    return folder


def evidence_of(formulas: Sequence[str], element: str, *, train: float, test: float) -> pd.DataFrame:
    """Every formula in training and on the hold-out, with predictions that are so much too high."""
    x = fraction_matrix(formulas)
    y = 100 * x[:, ELEMENTS.index(element)]
    rows = pd.DataFrame({"formula": formulas, "composition": composition_keys(x), "y_true": y})
    parts = [rows.assign(split=s, y_pred=y + e, y_pred_single=y + e) for s, e in (("train", train), ("test", test))]
    return pd.concat(parts, ignore_index=True)


class LinearEnsemble:
    """Predicts 100 times the share of one element; notes the rows and the range that it was asked for."""

    def __init__(self, element: str, seen: tuple[str, ...]) -> None:
        self.column, self.rows = ELEMENTS.index(element), 0
        self.info = {"target": element.lower(), "elements": list(ELEMENTS), "seen_elements": list(seen)}
        self.info["unit"] = "GPa"

    def predict(self, fractions: np.ndarray) -> np.ndarray:
        self.rows += len(fractions)
        return 100.0 * fractions[:, self.column]

    def predict_within(self, fractions: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        self.asked, values = (low, high), self.predict(fractions)
        left = np.flatnonzero((values >= low) & (values <= high))
        return left, values[left]


def served_share(ensemble: LinearEnsemble, formulas: Sequence[str]) -> ServedModel:
    """The ensemble with evidence of these formulas: intervals are ± 2, and the error on the hold-out is 3."""
    evidence = evidence_of(formulas, ELEMENTS[ensemble.column], train=2.0, test=3.0)
    return ServedModel(ensemble, evidence, Calibration.fit(evidence))
