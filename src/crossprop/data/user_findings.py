"""What in a user's rows is no reason to refuse anything, but may be one to look again."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np
import pandas as pd

FEW_VALUES: Final = 5
FAR: Final = 8.0
"""Standard deviations (of the middle half of the rows) from the median beyond which a value is far out."""

_CONFLICT: Final = 0.5
_LARGE_BLOCK: Final = 0.34
_MISSING_CODES: Final = frozenset(
    sign * float(digits) for digits in ("99", "999", "9999", "99999", "999.9", "999.99") for sign in (1, -1)
)


def value_findings(rows: pd.DataFrame) -> list[str]:
    """Notes on the usable rows of a file, columns as in :class:`crossprop.data.user_rows.OwnTable`."""
    values, notes = rows["value"].to_numpy(), []
    distances = distances_from_median(values)
    codes = {v: n for v, n in Counter(values.tolist()).items() if v in _MISSING_CODES and n > 1}
    for code, count in codes.items():
        if code < 0 or distances[values == code].max() > FAR:
            notes.append(
                f"{count} values are {code:g}: if that is a code for a missing value, leave the cells empty"
            )
    order = np.argsort(-distances, kind="stable")
    far = [f"line {rows['line'].iloc[i]} ({values[i]:g})" for i in order if distances[i] > FAR]
    if far:
        notes.append(
            f"{len(far)} value(s) far from the others, kept: {', '.join(far[:5])}{', …' if len(far) > 5 else ''}"
        )
    same = rows.duplicated(["composition", "value"])
    if same.any():
        lines = ", ".join(map(str, rows.loc[same, "line"].head(5)))
        notes.append(
            f"{same.sum()} row(s) repeat composition and value of another, kept: line {lines}"
            + (", …" if same.sum() > 5 else "")
        )
    if "group" in rows:
        notes += _group_notes(rows)
    kinds = np.unique(values)
    if len(kinds) <= FEW_VALUES and len(values) >= 10 * len(kinds):
        listed = ", ".join(f"{kind:g}" for kind in kinds)
        notes.append(
            f"there are {len(kinds)} different values only ({listed}): if they name classes, what is learnt is their "
            "mean, not a class"
        )
    spread = _spread_of_repeated(rows)
    if spread is not None and spread > _CONFLICT:
        notes.append(
            f"repeated compositions differ by {100 * spread:.0f} % of what any two rows do: something beside the "
            "composition decides (temperature, processing, phase); a column of it cannot be learnt from"
        )
    if (values > 0).all() and values.max() > 1000 * np.median(values):
        notes.append("the values span orders of magnitude: their logarithm may be the better property")
    return notes


def distances_from_median(values: np.ndarray) -> np.ndarray:
    """Distance of each value from the median, in standard deviations of the middle half; zeros where it has none."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    scale = (high - low) / 1.349  # of a normal distribution: its standard deviation
    return np.abs(values - middle) / scale if scale > 0 else np.zeros(len(values))


def _group_notes(rows: pd.DataFrame) -> list[str]:
    """A block that is so large that the splits come out uneven, and what holds it together."""
    blocks = rows["group"].value_counts()
    if blocks.iloc[0] <= _LARGE_BLOCK * len(rows):
        return []
    block = rows[rows["group"] == blocks.index[0]]
    shared = block.groupby("composition")["named_group"].nunique()
    why = ""
    if shared.max() > 1:
        common = block.loc[block["composition"] == shared.idxmax(), "formula"].iloc[0]
        why = f" ({block['named_group'].nunique()} groups that share compositions; {common} is in {shared.max()})"
    return [
        f"{len(block):,} of {len(rows):,} rows have to stay together{why}: the splits come out uneven, and errors "
        "vary much from fold to fold"
    ]


def _spread_of_repeated(rows: pd.DataFrame) -> float | None:
    """Median difference within repeated compositions, over that of any two rows; ``None`` for few of either."""
    groups = rows.groupby("composition")["value"].agg(["size", np.ptp])
    repeated = groups.loc[groups["size"] > 1, "ptp"]
    low, high = np.quantile(rows["value"], [0.25, 0.75])
    if len(repeated) < FEW_VALUES or high <= low:
        return None
    return float(
        repeated.median() / (0.707 * (high - low))
    )  # of a normal distribution: two rows' median difference
