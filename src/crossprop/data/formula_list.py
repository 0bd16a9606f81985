"""Formulas to predict or to screen: from a file, a pipe or a table, with the other columns kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from crossprop.data.compositions import Amounts, parse_formulas, plain_formula, refuse_capitals
from crossprop.data.user_columns import (
    composed,
    elements_in,
    guess_formula_column,
    is_formula_name,
    named_column,
)
from crossprop.data.user_rows import formulas_in
from crossprop.data.user_table import (
    TextTable,
    decode,
    fold,
    is_comment,
    is_workbook,
    read_bytes,
    table_of_text,
    workbook_table,
)
from crossprop.errors import UserFileError


@dataclass(frozen=True)
class FormulaList:
    """Formulas that count atoms, n of them, whether they can be read or not.

    Attributes:
        formulas: Texts; empty where ``reasons`` says why there is none.
        lines: Line of each in its file.
        columns: All columns of the input, as texts, n rows; no columns where the input is a bare list.
        reasons: Why a row gives no formula, by position, where more is known than its text says.
        word: What ``lines`` count.
        written: The formulas as a file writes them.
    """

    formulas: list[str]
    lines: list[int]
    columns: pd.DataFrame
    reasons: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    word: str = "line"
    written: Sequence[str] = ()


def read_formula_list(
    source: Path | bytes,
    formula_column: str | None = None,
    *,
    sheet: str | None = None,
    element_columns: str | None = None,
    amounts: str = Amounts.ATOMIC,
) -> FormulaList:
    """Read a list of formulas, one a line, or a table that has a column of them, with or without a header.

    No row is lost: what is no formula stays in the list, and a first row of formulas is no header. ``source`` is a text
    file, a workbook, or the bytes that came through a pipe. Without ``formula_column`` the column that parses is taken;
    with ``element_columns`` (``atomic`` or ``weight``) every element has a column of amounts instead.

    Raises:
        UserFileError: The file cannot be read, holds nothing, or the column cannot be found.
    """
    path = source if isinstance(source, Path) else Path("the input")
    content = read_bytes(source) if isinstance(source, Path) else source
    wanted = [formula_column] if formula_column else []
    if is_workbook(content):
        table = workbook_table(path, set(map(fold, wanted)), sheet, headless=element_columns is None)
    elif sheet is not None:
        raise UserFileError(f"{path} is no workbook: it has no sheet {sheet!r}. Leave the sheet out.")
    else:
        text, _ = decode(path, content)
        if element_columns is None and (lines := _one_column(text)) is not None:
            return _from_lines(path, lines, formula_column, amounts)
        table = table_of_text(path, text, wanted, headless=element_columns is None)
    if element_columns is not None:
        if formula_column is not None:
            raise UserFileError("Give --formula-column or --element-columns, not both.")
        elements = elements_in(path, table, [], element_columns)
        formulas, reasons = composed(table, elements, element_columns)
        columns = _columns(table)
        columns[_different([*map(str, columns.columns), "formula"])[-1]] = formulas
        return FormulaList(
            formulas, table.lines, columns, reasons | _surplus(table), table.notes, written=formulas
        )
    if formula_column is not None:
        at = named_column(path, table, formula_column, "--formula-column")
    else:
        at = guess_formula_column(path, table)
        if table.dialect.header_line and not is_formula_name(table.header[at]):
            table = _without_header(table, at)
    cells = table.column(at)
    formulas, reasons = formulas_in(cells, amounts)
    reasons |= _surplus(table)
    return _checked(
        path, FormulaList(formulas, table.lines, _columns(table), reasons, table.notes, written=cells)
    )


def _one_column(text: str) -> list[tuple[int, str]] | None:
    """Numbered lines of a text that is a bare list, and not a table; comments are left out."""
    raw = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip() and not is_comment(line)]
    lines = [(i, line.strip().strip('"')) for i, line in raw]
    sample = [line for _, line in lines[:200]]
    separated = [any(sign in line for sign in ",;\t|") for _, line in raw[:200]]
    if separated and separated[0] and sum(separated) >= 0.5 * len(separated):
        return None
    blanks = sum(" " in line for line in sample)
    formulas = sum(not parse_formulas(line.split())[2] for line in sample)
    header = bool(sample) and is_formula_name(sample[0])
    return (
        lines
        if header or blanks + sum(separated) < 0.5 * len(sample) or formulas >= 0.5 * len(sample)
        else None
    )


def _from_lines(
    path: Path, lines: Sequence[tuple[int, str]], formula_column: str | None, amounts: str
) -> FormulaList:
    if lines and (
        is_formula_name(lines[0][1]) or (formula_column and fold(lines[0][1]) == fold(formula_column))
    ):
        if len(lines) == 1:
            raise UserFileError(f"{path} holds a header ({lines[0][1]!r}) but no formula below it.")
        lines = lines[1:]
    elif formula_column is not None:
        raise UserFileError(f"{path} is a list without a header: it has no column {formula_column!r}.")
    if not lines:
        raise UserFileError(f"{path} is empty. Give one formula a line, or a table with a header.")
    written = [line for _, line in lines]
    formulas, reasons = formulas_in(written, amounts)
    columns = pd.DataFrame(index=range(len(lines)))
    numbers = [number for number, _ in lines]
    return _checked(path, FormulaList(formulas, numbers, columns, reasons, written=written))


def _checked(path: Path, read: FormulaList) -> FormulaList:
    _, good, _ = parse_formulas(read.formulas)
    if hidden := refuse_capitals([read.formulas[i] for i in good if i not in read.reasons]):
        raise UserFileError(f"{path}: {hidden}")
    return read


def _without_header(table: TextTable, at: int) -> TextTable:
    """The table with its header as the first row, where the header holds a formula itself."""
    if parse_formulas([plain_formula(table.header[at])])[2]:
        return table
    line = table.dialect.header_line
    return replace(
        table,
        header=tuple(f"column_{i}" for i in range(1, len(table.header) + 1)),
        rows=[list(table.header), *table.rows],
        lines=[line, *table.lines],
        notes=(*table.notes, f"line {line} holds a formula: the table is read without a header"),
    )


def _surplus(table: TextTable) -> dict[int, str]:
    width = len(table.header)
    return {
        i: f"the row has {len(row)} fields where the header has {width}"
        for i, row in enumerate(table.rows)
        if any(row[width:])
    }


def _columns(table: TextTable) -> pd.DataFrame:
    width = len(table.header)
    rows = [row[:width] for row in table.rows]
    return pd.DataFrame(rows, columns=_different(table.header), dtype=object)


def _different(names: Sequence[str]) -> list[str]:
    """Names of columns without repetitions: the second 'K' is 'K_2'."""
    made: list[str] = []
    for name in names:
        count = 1
        while (different := name if count == 1 else f"{name}_{count}") in made:
            count += 1
        made.append(different)
    return made
