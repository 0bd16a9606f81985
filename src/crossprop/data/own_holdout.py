"""The hold-out of one's own data: drawn by composition, seeded, and stable when rows are added later."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from crossprop.vocabulary import DEFAULT_SEED

HOLDOUT_SHARE = 0.1
"""Share of the rows that is held out."""

HOLDOUT_ROWS = 20
"""Rows that a hold-out has at least, as long as they are no more than :data:`HOLDOUT_MOST` of all."""

HOLDOUT_MOST = 0.25
"""Share of the rows that a small data set gives at most."""


def holdout_size(rows: int) -> int:
    """Rows that are held out of so many: a tenth, at least 20, but at most a quarter."""
    return max(round(HOLDOUT_SHARE * rows), min(HOLDOUT_ROWS, round(HOLDOUT_MOST * rows)), 1)


def draw_holdout(compositions: np.ndarray, seed: int = DEFAULT_SEED) -> np.ndarray:
    """Which rows are held out; all rows of a composition (or of a group) stand on one side.

    Compositions are taken in the order of a hash of their name and the seed, so that neither the order of the
    rows matters nor, for most of the compositions, which others there are. One whose rows would make the hold-out
    half as large again is passed over.

    Args:
        compositions: Key of what stays together, for each row, shape (n,), two different ones at least.
        seed: Seed of the draw.

    Returns:
        Booleans, shape (n,), neither all of one kind.
    """
    sizes = pd.Series(compositions).value_counts()
    wanted = holdout_size(len(compositions))
    ranked = sorted(sizes.index, key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest())
    held: list[str] = []
    total = 0
    for key in ranked[: len(ranked) - 1]:
        if total >= wanted:
            break
        if total + sizes[key] <= max(1.5 * wanted, wanted + 1):
            held.append(key)
            total += int(sizes[key])
    return np.asarray(pd.Series(compositions).isin(held or [min(ranked, key=lambda key: int(sizes[key]))]))
