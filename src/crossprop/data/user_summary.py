"""What a user's file holds, in a few lines that a person reads before it is added, and what to look at again."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np

from crossprop.data.user_rows import UserTable
from crossprop.data.user_values import FAR, distances_from_median

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
    """The summary: rows (with the first bad ones), compositions, values, elements, hold-out, and notes.

    ``held_out`` says which rows are held out, shape (n,).
    """
    rows, n_bad = table.rows, len(table.problems)
    values, of = rows["value"].to_numpy(), "" if unit == "1" else f" {unit}"
    words = Counter(word.split(":")[0] for key in rows["composition"] for word in key.split())
    elements = ", ".join(f"{element} ({n:,})" for element, n in words.most_common(12))
    lines = [
        f"read          {table.dialect}; formulas from {table.formula_column!r}, values from {table.value_column!r}",
        f"rows          {table.n_read:,} read, {len(rows):,} kept, {n_bad:,} dropped",
    ]
    lines += [f"              {problem}" for problem in table.problems[:most]]
    if n_bad > most:
        counts = Counter(problem.kind for problem in table.problems)
        kinds = ", ".join(f"{n} {_KINDS[kind]}" for kind, n in counts.items())
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


def histogram(values: np.ndarray) -> str:
    """A line of bars from the least value to the largest; without those that are far out."""
    near = values[distances_from_median(values) <= FAR]
    counts, _ = np.histogram(near, bins=min(_BINS, max(4, len(near) // 3)))
    heights = np.ceil(counts / counts.max() * (len(_BARS) - 1)).astype(int)
    return "".join(_BARS[h] if n else " " for h, n in zip(heights, counts, strict=True))


def _groups(table: UserTable) -> str:
    """How many groups there are, and what has to stay together for the compositions that they share."""
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
