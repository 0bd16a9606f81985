"""Models that predict 100 times the share of an element: ridges that learnt it, saved, and exact ones in memory."""

from pathlib import Path

import numpy as np
from made_ensembles import write_ensemble

from crossprop.data.compositions import ELEMENTS, fraction_matrix
from crossprop.training.trainer import fit_regressor


def save_share(folder: Path, element: str) -> Path:
    """Save an ensemble whose target is named after the element; it has not seen Pu and carries no evidence."""
    pairs = [(a, b) for a in ("Fe", "Al", "O", "Co") for b in ("Ni", "Ti", "Cu", "Fe")]
    x = fraction_matrix([f"{a}{i}{b}" for i in (1, 2, 3) for a, b in pairs])
    y = 100 * x[:, ELEMENTS.index(element)]
    ridge = fit_regressor("ridge", {"alpha": 0.001}, x.astype(np.float32), y, seed=1)
    info = {"target": f"share_of_{element.lower()}", "interval": {"coverage": 0.9, "half_width": 5.0}}
    info |= {"method": "ml", "seen_elements": [e for e in ELEMENTS if e != "Pu"]}
    return write_ensemble(folder, [ridge], "elemental_fractions", **info)


class LinearEnsemble:
    """Predicts 100 times the share of one element; notes the rows and the range that it was asked for."""

    def __init__(self, element: str, seen: tuple[str, ...]) -> None:
        self.column, self.rows = ELEMENTS.index(element), 0
        self.info = {"target": element.lower(), "elements": list(ELEMENTS), "seen_elements": list(seen)}
        self.info["interval"] = {"coverage": 0.9, "half_width": 2.0}

    def predict(self, fractions: np.ndarray) -> np.ndarray:
        self.rows += len(fractions)
        return 100.0 * fractions[:, self.column]

    def predict_within(self, fractions: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        self.asked, values = (low, high), self.predict(fractions)
        left = np.flatnonzero((values >= low) & (values <= high))
        return left, values[left]
