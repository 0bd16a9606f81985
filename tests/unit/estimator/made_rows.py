"""Rows, source networks and fits small enough for a test."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix
from crossprop.estimator.pretrained import FORMAT, NOTE_FILE, SEEN_FILE, codes_of_seen
from crossprop.io import write_digests


def rows_of(n: int = 60, seed: int = 0) -> pd.DataFrame:
    """n binary compositions of few elements, whose value is a smooth function of the composition."""
    rng = np.random.default_rng(seed)
    known = ELEMENTS[:14]
    made = [f"{a}{p}{b}{4 - p}" for i, a in enumerate(known) for b in known[i + 1 :] for p in (1, 2, 3)]
    formulas = [made[k] for k in rng.permutation(len(made))[:n]]
    fractions = fraction_matrix(formulas)
    slope = np.random.default_rng(7).normal(size=fractions.shape[1])
    rows = pd.DataFrame({"formula": formulas, "composition": composition_keys(fractions)})
    return rows.assign(value=10 * fractions @ slope)


def write_networks(folder: Path, formulas: list[str], recipe: str = "short", **changed: Any) -> Path:
    """A folder of source networks that have seen these formulas; the networks themselves are missing."""
    folder.mkdir(parents=True)
    keys = set(composition_keys(fraction_matrix(formulas)))
    np.save(folder / SEEN_FILE, codes_of_seen(keys))
    note = {"format": FORMAT, "recipe": recipe, "sources": ["band_gap"], "elemnets": [], "compositions": len(keys)}
    note |= changed
    (folder / NOTE_FILE).write_text(json.dumps(note))
    write_digests(folder)
    return folder


def write_csv(path: Path, rows: pd.DataFrame, **columns: Any) -> Path:
    """An ordinary file with a column before and after."""
    table = pd.DataFrame({"id": [f"s{i}" for i in range(len(rows))], "compound": rows["formula"]})
    table.assign(hardness=rows["value"].round(4), **columns).to_csv(path, index=False)
    return path


def silent(line: str) -> None:
    """Print nothing."""
