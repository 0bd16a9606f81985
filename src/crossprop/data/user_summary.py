"""What a user's file holds, in a few lines that a person reads before it is added, and what to look at again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from crossprop.methods import unit_behind

if TYPE_CHECKING:
    from crossprop.data.user_rows import UserTable

_BARS: Final = "▁▂▃▄▅▆▇█"
_BINS: Final = 24
_KINDS: Final = {
    "fields": "with too many fields",
    "formula": "without a valid formula",
    "element": "with an element outside the 86",
    "missing": "without a value",
    "value": "with a value that is no number",
    "split": "with an unknown split",
    "group": "without a group",
}


def summarise(table: UserTable, unit: str, held_out: np.ndarray, most: int = 10) -> str:
    """The summary; ``held_out`` says which rows are held out, shape (n,)."""
    rows, n_bad = table.rows, len(table.problems)
    values, of = rows["value"].to_numpy(), unit_behind(unit)
    words = Counter(word.split(":")[0] for key in rows["composition"] for word in key.split())
    elements = ", ".join(f"{element} ({n:,})" for element, n in words.most_common(12))
    lines = [
        f"read          {table.dialect}; formulas from {table.formula_column!r}, values from {table.value_column!r}",
        f"rows          {table.n_read:,} read, {len(rows):,} kept, {n_bad:,} dropped",
    ]
    lines += [f"              {problem}" for problem in table.problems[:most]]
    if n_bad > most:
        counts = Counter(_KINDS[problem.kind] for problem in table.problems)
        kinds = ", ".join(f"{n} {kind}" for kind, n in counts.items())
        lines.append(f"              … and {n_bad - most:,} more; in all: {kinds}")
    lines.append(f"compositions  {_compositions(table)}")
    if "group" in rows:
        lines.append(f"groups        {_groups(table)}")
    lines += [
        f"values        {values.min():g} to {values.max():g}{of}, median {np.median(values):g}{of}",
        f"              {histogram(values)}",
        f"elements      {len(words)}: {elements}{', …' if len(words) > 12 else ''}",
        f"hold-out      {_holdout(table, held_out)}",
    ]
    lines += [f"note          {note}" for note in table.notes]
    learning = len(rows) - int(held_out.sum())
    if learning < 100:
        lines.append(
            f"note          {learning} rows to learn from and {int(held_out.sum())} to measure on are few: expect wide "
            "intervals, and differences between methods that are noise"
        )
    return "\n".join(lines)


def describe(path: Path, table: UserTable, unit: str, most: int = 5) -> list[str]:
    """What a file holds as the first lines that a fit prints: its rows, the notes, the first of the dropped rows."""
    known, n_bad = table.rows["composition"].nunique(), len(table.problems)
    groups = f" in {len(set(table.together)):,} groups that stay together" if "group" in table.rows else ""
    lines = [
        f"{path}: {len(table.rows):,} rows of {known:,} compositions{groups}; {table.formula_column!r} holds "
        f"formulas, {table.value_column!r} values ({unit or 'no unit given'}); read as {table.dialect}",
        *(f"note: {note}" for note in table.notes),
        *(f"left out: {problem}" for problem in table.problems[:most]),
    ]
    return lines + [f"left out: {n_bad - most} more; report.json lists all of them"] * (n_bad > most)


def histogram(values: np.ndarray) -> str:
    """A line of bars from the least value to the largest; without those that are far out."""
    near = values[distances_from_median(values) <= FAR]
    counts, _ = np.histogram(near - near.min(), bins=min(_BINS, max(4, len(near) // 3)))
    heights = np.ceil(counts / counts.max() * (len(_BARS) - 1)).astype(int)
    return "".join(_BARS[h] if n else " " for h, n in zip(heights, counts, strict=True))


def _groups(table: UserTable) -> str:
    blocks = table.rows["group"].value_counts()
    named = table.rows["named_group"].nunique()
    text = f"{named:,} named"
    if len(blocks) < named:
        text += f", {len(blocks):,} once groups that share a composition are one"
    return f"{text}; the largest has {blocks.iloc[0]:,} rows ({100 * blocks.iloc[0] / len(table.rows):.0f} %)"


def _compositions(table: UserTable) -> str:
    values = table.rows.groupby("composition")["value"].agg(["size", np.ptp])
    repeated = values[values["size"] > 1]
    if repeated.empty:
        return f"{len(values):,}"
    return (
        f"{len(values):,}, {len(repeated):,} of them repeated ({repeated['size'].sum():,} rows, up to "
        f"{repeated['size'].max()} each; their values differ by {repeated['ptp'].median():g} in the median)"
    )


def _holdout(table: UserTable, held_out: np.ndarray) -> str:
    rows = table.rows
    test, train = rows[held_out], rows[~held_out]
    text = f"{len(test):,} rows of {test['composition'].nunique():,} compositions"
    if "split" not in rows:
        by = "group" if "group" in rows else "composition"
        return f"{text}, drawn by {by} (seeded); {len(train):,} rows to learn from"
    keys = table.together
    shared = int(np.isin(keys[~held_out].astype(str), keys[held_out].astype(str)).sum())
    text += f", as the split column says; {len(train):,} rows to learn from"
    or_group = " or group" if "group" in rows else ""
    return f"{text}, {shared:,} of them with a composition{or_group} of the hold-out (protocol 'strict' drops these)"


FEW_VALUES: Final = 5
FAR: Final = 8.0  # standard deviations (of the middle half) from the median beyond which a value is far out
_CONFLICT: Final = 0.5
_LARGE_BLOCK: Final = 0.34
_MISSING_CODES: Final = frozenset(
    sign * float(digits) for digits in ("99", "999", "9999", "99999", "999.9", "999.99") for sign in (1, -1)
)


def _listed(texts: list[str]) -> str:
    return ", ".join(texts[:5]) + (", …" if len(texts) > 5 else "")


def value_findings(rows: pd.DataFrame) -> list[str]:
    """Notes on the usable rows of a file, columns as in :class:`crossprop.data.user_rows.UserTable`."""
    values, notes = rows["value"].to_numpy(), []
    distances = distances_from_median(values)
    codes = {v: n for v, n in Counter(values.tolist()).items() if v in _MISSING_CODES and n > 1}
    for code, count in codes.items():
        if code < 0 or distances[values == code].max() > FAR:
            notes.append(f"{count} values are {code:g}: if that is a code for a missing value, leave the cells empty")
    order = np.argsort(-distances, kind="stable")
    far = [f"line {rows['line'].iloc[i]} ({values[i]:g})" for i in order if distances[i] > FAR]
    if far:
        notes.append(f"{len(far)} value(s) far from the others, kept: {_listed(far)}")
    if same := rows.loc[rows.duplicated(["composition", "value"]), "line"].map(str).tolist():
        notes.append(f"{len(same)} row(s) repeat composition and value of another, kept: line {_listed(same)}")
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
    usual = 0.707 * (high - low)  # median difference of two rows of a normal distribution
    return float(repeated.median() / usual)
