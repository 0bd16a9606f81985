"""Evidence of an invented model: right about oxides, wrong by far about iodides."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from made_ensembles import write_ensemble

from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix
from crossprop.training.trainer import fit_base
from crossprop.uncertainty.evidence import write_evidence

MAIN_GROUP = ["Li", "Na", "K", "Mg", "Ca", "Sr", "Ba", "Al", "Ga"]
METALS = [*MAIN_GROUP, "Ti", "Zr", "V", "Nb", "Cr", "Mn", "Fe", "Co", "Ni"]
AMOUNTS = ((1, 1), (1, 2), (2, 1), (2, 3), (3, 2), (1, 3))
QUIET, LOUD = "O", "I"
NOISE = {QUIET: 0.1, LOUD: 2.0}
"""Standard deviation of the errors, by the anion."""


def formulas_of(anion: str) -> list[str]:
    """Binary compounds of one anion, 108 of them."""
    return [f"{metal}{a}{anion}{b}" for metal, (a, b) in itertools.product(METALS, AMOUNTS)]


def made_evidence(*, seed: int = 0, held_out: int = 60, gain: float = 0.0) -> pd.DataFrame:
    """216 binaries with values around 50; the fold model of the hold-out errs by ``gain`` more than the mean."""
    rng = np.random.default_rng(seed)
    formulas = rng.permutation([*formulas_of(QUIET), *formulas_of(LOUD)])
    loud = np.array([LOUD in formula for formula in formulas])
    y_true = 50 + 10 * fraction_matrix(formulas) @ np.linspace(-1, 1, 86)
    y_pred = y_true + rng.normal(size=len(formulas)) * np.where(loud, NOISE[LOUD], NOISE[QUIET])
    split = np.where(np.arange(len(formulas)) < held_out, "test", "train")
    away = np.where(split == "test", gain * rng.choice([-1.0, 1.0], len(formulas)), 0.0)
    compositions = composition_keys(fraction_matrix(formulas))
    columns = {"formula": formulas, "composition": compositions, "split": split}
    return pd.DataFrame(columns | {"y_true": y_true, "y_pred": y_pred, "y_pred_single": y_pred + away})


def write_model(folder: Path, evidence: pd.DataFrame, value: float = 50.0) -> Path:
    """An ensemble of one member that always predicts the same, with its evidence."""
    seen = fraction_matrix(evidence["formula"][evidence["split"] == "train"]).any(axis=0)
    info = {"target": "made_up", "unit": "GPa", "method": "base"}
    info["seen_elements"] = [e for e, s in zip(ELEMENTS, seen, strict=True) if s]
    write_ensemble(folder, [fit_base(np.array([value, value]))], "elemental_fractions", **info)
    write_evidence(folder, evidence)
    return folder
