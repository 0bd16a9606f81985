"""Several rows of one composition become one."""

from __future__ import annotations

from typing import Literal

import pandas as pd

Merge = Literal["lowest", "median"]


def merge_compositions(rows: pd.DataFrame, how: Merge) -> pd.DataFrame:
    """One row per composition.

    Args:
        rows: Columns ``formula``, ``composition``, ``value``; other columns are left out.
        how: ``lowest`` keeps the least value, as for energies the stable polymorph; ``median`` takes the
            median (the mean of the middle two for an even number).

    Returns:
        Columns ``formula`` (the first spelling), ``composition``, ``value``, sorted by composition, so that
        the order of the files does not matter.
    """
    groups = rows.groupby("composition", sort=True)
    values = groups["value"].min() if how == "lowest" else groups["value"].median()
    return pd.DataFrame(
        {"formula": groups["formula"].first(), "composition": values.index, "value": values}
    ).reset_index(drop=True)
