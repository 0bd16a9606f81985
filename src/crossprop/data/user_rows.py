"""A user's file, read whole: what stands in the columns that are meant, and which rows cannot be used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd

from crossprop.data.cleaning import EXCEL_DATES, why_no_formula
from crossprop.data.compositions import (
    Amounts,
    amounts_of,
    atomic_formula,
    composition_keys,
    formula_warnings,
    parse_formulas,
    plain_formula,
    refuse_capitals,
)
from crossprop.data.prepared import together_in
from crossprop.data.splits import linked_groups
from crossprop.data.units import measures
from crossprop.data.user_columns import (
    composed,
    elements_in,
    guess_formula_column,
    guess_value_column,
    named_column,
    refuse_formulas,
    table_sign,
)
from crossprop.data.user_table import Dialect, TextTable, bare_name, fold, read_text_table
from crossprop.data.user_values import (
    bare_unit,
    contradicting,
    is_number,
    is_unit,
    read_numbers,
    unit_in,
    value_findings,
)
from crossprop.errors import UnknownElementError, UserFileError

MIN_ROWS: Final = 20
"""Usable rows below which a file is refused: a hold-out, ten folds and a screening split need that many."""

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
    """What a file holds.

    Attributes:
        rows: Columns ``formula`` (amounts of atoms), ``composition`` (key), ``value``, ``line``, ``split`` (``train``
            or ``test``) where a split column was named, ``named_group`` and ``group`` (key of the rows that stay
            together) where a column of groups was; in the file's order.
        problems: The rows that are not among them, in the file's order.
        notes: What was repaired, skipped or is worth a second look.
        unit: Unit that the file itself states: behind the numbers, or below the header.
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
    """Read a CSV, TSV, semicolon-separated or Excel file whose dialect is not known.

    Rows that repeat a composition stay: they are noted, and never stand on both sides of a split. Nothing is dropped
    for its value.

    Args:
        path: The file.
        target: Name of the property; the column of this name holds the values where there is no ``value_column``.
        formula_column: Column of the formulas; the one that parses as such if ``None``.
        value_column: Column of the values.
        split_column: Column that says ``train`` or ``test`` for every row.
        group_column: Column that says what stays on one side of every split: a paper, a series of samples.
        element_columns: ``atomic`` or ``weight``, where every element has a column of amounts, fractions or percents
            instead of a formula.
        amounts: What the amounts in formulas are, ``atomic`` or ``weight``.
        unit: Unit that the user states; a file that states another one is refused.
        sheet: Sheet of a workbook.
        encoding: Encoding; guessed if ``None``.
        delimiter: Separator; guessed if ``None``.
        decimal: ``.`` or ``,``; guessed if ``None``.

    Raises:
        UserFileError: The file is no table, a column cannot be found, or no row is usable. Bad rows raise
            nothing: they are :attr:`UserTable.problems`.
    """
    path = Path(path)
    if decimal not in (None, ".", ","):
        raise UserFileError(f"{decimal!r} is no sign of decimals. Choose '.' or ','.")
    if element_columns is not None and formula_column is not None:
        raise UserFileError("Give --formula-column or --element-columns, not both.")
    wanted = [value_column or target, *filter(None, (formula_column, split_column, group_column))]
    table = read_text_table(path, wanted, encoding=encoding, delimiter=delimiter, sheet=sheet)
    at_value = (
        named_column(path, table, value_column, "--value-column")
        if value_column is not None
        else guess_value_column(path, table, target)
    )
    if formula_column is None or fold(formula_column) != fold(table.header[at_value]):
        refuse_formulas(path, table, at_value)
    at_split = None if split_column is None else named_column(path, table, split_column, "--split-column")
    at_group = None if group_column is None else named_column(path, table, group_column, "--group-column")
    taken = [at for at in (at_value, at_split, at_group) if at is not None]
    if len(set(taken)) < len(taken):
        raise UserFileError(
            "The columns of values, split and groups have to be different ones. Name each once."
        )
    elements: Mapping[int, str] = {}
    at_formula = -1
    if element_columns is not None:
        elements = elements_in(path, table, taken, element_columns)
        formula_name = f"{len(elements)} columns of elements ({element_columns})"
    else:
        at_formula = (
            named_column(path, table, formula_column, "--formula-column")
            if formula_column is not None
            else guess_formula_column(path, table, taken)
        )
        formula_name = table.header[at_formula]
    if at_formula in taken:
        raise UserFileError(
            f"The column {formula_name!r} cannot hold both formulas and "
            f"{'values' if at_formula == at_value else 'something else'}. Name two columns."
        )
    shown = [*([at_formula] if at_formula >= 0 else list(elements)[:4]), at_value]
    row_unit = _unit_row(table, at_value, at_formula)
    if row_unit is not None:
        table = replace(table, rows=table.rows[1:], lines=table.lines[1:])

    numbers = read_numbers(table.column(at_value), decimal, lambda: table_sign(table))
    found_unit = numbers.unit or row_unit or _unit_column(path, table, at_value)
    _refuse_unit(path, unit, found_unit, table.header[at_value])
    notes = list(table.notes)
    if elements:
        formulas, no_formula = composed(table, elements, element_columns or amounts, decimal)
    else:
        formulas, no_formula = formulas_in(table.column(at_formula), amounts)
        notes += _repairs(table, at_formula, formulas, no_formula, amounts)
    fractions, good, errors = parse_formulas(formulas)
    problems: dict[int, Problem] = {}
    for i, line in enumerate(table.lines):
        found: tuple[Kind, str] | None = _too_long(table, i)
        if found is None and i in no_formula:
            found = "formula", no_formula[i]
        elif found is None and i in errors:
            unknown = isinstance(errors[i], UnknownElementError)
            found = ("element" if unknown else "formula"), why_no_formula(formulas[i] or None)
        elif found is None and i in numbers.reasons:
            reason = numbers.reasons[i]
            found = ("missing" if reason.startswith("the value is missing") else "value"), reason
        found = found or _label_problem(table.rows[i], at_split, at_group)
        if found is not None:
            text = " | ".join(table.rows[i][position][:40] for position in shown)
            problems[i] = Problem(line, found[1], text, found[0])
    kept = np.array([i for i in good if i not in problems], dtype=np.int64)
    if not len(kept):
        bad = list(problems.values())
        examples = "; ".join(f"line {p.line}: {p.reason}" for p in bad[:3])
        only_words = all(p.kind == "value" for p in bad)
        hint = " crossprop learns numbers: words cannot be values." if only_words else ""
        raise UserFileError(
            f"None of the {len(bad)} rows of {path} is usable with formulas from {formula_name!r} and values from "
            f"{table.header[at_value]!r} ({examples}).{hint} Check that the right columns were chosen."
        )
    chosen = [formulas[i] for i in kept]
    if not elements and (hidden := refuse_capitals(chosen)):
        raise UserFileError(f"{path}, column {formula_name!r}: {hidden}")
    frame = pd.DataFrame(
        {
            "formula": pd.Series(chosen, dtype=object),
            "composition": composition_keys(fractions[np.isin(good, kept)]),
            "value": np.array([numbers.values[i] for i in kept], dtype=np.float64),
            "line": np.array([table.lines[i] for i in kept], dtype=np.int64),
        }
    )
    if at_split is not None:
        frame["split"] = [_SPLITS[table.rows[i][at_split].casefold()] for i in kept]
    if at_group is not None:
        named = [table.rows[i][at_group] for i in kept]
        frame["named_group"] = pd.Series(named, dtype=object)
        frame["group"] = linked_groups(frame["composition"].to_numpy(), named)
    if row_unit is not None:
        notes.append(f"the row below the header holds units: {row_unit!r} for the values")
    if numbers.unit is not None:
        notes.append(f"the values carry the unit {numbers.unit!r}, which is taken off")
    if numbers.uncertain:
        first = table.lines[numbers.uncertain[0]]
        notes.append(
            f"{len(numbers.uncertain)} value(s) carry an uncertainty, the first on line {first}: "
            "the number is kept, the uncertainty left out"
        )
    return UserTable(
        frame,
        tuple(problems[i] for i in sorted(problems)),
        (*notes, *value_findings(frame)),
        replace(table.dialect, decimal=numbers.decimal),
        formula_name,
        table.header[at_value],
        found_unit,
        None if at_group is None else table.header[at_group],
    )


def formulas_in(cells: Sequence[str], amounts: str = Amounts.ATOMIC) -> tuple[list[str], dict[int, str]]:
    """Formulas of atoms in a column's cells, spreadsheet dates turned back; by position why weights give none."""
    formulas = [EXCEL_DATES.get(text, text) for text in map(plain_formula, cells)]
    reasons: dict[int, str] = {}
    if amounts == Amounts.ATOMIC:
        return formulas, reasons
    _, _, errors = parse_formulas(formulas, amounts)
    for i, text in enumerate(formulas):
        if i in errors:
            reasons[i] = str(errors[i])
        else:
            formulas[i] = atomic_formula(*zip(*amounts_of(text, amounts), strict=True))
    return formulas, reasons


_FACTOR: Final = re.compile(r"(?<!\d)10\s*(?:\^|\*\*)\s*[+-]?\d+|(?<!\d)10⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+|[x×*·]\s*10{2,}$")


def _refuse_unit(path: Path, stated: str | None, found: str | None, header: str) -> None:
    """Refuse a file that states another unit than the user, or two."""
    of_header = unit_in(header)
    factor = _FACTOR.search(header)
    if factor and not (of_header and factor[0] in of_header):
        raise UserFileError(
            f"The column {header!r} of {path} names a power of ten, {factor[0]!r}, outside its unit: were the values "
            "multiplied or divided by it? Convert them, and rename the column."
        )
    for first, second in ((stated, found), (stated, of_header), (found, of_header)):
        if first and second and contradicting(first, second):
            where = f"the column {header!r} of {path} states {second!r}"
            what = (
                f"--unit says {first!r}, but {where}" if first == stated else f"{where}, its cells {first!r}"
            )
            raise UserFileError(f"{what}. Convert the values, or correct the unit.")


def _unit_column(path: Path, table: TextTable, at_value: int) -> str | None:
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
                f"The column {name!r} of {path} states several units: {', '.join(map(repr, stated[:5]))}. Convert the "
                "values to one of them."
            )
        if stated:
            return stated[0]
    return None


def _unit_row(table: TextTable, at_value: int, at_formula: int) -> str | None:
    """The unit of the values, where the first row below the header holds units and nothing else."""
    fields = table.rows[0]
    if not is_unit(fields[at_value]) or any(map(is_number, fields)) or len(table.rows) < 2:
        return None
    if at_formula >= 0:
        formula = plain_formula(fields[at_formula])
        if not parse_formulas([formula])[2] or len(formula) > 3:
            return None
    return bare_unit(fields[at_value]) if any(map(is_number, table.column(at_value)[1:])) else None


def _too_long(table: TextTable, row: int) -> tuple[Kind, str] | None:
    """A row that is longer than the header has shifted cells: none of them can be trusted."""
    fields, width = table.rows[row], len(table.header)
    if not any(fields[width:]):
        return None
    hint = " (a comma within a cell needs quotes)" if table.dialect.delimiter == "," else ""
    return "fields", f"the row has {len(fields)} fields where the header has {width}{hint}"


def _label_problem(
    fields: Sequence[str], at_split: int | None, at_group: int | None
) -> tuple[Kind, str] | None:
    if at_split is not None and fields[at_split].casefold() not in _SPLITS:
        return "split", f"{fields[at_split]!r} in the split column is neither 'train' nor 'test'"
    if at_group is not None and not fields[at_group]:
        return "group", "the group is missing (where cells were merged, fill them all)"
    return None


def _repairs(
    table: TextTable, at: int, formulas: Sequence[str], no_formula: Mapping[int, str], amounts: str
) -> list[str]:
    """What was changed in the column of formulas, and what is doubtful there, each with the first line."""
    if amounts == Amounts.WEIGHT:
        return [f"{len(formulas) - len(no_formula)} formulas in weight percent turned into amounts of atoms"]
    told: dict[str, list[str]] = {}
    for line, raw, new in zip(table.lines, table.column(at), formulas, strict=True):
        found = list(formula_warnings(new))
        if raw in EXCEL_DATES:
            told.setdefault("spreadsheet dates turned back into formulas", []).append(
                f"{line}: {raw} is read as {new}"
            )
        elif raw != new and not parse_formulas([new])[2]:
            told.setdefault("typeset formulas rewritten in plain letters", []).append(
                f"{line}: {raw} is read as {new}"
            )
        if found:
            told.setdefault("doubtful formulas, kept", []).append(f"{line}: {found[0]}")
    return [f"{len(lines)} {what}, the first on line {lines[0]}" for what, lines in told.items()]
