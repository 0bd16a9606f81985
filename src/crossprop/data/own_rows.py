"""What a file of one's own holds: the rows that can be learnt from, and why each of the others cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd

from crossprop.data.own_table import Dialect
from crossprop.data.prepared import together_in

MIN_ROWS: Final = 20
"""Usable rows below which a file is refused: a hold-out, ten folds and a screening split need that many."""

Kind = Literal["fields", "formula", "element", "missing", "value", "split", "group"]


@dataclass(frozen=True)
class Problem:
    """A row that cannot be learnt from.

    Attributes:
        line: Its line in the file (its row in a workbook).
        reason: Why, in plain words.
        text: What stands in its cells of formula and value.
        kind: What is wrong: the number of fields, the formula, an element outside the 86, no value, a value
            that is no number, the word in the split column, no group.
    """

    line: int
    reason: str
    text: str
    kind: Kind

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason} ({self.text})"


@dataclass(frozen=True)
class OwnTable:
    """What a file holds.

    Attributes:
        rows: Columns ``formula``, ``composition`` (key), ``value``, ``line``, ``split`` (``train`` or ``test``) where
            a split column was named, ``named_group`` and ``group`` (key of the rows that stay together) where a
            column of groups was; in the file's order.
        problems: The rows that are not among them, in the file's order.
        notes: What was repaired, skipped or is worth knowing about the file.
        dialect: How the file was read.
        formula_column: Name of the column of formulas.
        value_column: Name of the column of values.
        unit: Unit that the file itself states: behind the numbers, or below the header.
        group_column: Name of the column of groups, where one was named.
    """

    rows: pd.DataFrame
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    dialect: Dialect
    formula_column: str
    value_column: str
    unit: str | None = None
    group_column: str | None = None

    @property
    def n_read(self) -> int:
        """Rows of the file, usable or not."""
        return len(self.rows) + len(self.problems)

    @property
    def together(self) -> np.ndarray:
        """Key of what stays on one side of every split: the row's group, or its composition where there are none."""
        keys: np.ndarray = self.rows[together_in(self.rows)].to_numpy()
        return keys
