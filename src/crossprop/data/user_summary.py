"""What a file of one's own holds, in a few lines that a person reads before it is added."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np

from crossprop.data.user_rows import OwnTable

_BARS: Final = "▁▂▃▄▅▆▇█"
_BINS: Final = 24
_FEW_VALUES: Final = 5
_CONFLICT: Final = 0.5
_LARGE_BLOCK: Final = 0.34
_FAR: Final = 8.0
"""Standard deviations (of the middle half of the rows) from the median beyond which a value is far out."""


def summarise(table: OwnTable, unit: str, held_out: np.ndarray, most: int = 10) -> str:
    """The summary: rows, compositions, values, elements, hold-out, and what is worth a second look.

    Args:
        table: What was read.
        unit: Unit of the values, as the catalogue has it (``1`` for a pure number).
        held_out: Which rows are held out, shape (n,).
        most: Bad rows that are listed.
    """
    rows, n_bad = table.rows, len(table.problems)
    lines = [
        f"read          {table.dialect}; formulas from {table.formula_column!r}, values from {table.value_column!r}",
        f"rows          {table.n_read:,} read, {len(rows):,} kept, {n_bad:,} dropped",
    ]
    lines += [f"              {problem}" for problem in table.problems[:most]]
    if n_bad > most:
        kinds = ", ".join(
            f"{n} {_KINDS[kind]}" for kind, n in Counter(p.kind for p in table.problems).items()
        )
        lines.append(f"              … and {n_bad - most:,} more; in all: {kinds}")
    lines.append(f"compositions  {_compositions(table)}")
    if "group" in table.rows:
        lines.append(f"groups        {_groups(table)}")
    lines.append(f"values        {_values(rows['value'].to_numpy(), unit)}")
    lines.append(f"              {histogram(rows['value'].to_numpy())}")
    lines.append(f"elements      {_elements(table)}")
    lines.append(f"hold-out      {_holdout(table, held_out)}")
    lines += [f"note          {note}" for note in (*table.notes, *findings(table, held_out))]
    return "\n".join(lines)


def findings(table: OwnTable, held_out: np.ndarray) -> list[str]:
    """What is no reason to refuse anything, but may be one to look again."""
    rows, notes = table.rows, []
    if far := _far_out(table):
        first = ", ".join(f"line {line} ({value:g})" for line, value in far[:5])
        notes.append(f"{len(far)} value(s) far from the others, kept: {first}{', …' if len(far) > 5 else ''}")
    if same := int(rows.duplicated(["composition", "value"]).sum()):
        lines = rows.loc[rows.duplicated(["composition", "value"]), "line"].head(5)
        notes.append(
            f"{same} row(s) repeat composition and value of another, kept: line {', '.join(map(str, lines))}"
            + (", …" if same > 5 else "")
        )
    values = rows["value"].to_numpy()
    if "group" in rows:
        notes += _group_notes(table)
    kinds = np.unique(values)
    if len(kinds) <= _FEW_VALUES and len(values) >= 10 * len(kinds):
        listed = ", ".join(f"{kind:g}" for kind in kinds)
        notes.append(
            f"there are {len(kinds)} different values only ({listed}): if they name classes, what is learnt is their "
            "mean, not a class"
        )
    spread = _spread_of_repeated(table)
    if spread is not None and spread > _CONFLICT:
        notes.append(
            f"repeated compositions differ by {100 * spread:.0f} % of what any two rows do: something beside the "
            "composition decides (temperature, processing, phase); a column of it cannot be learnt from"
        )
    if (values > 0).all() and values.max() > 1000 * np.median(values):
        notes.append("the values span orders of magnitude: their logarithm may be the better property")
    learning = len(rows) - int(held_out.sum())
    if learning < 100:
        notes.append(
            f"{learning} rows to learn from and {int(held_out.sum())} to measure on are few: expect wide "
            "intervals, and differences between methods that are noise"
        )
    return notes


def histogram(values: np.ndarray) -> str:
    """A line of bars from the least value to the largest; without those that are far out."""
    near = values[_distances(values) <= _FAR]
    counts, _ = np.histogram(near, bins=min(_BINS, max(4, len(near) // 3)))
    heights = np.ceil(counts / counts.max() * (len(_BARS) - 1)).astype(int)
    return "".join(_BARS[h] if n else " " for h, n in zip(heights, counts, strict=True))


def _groups(table: OwnTable) -> str:
    """How many groups there are, and what has to stay together for the compositions that they share."""
    blocks = table.rows["group"].value_counts()
    named = table.rows["named_group"].nunique()
    text = f"{named:,} named"
    if len(blocks) < named:
        text += f", {len(blocks):,} once groups that share a composition are one"
    return f"{text}; the largest has {blocks.iloc[0]:,} rows ({100 * blocks.iloc[0] / len(table.rows):.0f} %)"


def _group_notes(table: OwnTable) -> list[str]:
    """A block that is so large that the splits come out uneven, and what holds it together."""
    rows = table.rows
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


def _spread_of_repeated(table: OwnTable) -> float | None:
    """Median difference within repeated compositions, over that of any two rows; ``None`` for few of either."""
    values = table.rows["value"].to_numpy()
    groups = table.rows.groupby("composition")["value"].agg(["size", np.ptp])
    repeated = groups.loc[groups["size"] > 1, "ptp"]
    low, high = np.quantile(values, [0.25, 0.75])
    if len(repeated) < _FEW_VALUES or high <= low:
        return None
    return float(
        repeated.median() / (0.707 * (high - low))
    )  # of a normal distribution: two rows' median difference


def _compositions(table: OwnTable) -> str:
    counts = table.rows["composition"].value_counts()
    repeated = counts[counts > 1]
    text = f"{len(counts):,}"
    if len(repeated):
        spread = table.rows.groupby("composition")["value"].agg(np.ptp)
        text += (
            f", {len(repeated):,} of them repeated ({int(repeated.sum()):,} rows, up to {int(repeated.max())} each; "
            f"their values differ by {spread[repeated.index].median():g} in the median)"
        )
    return text


def _values(values: np.ndarray, unit: str) -> str:
    of = "" if unit == "1" else f" {unit}"
    low, middle, high = values.min(), np.median(values), values.max()
    return f"{low:g} to {high:g}{of}, median {middle:g}{of}"


def _elements(table: OwnTable) -> str:
    words = (word for key in table.rows["composition"] for word in key.split())
    counts = Counter(word.split(":")[0] for word in words)
    shown = ", ".join(f"{element} ({n:,})" for element, n in counts.most_common(12))
    return f"{len(counts)}: {shown}{', …' if len(counts) > 12 else ''}"


def _holdout(table: OwnTable, held_out: np.ndarray) -> str:
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


def _far_out(table: OwnTable) -> list[tuple[int, float]]:
    """Line and value of the rows far from the others, the farthest first."""
    values = table.rows["value"].to_numpy()
    distances = _distances(values)
    order = np.argsort(-distances, kind="stable")
    return [(int(table.rows["line"].iloc[i]), float(values[i])) for i in order if distances[i] > _FAR]


def _distances(values: np.ndarray) -> np.ndarray:
    """Distance of each value from the median, in standard deviations of the middle half; zeros where it has none."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    scale = (high - low) / 1.349  # of a normal distribution: its standard deviation
    return np.abs(values - middle) / scale if scale > 0 else np.zeros(len(values))


_KINDS: Final = {
    "fields": "with too many fields",
    "formula": "without a valid formula",
    "element": "with an element outside the 86",
    "missing": "without a value",
    "value": "with a value that is no number",
    "split": "with an unknown split",
    "group": "without a group",
}
