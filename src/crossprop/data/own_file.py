"""A file of one's own, read whole: the rows that can be learnt from, and why each of the others cannot."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd

from crossprop.data.cleaning import EXCEL_DATES, why_no_formula
from crossprop.data.compositions import composition_keys, parse_formulas
from crossprop.data.own_columns import formula_column as guess_formula_column
from crossprop.data.own_columns import named_column, plain_formula
from crossprop.data.own_columns import value_column as guess_value_column
from crossprop.data.own_table import Dialect, TextTable, read_text_table
from crossprop.data.own_values import read_numbers
from crossprop.errors import OwnFileError, UnknownElementError

MIN_ROWS: Final = 20
"""Usable rows below which a file is refused: a hold-out, ten folds and a screening split need that many."""

Kind = Literal["fields", "formula", "element", "missing", "value", "split"]
_SPLITS: Final = {
    **dict.fromkeys(("train", "training", "learn", "learning"), "train"),
    **dict.fromkeys(("test", "testing", "holdout", "hold-out", "hold_out"), "test"),
}


@dataclass(frozen=True)
class Problem:
    """A row that cannot be learnt from.

    Attributes:
        line: Its line in the file (its row in a workbook).
        reason: Why, in plain words.
        text: What stands in its cells of formula and value.
        kind: What is wrong: the number of fields, the formula, an element outside the 86, no value, a value
            that is no number, the word in the split column.
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
        rows: Columns ``formula``, ``composition`` (key), ``value``, ``line``, and ``split`` (``train`` or
            ``test``) where a split column was named; in the file's order.
        problems: The rows that are not among them, in the file's order.
        notes: What was repaired, skipped or is worth knowing about the file.
        dialect: How the file was read.
        formula_column: Name of the column of formulas.
        value_column: Name of the column of values.
    """

    rows: pd.DataFrame
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    dialect: Dialect
    formula_column: str
    value_column: str

    @property
    def n_read(self) -> int:
        """Rows of the file, usable or not."""
        return len(self.rows) + len(self.problems)


def read_own_file(
    path: Path,
    *,
    target: str,
    formula_column: str | None = None,
    value_column: str | None = None,
    split_column: str | None = None,
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
    wanted = [value_column or target, *filter(None, (formula_column, split_column))]
    table = read_text_table(path, wanted, encoding=encoding, delimiter=delimiter, sheet=sheet)
    at_value = (
        named_column(path, table, value_column, "--value-column")
        if value_column is not None
        else guess_value_column(path, table, target)
    )
    at_split = None if split_column is None else named_column(path, table, split_column, "--split-column")
    at_formula = (
        named_column(path, table, formula_column, "--formula-column")
        if formula_column is not None
        else guess_formula_column(path, table, [at_value] if at_split is None else [at_value, at_split])
    )
    if at_formula == at_value:
        raise OwnFileError(
            f"The column {table.header[at_value]!r} cannot hold both formulas and values. Name two columns."
        )
    return _OwnReader(path, table, at_formula, at_value, at_split, decimal).read()


@dataclass(frozen=True)
class _OwnReader:
    """A table whose columns are known."""

    path: Path
    table: TextTable
    at_formula: int
    at_value: int
    at_split: int | None
    decimal: str | None

    def read(self) -> OwnTable:
        records = self.table.records
        formulas = [plain_formula(self._cell(i, self.at_formula)) for i in range(len(records))]
        formulas = [EXCEL_DATES.get(formula, formula) for formula in formulas]
        numbers = read_numbers([self._cell(i, self.at_value) for i in range(len(records))], self.decimal)
        fractions, good, errors = parse_formulas(formulas)
        problems: dict[int, Problem] = {}
        for i in range(len(records)):
            found = self._width_problem(i)
            if found is None and i in errors:
                element = isinstance(errors[i], UnknownElementError)
                found = ("element" if element else "formula", why_no_formula(formulas[i] or None))
            if found is None and i in numbers.reasons:
                reason = numbers.reasons[i]
                found = ("missing" if reason.startswith("the value is missing") else "value", reason)
            if found is None and self.at_split is not None and self._split(i) is None:
                word = self._cell(i, self.at_split).strip()
                found = ("split", f"{word!r} in the split column is neither 'train' nor 'test'")
            if found is not None:
                problems[i] = Problem(records[i].line, found[1], self._text(i), found[0])
        kept = np.array([i for i in good if i not in problems], dtype=np.int64)
        if not len(kept):
            raise OwnFileError(self._nothing_left(list(problems.values()), numbers.units))
        frame = pd.DataFrame(
            {
                "formula": pd.Series([formulas[i] for i in kept], dtype=object),
                "composition": composition_keys(fractions[np.isin(good, kept)]),
                "value": np.array([numbers.values[i] for i in kept], dtype=np.float64),
                "line": np.array([records[i].line for i in kept], dtype=np.int64),
            }
        )
        if self.at_split is not None:
            frame["split"] = [self._split(int(i)) for i in kept]
        header, dialect = self.table.header, self.table.dialect
        dialect = Dialect(
            dialect.encoding, dialect.delimiter, numbers.decimal, dialect.header_line, dialect.sheet
        )
        notes = (*self.table.notes, *self._repairs(formulas, problems))
        return OwnTable(
            frame,
            tuple(problems[i] for i in sorted(problems)),
            notes,
            dialect,
            header[self.at_formula],
            header[self.at_value],
        )

    def _cell(self, row: int, position: int) -> str:
        fields = self.table.records[row].fields
        return fields[position] if position < len(fields) else ""

    def _text(self, row: int) -> str:
        cells = (self._cell(row, position).strip()[:40] for position in (self.at_formula, self.at_value))
        return " | ".join(cells)

    def _split(self, row: int) -> str | None:
        assert self.at_split is not None
        return _SPLITS.get(self._cell(row, self.at_split).strip().casefold())

    def _width_problem(self, row: int) -> tuple[Kind, str] | None:
        """A row that is longer than the header has shifted cells: none of them can be trusted."""
        fields, width = self.table.records[row].fields, len(self.table.header)
        if not any(field.strip() for field in fields[width:]):
            return None
        hint = " (a comma within a cell needs quotes)" if self.table.dialect.delimiter == "," else ""
        return "fields", f"the row has {len(fields)} fields where the header has {width}{hint}"

    def _repairs(self, formulas: list[str], problems: dict[int, Problem]) -> list[str]:
        notes = []
        for what, repaired in (
            ("spreadsheet dates turned back into formulas", lambda raw, new: raw in EXCEL_DATES),
            ("typeset formulas rewritten in plain letters", lambda raw, new: raw not in EXCEL_DATES),
        ):
            rows = [
                (self.table.records[i].line, raw, new)
                for i, new in enumerate(formulas)
                if i not in problems
                and (raw := self._cell(i, self.at_formula).strip()) != new
                and repaired(raw, new)
            ]
            if rows:
                line, raw, new = rows[0]
                notes.append(f"{len(rows)} {what}, the first on line {line}: {raw} is read as {new}")
        return notes

    def _nothing_left(self, problems: list[Problem], units: dict[int, str]) -> str:
        examples = "; ".join(f"line {p.line}: {p.reason}" for p in problems[:3])
        usual = Counter(units.values()).most_common(1)
        hint = (
            f" {usual[0][1]} values carry {usual[0][0]!r}: remove it from the cells and add --unit '{usual[0][0]}'."
            if usual
            else " Check that the right columns were chosen."
        )
        return (
            f"None of the {len(problems)} rows of {self.path} is usable with formulas from "
            f"{self.table.header[self.at_formula]!r} and values from {self.table.header[self.at_value]!r} "
            f"({examples}).{hint}"
        )
