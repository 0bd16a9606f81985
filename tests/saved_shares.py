"""Saved models for screenings: ridges that learnt 100 times the share of an element."""

import json
from pathlib import Path

import numpy as np

from crossprop.data.compositions import ELEMENTS, fraction_matrix
from crossprop.io import write_digests


def save_share(folder: Path, element: str, members: int = 1) -> Path:
    """Save an ensemble whose target is named after the element; it has not seen Pu and carries no evidence."""
    from crossprop.training.trainer import fit_regressor

    pairs = [(a, b) for a in ("Fe", "Al", "O", "Co") for b in ("Ni", "Ti", "Cu", "Fe")]
    x = fraction_matrix([f"{a}{i}{b}" for i in (1, 2, 3) for a, b in pairs])
    y = 100 * x[:, ELEMENTS.index(element)]
    folds = [f"fold_{i:02d}" for i in range(members)]
    for fold in folds:
        fit_regressor("ridge", {"alpha": 0.001}, x.astype(np.float32), y, seed=1).save(folder / fold)
    info = {
        "format": 3,
        "study": "tiny",
        "target": f"share_of_{element.lower()}",
        "unit": "%",
        "method": "ml",
        "representation": "elemental_fractions",
        "layer": None,
        "elements": list(ELEMENTS),
        "members": folds,
        "interval": {"coverage": 0.9, "half_width": 5.0},
        "seen_elements": [e for e in ELEMENTS if e != "Pu"],
    }
    (folder / "model.json").write_text(json.dumps(info), encoding="utf-8")
    write_digests(folder)
    return folder
