"""A user's file, read whole: what stands in the columns that are meant, and which rows cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd

from crossprop.data.cleaning import why_no_formula
from crossprop.data.compositions import (
    Amounts,
    composition_keys,
    parse_formulas,
    plain_formula,
    refuse_capitals,
)
from crossprop.data.prepared import together_in
from crossprop.data.splits import linked_groups
from crossprop.data.units import bare_unit, contradicting, measures, refuse_contradiction
from crossprop.data.user_columns import (
    composed,
    elements_in,
    formula_notes,
    formulas_in,
    guess_formula_column,
    named_column,
    table_sign,
    value_column_of,
)
from crossprop.data.user_summary import value_findings
from crossprop.data.user_table import Dialect, TextTable, bare_name, fold, read_text_table
from crossprop.data.user_values import is_number, is_unit, read_numbers
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
    amounts: str = Amounts.ATOMIC,
    unit: str | None = None,
    sheet: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
) -> UserTable:
    """Read a CSV, TSV, semicolon-separated or Excel file whose dialect is not known; what is ``None`` is guessed.

    The values stand in ``value_column``, or in the column named like the ``target``. ``split_column`` says ``train`` or
    ``test`` for every row, ``group_column`` what stays on one side of every split. With ``element_columns`` (``atomic``
    or ``weight``) every element has a column of amounts; ``amounts`` is the kind of those in formulas. A file that
    states another ``unit`` or has no usable row is a UserFileError. Nothing is dropped for its value.
    """
    path = Path(path)
    if decimal not in (None, ".", ","):
        raise UserFileError(f"{decimal!r} is no sign of decimals. Choose '.' or ','.")
    if element_columns is not None and formula_column is not None:
        raise UserFileError("Give --formula-column or --element-columns, not both.")
    wanted = [value_column or target, formula_column, split_column, group_column]
    table = read_text_table(path, wanted, encoding=encoding, delimiter=delimiter, sheet=sheet)
    at_value = value_column_of(table, value_column, target, formula_column)
    at_split = None if split_column is None else named_column(table, split_column, "--split-column")
    at_group = None if group_column is None else named_column(table, group_column, "--group-column")
    taken = [at for at in (at_value, at_split, at_group) if at is not None]
    if len(set(taken)) < len(taken):
        raise UserFileError("Columns of values, split and groups have to be different ones. Name each once.")
    elements: Mapping[int, str] = {}
    at_formula = -1
    if element_columns is not None:
        elements = elements_in(table, taken, element_columns)
        formula_name = f"{len(elements)} columns of elements ({element_columns})"
    else:
        if formula_column is None:
            at_formula = guess_formula_column(table, taken)
        else:
            at_formula = named_column(table, formula_column, "--formula-column")
        formula_name = table.header[at_formula]
    if at_formula in taken:
        raise UserFileError(f"The column {formula_name!r} cannot hold both formulas and others. Name two.")
    notes = list(table.notes)
    row_unit = _unit_row(table, at_value, at_formula)
    if row_unit is not None:
        table = replace(table, rows=table.rows[1:], lines=table.lines[1:])
        notes.append(f"the row below the header holds units: {row_unit!r} for the values")
    numbers = read_numbers(table.column(at_value), decimal, lambda: table_sign(table))
    found_unit = numbers.unit or row_unit or _unit_column(table, at_value)
    refuse_contradiction(str(path), table.header[at_value], unit, found_unit)
    if elements:
        formulas, no_formula = composed(table, elements, element_columns or amounts, decimal)
    else:
        cells = table.column(at_formula)
        formulas, no_formula = formulas_in(cells, amounts)
        notes += formula_notes(table.lines, cells, formulas, amounts)
    fractions, good, errors = parse_formulas(formulas)

    found: dict[int, tuple[Kind, str]] = {i: ("fields", reason) for i, reason in table.surplus.items()}
    for i, reason in no_formula.items():
        found.setdefault(i, ("formula", reason))
    for i, error in errors.items():
        kind: Kind = "element" if isinstance(error, UnknownElementError) else "formula"
        found.setdefault(i, (kind, why_no_formula(formulas[i] or None)))
    for i, reason in numbers.reasons.items():
        found.setdefault(i, ("missing" if reason.startswith("the value is missing") else "value", reason))
    for i, row in enumerate(table.rows):
        if at_split is not None and row[at_split].casefold() not in _SPLITS:
            found.setdefault(i, ("split", f"the split {row[at_split]!r} is neither 'train' nor 'test'"))
        if at_group is not None and not row[at_group]:
            found.setdefault(i, ("group", "the group is missing (where cells were merged, fill them all)"))
    shown = [*([at_formula] if at_formula >= 0 else list(elements)[:4]), at_value]
    problems = tuple(
        Problem(table.lines[i], reason, " | ".join(table.rows[i][at][:40] for at in shown), kind)
        for i, (kind, reason) in sorted(found.items())
    )
    kept = np.array([i for i in good if i not in found], dtype=np.int64)
    if not len(kept):
        examples = "; ".join(f"line {p.line}: {p.reason}" for p in problems[:3])
        raise UserFileError(
            f"None of the {len(problems)} rows of {path} is usable with formulas from {formula_name!r} and values from "
            f"{table.header[at_value]!r} ({examples}). Choose the right columns; words cannot be values."
        )
    chosen = [formulas[i] for i in kept]
    if not elements and (hidden := refuse_capitals(chosen)):
        raise UserFileError(f"{path}, column {formula_name!r}: {hidden}")
    frame = pd.DataFrame(
        {
            "formula": pd.Series(chosen, dtype=object),
            "composition": composition_keys(fractions[np.isin(good, kept)]),
            "value": np.array(numbers.values, dtype=np.float64)[kept],
            "line": np.array(table.lines, dtype=np.int64)[kept],
        }
    )
    if at_split is not None:
        frame["split"] = [_SPLITS[table.rows[i][at_split].casefold()] for i in kept]
    if at_group is not None:
        frame["named_group"] = pd.Series([table.rows[i][at_group] for i in kept], dtype=object)
        frame["group"] = linked_groups(frame["composition"].to_numpy(), frame["named_group"].tolist())
    if numbers.unit is not None:
        notes.append(f"the values carry the unit {numbers.unit!r}, which is taken off")
    if numbers.uncertain:
        notes.append(
            f"{len(numbers.uncertain)} value(s) carry an uncertainty, the first on line "
            f"{table.lines[numbers.uncertain[0]]}: the number is kept, the uncertainty left out"
        )
    return UserTable(
        frame,
        problems,
        (*notes, *value_findings(frame)),
        replace(table.dialect, decimal=numbers.decimal),
        formula_name,
        table.header[at_value],
        found_unit,
        None if at_group is None else table.header[at_group],
    )


def _unit_column(table: TextTable, at_value: int) -> str | None:
    """The unit that a column ``unit`` beside the values states; several units are refused."""
    value = bare_name(table.header[at_value])
    names = {name for word in ("unit", "units") for name in (word, f"{value} {word}")}
    for at, name in enumerate(table.header):
        if fold(name) not in names or at == at_value:
            continue
        values = zip(table.column(at), table.column(at_value), strict=True)
        stated = sorted({bare_unit(unit) for unit, text in values if is_number(text) and measures(unit)})
        if any(contradicting(stated[0], other) for other in stated[1:]):
            raise UserFileError(
                f"The column {name!r} of {table.path} states several units: {', '.join(map(repr, stated[:5]))}. "
                "Convert the values to one of them."
            )
        if stated:
            return stated[0]
    return None


def _unit_row(table: TextTable, at_value: int, at_formula: int) -> str | None:
    """The unit of the values, where the first row below the header holds units and nothing else."""
    fields = table.rows[0]
    formula = plain_formula(fields[at_formula]) if at_formula >= 0 else ""
    is_formula = at_formula >= 0 and (len(formula) > 3 or not parse_formulas([formula])[2])
    if is_formula or not is_unit(fields[at_value]) or any(map(is_number, fields)):
        return None
    return bare_unit(fields[at_value]) if any(map(is_number, table.column(at_value)[1:])) else None
