"""A file of one's own, read whole: which columns are meant, and what stands in them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd

from crossprop.data.cleaning import EXCEL_DATES, why_no_formula
from crossprop.data.compositions import composition_keys, parse_formulas
from crossprop.data.prepared import together_in
from crossprop.data.splits import linked_groups
from crossprop.data.user_columns import (
    Columns,
    ElementColumns,
    elements_in,
    formulas_of,
    named_column,
    plain_formula,
    read_amount,
    refuse_formulas,
)
from crossprop.data.user_columns import formula_column as guess_formula_column
from crossprop.data.user_columns import value_column as guess_value_column
from crossprop.data.user_table import Dialect, TextTable, fold, read_text_table
from crossprop.data.user_values import bare_unit, is_number, is_unit, read_numbers
from crossprop.errors import OwnFileError, UnknownElementError

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


_SPLITS: Final = {
    **dict.fromkeys(("train", "training", "learn", "learning"), "train"),
    **dict.fromkeys(("test", "testing", "holdout", "hold-out", "hold_out"), "test"),
}


@dataclass(frozen=True)
class OwnReader:
    """A table whose columns are known.

    Attributes:
        path: The file, for messages.
        table: What stands in it.
        columns: Where formulas, values and the rest stand.
        decimal: Sign of the decimals; guessed if ``None``.
    """

    path: Path
    table: TextTable
    columns: Columns
    decimal: str | None

    def read(self) -> OwnTable:
        """Read every row.

        Raises:
            OwnFileError: No row is usable, or the sign of the decimals cannot be told.
        """
        unit_row = self._unit_row()
        if unit_row is not None:
            rest = replace(self.table, records=self.table.records[1:])
            return replace(self, table=rest)._read(unit_row)
        return self._read(None)

    def _read(self, unit_row: str | None) -> OwnTable:
        records, columns = self.table.records, self.columns
        numbers = read_numbers(self._column(columns.value), self.decimal)
        formulas, no_formula = self._formulas()
        fractions, good, errors = parse_formulas(formulas)
        problems: dict[int, Problem] = {}
        for i in range(len(records)):
            found = self._width_problem(i)
            if found is None and i in no_formula:
                found = ("formula", no_formula[i])
            if found is None and i in errors:
                element = isinstance(errors[i], UnknownElementError)
                found = ("element" if element else "formula", why_no_formula(formulas[i] or None))
            if found is None and i in numbers.reasons:
                reason = numbers.reasons[i]
                found = ("missing" if reason.startswith("the value is missing") else "value", reason)
            found = found or self._label_problem(i)
            if found is not None:
                problems[i] = Problem(records[i].line, found[1], self._text(i), found[0])
        kept = np.array([i for i in good if i not in problems], dtype=np.int64)
        if not len(kept):
            raise OwnFileError(self._nothing_left(list(problems.values())))
        frame = pd.DataFrame(
            {
                "formula": pd.Series([formulas[i] for i in kept], dtype=object),
                "composition": composition_keys(fractions[np.isin(good, kept)]),
                "value": np.array([numbers.values[i] for i in kept], dtype=np.float64),
                "line": np.array([records[i].line for i in kept], dtype=np.int64),
            }
        )
        if columns.split is not None:
            frame["split"] = [self._split(int(i)) for i in kept]
        if columns.group is not None:
            named = [self._cell(int(i), columns.group).strip() for i in kept]
            frame["named_group"] = pd.Series(named, dtype=object)
            frame["group"] = linked_groups(frame["composition"].to_numpy(), named)
        unit = numbers.unit or unit_row
        notes = [*self.table.notes, *self._repairs(formulas, problems)]
        if unit_row is not None:
            notes.append(f"the row below the header holds units: {unit_row!r} for the values")
        if numbers.unit is not None:
            notes.append(f"the values carry the unit {numbers.unit!r}, which is taken off")
        if numbers.uncertain:
            first = records[numbers.uncertain[0]].line
            notes.append(
                f"{len(numbers.uncertain)} value(s) carry an uncertainty, the first on line {first}: "
                "the number is kept, the uncertainty left out"
            )
        return OwnTable(
            frame,
            tuple(problems[i] for i in sorted(problems)),
            tuple(notes),
            replace(self.table.dialect, decimal=numbers.decimal),
            self._formula_name(),
            self.table.header[columns.value],
            unit,
            None if columns.group is None else self.table.header[columns.group],
        )

    def _formulas(self) -> tuple[list[str], dict[int, str]]:
        """Formula of every row; from columns of elements, with the reasons where they give none."""
        columns = self.columns
        if columns.formula is not None:
            formulas = [plain_formula(cell) for cell in self._column(columns.formula)]
            return [EXCEL_DATES.get(formula, formula) for formula in formulas], {}
        amounts = []
        for position in columns.elements:
            texts = self._column(position)
            numbers = read_numbers(texts, self.decimal)
            amounts.append([read_amount(t, v) for t, v in zip(texts, numbers.values, strict=True)])
        kind = columns.amounts or ElementColumns.ATOMIC
        return formulas_of(list(columns.elements.values()), list(zip(*amounts, strict=True)), kind)

    def _formula_name(self) -> str:
        columns = self.columns
        if columns.formula is not None:
            return self.table.header[columns.formula]
        return f"{len(columns.elements)} columns of elements ({columns.amounts})"

    def _column(self, position: int) -> list[str]:
        return [self._cell(i, position) for i in range(len(self.table.records))]

    def _cell(self, row: int, position: int) -> str:
        fields = self.table.records[row].fields
        return fields[position] if position < len(fields) else ""

    @cached_property
    def _shown(self) -> tuple[int, ...]:
        """Columns whose cells are repeated where a row is refused."""
        columns = self.columns
        of_formula = [columns.formula] if columns.formula is not None else list(columns.elements)[:4]
        return (*of_formula, columns.value)

    def _text(self, row: int) -> str:
        return " | ".join(self._cell(row, position).strip()[:40] for position in self._shown)

    def _split(self, row: int) -> str | None:
        assert self.columns.split is not None
        return _SPLITS.get(self._cell(row, self.columns.split).strip().casefold())

    def _label_problem(self, row: int) -> tuple[Kind, str] | None:
        columns = self.columns
        if columns.split is not None and self._split(row) is None:
            word = self._cell(row, columns.split).strip()
            return "split", f"{word!r} in the split column is neither 'train' nor 'test'"
        if columns.group is not None and not self._cell(row, columns.group).strip():
            return "group", "the group is missing (where cells were merged, fill them all)"
        return None

    def _unit_row(self) -> str | None:
        """The unit of the values, where the first row below the header holds units and nothing else."""
        fields = self.table.records[0].fields
        unit, columns = self._cell(0, self.columns.value), self.columns
        if not is_unit(unit) or any(is_number(field) for field in fields) or len(self.table.records) < 2:
            return None
        if columns.formula is not None:
            formula = plain_formula(self._cell(0, columns.formula))
            if parse_formulas([formula])[2] == {} or len(formula) > 3:
                return None
        return bare_unit(unit) if any(is_number(cell) for cell in self._column(columns.value)[1:]) else None

    def _width_problem(self, row: int) -> tuple[Kind, str] | None:
        """A row that is longer than the header has shifted cells: none of them can be trusted."""
        fields, width = self.table.records[row].fields, len(self.table.header)
        if not any(field.strip() for field in fields[width:]):
            return None
        hint = " (a comma within a cell needs quotes)" if self.table.dialect.delimiter == "," else ""
        return "fields", f"the row has {len(fields)} fields where the header has {width}{hint}"

    def _repairs(self, formulas: list[str], problems: dict[int, Problem]) -> list[str]:
        at = self.columns.formula
        if at is None:
            return []
        changed = [
            (self.table.records[i].line, raw, new)
            for i, new in enumerate(formulas)
            if i not in problems and (raw := self._cell(i, at).strip()) != new
        ]
        dates = [row for row in changed if row[1] in EXCEL_DATES]
        typeset = [row for row in changed if row[1] not in EXCEL_DATES]
        whats = ("spreadsheet dates turned back into formulas", "typeset formulas rewritten in plain letters")
        return [
            f"{len(rows)} {what}, the first on line {rows[0][0]}: {rows[0][1]} is read as {rows[0][2]}"
            for what, rows in zip(whats, (dates, typeset), strict=True)
            if rows
        ]

    def _nothing_left(self, problems: list[Problem]) -> str:
        examples = "; ".join(f"line {p.line}: {p.reason}" for p in problems[:3])
        kinds = Counter(p.kind for p in problems)
        hint = " crossprop learns numbers: words cannot be values." if kinds["value"] == len(problems) else ""
        return (
            f"None of the {len(problems)} rows of {self.path} is usable with formulas from "
            f"{self._formula_name()!r} and values from "
            f"{self.table.header[self.columns.value]!r} ({examples}).{hint} Check that the right columns were chosen."
        )


def read_own_file(
    path: Path,
    *,
    target: str,
    formula_column: str | None = None,
    value_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    element_columns: str | None = None,
    sheet: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
) -> OwnTable:
    """Read a CSV, TSV, semicolon-separated or Excel file whose dialect is not known.

    Rows that repeat a composition stay: they are noted, and never stand on both sides of a split. Nothing is
    dropped for its value.

    Args:
        path: The file.
        target: Name of the property; the column of this name holds the values unless ``value_column`` says
            otherwise.
        formula_column: Column of the formulas; the one that parses as such if ``None``.
        value_column: Column of the values.
        split_column: Column that says ``train`` or ``test`` for every row.
        group_column: Column that says what stays on one side of every split: a paper, a series of samples.
        element_columns: ``atomic`` or ``weight``, where every element has a column of amounts, fractions or percents
            instead of a formula.
        sheet: Sheet of a workbook.
        encoding: Encoding; guessed if ``None``.
        delimiter: Separator; guessed if ``None``.
        decimal: ``.`` or ``,``; guessed if ``None``.

    Raises:
        OwnFileError: The file is no table, a column cannot be found, or no row is usable. Bad rows raise
            nothing: they are :attr:`OwnTable.problems`.
    """
    path = Path(path)
    if decimal not in (None, ".", ","):
        raise OwnFileError(f"{decimal!r} is no sign of decimals. Choose '.' or ','.")
    if element_columns is not None and formula_column is not None:
        raise OwnFileError("Give --formula-column or --element-columns, not both.")
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
        raise OwnFileError(
            "The columns of values, split and groups have to be different ones. Name each once."
        )
    if element_columns is not None:
        if element_columns not in tuple(ElementColumns):
            raise OwnFileError(
                f"{element_columns!r} is no kind of amount. Choose {' or '.join(ElementColumns)}."
            )
        elements, kind = elements_in(path, table, taken), ElementColumns(element_columns)
        columns = Columns(None, at_value, at_split, at_group, elements, kind)
        return OwnReader(path, table, columns, decimal).read()
    if formula_column is not None:
        at_formula = named_column(path, table, formula_column, "--formula-column")
    else:
        at_formula = guess_formula_column(path, table, taken)
    if at_formula in taken:
        raise OwnFileError(
            f"The column {table.header[at_formula]!r} cannot hold both formulas and "
            f"{'values' if at_formula == at_value else 'something else'}. Name two columns."
        )
    return OwnReader(path, table, Columns(at_formula, at_value, at_split, at_group), decimal).read()
