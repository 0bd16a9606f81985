"""A user's file, read whole: what stands in the columns that are meant, and which rows cannot be used."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd

from crossprop.data.cleaning import why_no_formula
from crossprop.data.compositions import composition_keys, parse_formulas, refuse_capitals
from crossprop.data.splits import linked_groups, together_in
from crossprop.data.user_columns import amounts_in, choose_columns
from crossprop.data.user_formulas import formulas_in, formulas_of, sums_of_atoms
from crossprop.data.user_summary import value_findings
from crossprop.data.user_table import Dialect, fold, is_formula_name, read_text_table
from crossprop.data.user_values import (
    ABSENT,
    bare_unit,
    read_numbers,
    refuse_conflict,
    unit_beside,
)
from crossprop.errors import UnknownElementError, UserFileError

MIN_ROWS: Final = 20  # usable rows that a hold-out, ten folds and a screening split need

Kind = Literal["fields", "formula", "element", "missing", "value", "split", "group"]


@dataclass(frozen=True)
class Problem:
    """A row that cannot be learnt from: its line in the file, why, and the text of its cells of formula and value."""

    line: int
    reason: str
    text: str
    kind: Kind

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason} ({self.text})"


@dataclass(frozen=True)
class UserTable:
    """What a file holds: usable ``rows``, the others (``problems``), and what is worth a second look (``notes``).

    ``rows`` has the columns ``formula`` (amounts of atoms), ``composition`` (key), ``value``, ``line``, ``split``
    (``train`` or ``test``) where a split column was named, ``named_group`` and ``group`` (key of the rows that stay
    together) where a column of groups was. ``unit`` is what the file itself states.
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
        return np.asarray(self.rows[together_in(self.rows)])


_SPLITS: Final = {
    **dict.fromkeys(("train", "training", "learn", "learning"), "train"),
    **dict.fromkeys(("test", "testing", "holdout", "hold-out", "hold_out"), "test"),
}


def read_user_table(
    path: Path,
    *,
    target: str,
    formula_column: str | None = None,
    value_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    element_columns: str | None = None,
    amounts: str | None = None,
    unit: str | None = None,
    sheet: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
) -> UserTable:
    """Read a CSV, TSV, semicolon-separated or Excel file whose dialect is not known; what is ``None`` is guessed.

    The values stand in ``value_column``, or in the column named like the ``target``; with ``element_columns``
    (``atomic`` or ``weight``) every element has a column of amounts. ``amounts`` are those in formulas, else atomic. A
    file that states another ``unit`` or has no usable row is a UserFileError. Nothing is dropped for its value.
    """
    path = Path(path)
    if element_columns is not None and (formula_column or amounts) is not None:
        raise UserFileError("Give --element-columns, or --formula-column and --amounts, not both.")
    wanted = [value_column or target, formula_column, split_column, group_column]
    table = read_text_table(path, wanted, encoding=encoding, delimiter=delimiter, sheet=sheet)
    chosen = choose_columns(
        table,
        target,
        value_column=value_column,
        formula_column=formula_column,
        element_columns=element_columns,
        split_column=split_column,
        group_column=group_column,
    )
    notes, below = list(table.notes), table.rows[0] if chosen.unit_row is not None else []
    if chosen.unit_row is not None:
        table = replace(table, rows=table.rows[1:], lines=table.lines[1:])
        notes.append(f"the row below the header holds units: {bare_unit(chosen.unit_row)!r} for the values")
    columns, values = table.columns, table.columns[chosen.value]
    split = None if chosen.split is None else columns[chosen.split].cells
    group = None if chosen.group is None else columns[chosen.group].cells
    numbers = read_numbers(values.cells, decimal, lambda: table.decimal)
    beside = [(columns[at].name, columns[at].cells) for at in chosen.units]
    row_unit = chosen.unit_row and bare_unit(chosen.unit_row)
    found_unit = numbers.unit or row_unit or unit_beside(path, beside, values.cells)
    refuse_conflict(path, values.name, unit, found_unit)
    symbols, counted, _ = chosen.elements
    rows, percent = amounts_in(table, chosen.elements, decimal, below)
    if chosen.formula is None:
        formulas, no_formula = formulas_of(list(symbols.values()), rows, counted, percent=percent)
        notes += sums_of_atoms([columns[at].name for at in symbols], rows, formulas)
    else:
        formulas, no_formula, told = formulas_in(columns[chosen.formula].cells, table.lines, amounts)
        notes += told

    fractions, good, errors = parse_formulas(formulas)
    key = columns[next(iter(symbols)) if chosen.formula is None else chosen.formula]
    for i in sorted(errors.keys() & numbers.reasons.keys()):
        again = fold(key.cells[i]) == fold(key.name) or is_formula_name(key.cells[i])
        if again and values.cells[i] and fold(values.cells[i]) != fold(values.name):
            raise UserFileError(f"{path}: line {table.lines[i]} begins another table. Keep one.")
    found: dict[int, tuple[Kind, str]] = {i: ("fields", reason) for i, reason in table.surplus.items()}
    for i, reason in no_formula.items():
        found.setdefault(i, ("formula", reason))
    for i, error in errors.items():
        kind: Kind = "element" if isinstance(error, UnknownElementError) else "formula"
        found.setdefault(i, (kind, why_no_formula(formulas[i] or None, error)))
    for i, reason in numbers.reasons.items():
        found.setdefault(i, ("missing" if reason.startswith("the value is missing") else "value", reason))
    for i, text in enumerate(split or ()):
        if text.casefold() not in _SPLITS:
            found.setdefault(i, ("split", f"the split {text!r} is neither 'train' nor 'test'"))
    for i, text in enumerate(group or ()):
        if text.casefold() in ABSENT:
            found.setdefault(i, ("group", "the group is missing (where cells were merged, fill them all)"))
    kept = np.array([i for i in good if i not in found], dtype=np.int64)
    usable = [formulas[i] for i in kept]
    keys, hidden = composition_keys(fractions[np.isin(good, kept)]), refuse_capitals(usable)
    shown = [*(list(symbols)[:4] if chosen.formula is None else [chosen.formula]), chosen.value]
    problems = tuple(
        Problem(table.lines[i], reason, " | ".join(columns[at].cells[i][:40] for at in shown), kind)
        for i, (kind, reason) in sorted(found.items())
    )
    if not usable:
        examples = "; ".join(f"line {p.line}: {p.reason}" for p in problems[:3])
        raise UserFileError(
            f"None of the {len(problems)} rows of {path} is usable with formulas from {chosen.formula_name!r} and "
            f"values from {values.name!r} ({examples}). Choose the right columns; words cannot be values."
        )
    if chosen.formula is not None and hidden:
        raise UserFileError(f"{path}, column {chosen.formula_name!r}: {hidden}")
    frame = pd.DataFrame({"formula": pd.Series(usable, dtype=object), "composition": keys})
    frame["value"] = np.array(numbers.values, dtype=np.float64)[kept]
    frame["line"] = np.array(table.lines, dtype=np.int64)[kept]
    if split is not None:
        frame["split"] = [_SPLITS[split[i].casefold()] for i in kept]
    if group is not None:
        frame["named_group"] = pd.Series([group[i] for i in kept], dtype=object)
        frame["group"] = linked_groups(keys, frame["named_group"].tolist())
    if numbers.unit is not None:
        notes.append(f"the values carry the unit {numbers.unit!r}, which is taken off")
    if numbers.uncertain:
        notes.append(
            f"{len(numbers.uncertain)} value(s) carry an uncertainty, the first on line "
            f"{table.lines[numbers.uncertain[0]]}: the number is kept, the uncertainty left out"
        )
    if numbers.blanks:
        first = numbers.blanks[0]
        notes.append(
            f"{len(numbers.blanks)} value(s) hold blanks, the first on line {table.lines[first]}: "
            f"{values.cells[first]!r} is read as {numbers.values[first]:.15g}, one number"
        )
    noted, dialect = (*notes, *value_findings(frame)), replace(table.dialect, decimal=numbers.decimal)
    group_name = None if chosen.group is None else table.header[chosen.group]
    names = chosen.formula_name, values.name
    return UserTable(frame, problems, noted, dialect, *names, found_unit, group_name)
