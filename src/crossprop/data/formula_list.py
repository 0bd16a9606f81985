"""Formulas to predict or to screen: from a file, a pipe or a table, with the other columns kept."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from crossprop.data.compositions import Amounts, parse_formulas, plain_formula, refuse_capitals
from crossprop.data.user_columns import amounts_in, elements_in, guess_formula_column, named_column
from crossprop.data.user_formulas import formulas_in, formulas_of, sums_of_atoms
from crossprop.data.user_table import TextTable, is_formula_name, read_text_table
from crossprop.errors import UserFileError


@dataclass(frozen=True)
class FormulaList:
    """Formulas that count atoms, whether they can be read or not, and as they were ``written``.

    ``lines`` of the file (or what ``word`` says) are theirs, ``columns`` holds all columns of the input as texts.
    ``reasons`` says by position why there is no formula, where more is known than the text says.
    """

    formulas: list[str]
    lines: list[int]
    columns: pd.DataFrame
    written: Sequence[str]
    reasons: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    word: str = "line"


def read_formula_list(
    source: Path | bytes,
    formula_column: str | None = None,
    *,
    sheet: str | None = None,
    element_columns: str | None = None,
    amounts: str = Amounts.ATOMIC,
    encoding: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
) -> FormulaList:
    """Read a list of formulas, one a line, or a table that has a column of them, with or without a header.

    No row is lost: what is no formula stays in the list, and a first row of formulas is no header. Without
    ``formula_column`` the column that parses is taken; with ``element_columns`` (``atomic`` or ``weight``) every
    element has a column of amounts instead. What holds no such list is a UserFileError.
    """
    if element_columns is not None and formula_column is not None:
        raise UserFileError("Give --formula-column or --element-columns, not both.")
    listed, how = element_columns is None, {"encoding": encoding, "delimiter": delimiter, "sheet": sheet}
    table = read_text_table(source, [formula_column], listed=listed, **how)
    notes: list[str] = []
    if element_columns is not None:
        symbols, kind, _ = elements = elements_in(table, [], element_columns)
        rows, percent = amounts_in(table, elements, decimal)
        formulas, reasons = formulas_of(list(symbols.values()), rows, kind, percent=percent)
        notes += sums_of_atoms([table.header[at] for at in symbols], rows, formulas)
        reasons |= table.surplus
        written = formulas
        table = replace(
            table,
            header=(*table.header, "formula"),
            rows=[[*row[: len(table.header)], f] for row, f in zip(table.rows, formulas, strict=True)],
        )
    else:
        if formula_column is not None:
            at = named_column(table, formula_column, "--formula-column")
        else:
            at = guess_formula_column(table) if len(table.header) > 1 else 0
            table = _without_header(table, at)
        written = table.columns[at].cells
        formulas, reasons, notes = formulas_in(written, table.lines, amounts)
        readable = set(parse_formulas(formulas)[1].tolist()) - set(reasons)
        if hidden := refuse_capitals([formulas[i] for i in sorted(readable)]):
            raise UserFileError(f"{table.path}: {hidden}")
        reasons |= table.surplus
    names: list[str] = []
    for name in table.header:  # the second 'K' is 'K_2'
        names.append(free_name(name, names))
    columns = pd.DataFrame([row[: len(names)] for row in table.rows], columns=names, dtype=object)
    return FormulaList(formulas, table.lines, columns, written, reasons, (*table.notes, *notes))


def free_name(name: str, taken: Collection[str]) -> str:
    """The name of a column, or the first of ``name_2``, ``name_3``, … that is not taken."""
    choices = itertools.chain([name], (f"{name}_{count}" for count in itertools.count(2)))
    return next(choice for choice in choices if choice not in taken)


def _without_header(table: TextTable, at: int) -> TextTable:
    """The table with its header as the first row, where the header holds a formula itself."""
    line, head = table.dialect.header_line, table.header
    if not line or is_formula_name(head[at]) or parse_formulas([plain_formula(head[at])])[2]:
        return table
    return replace(
        table,
        header=tuple(f"column_{i}" for i in range(1, len(head) + 1)),
        rows=[list(head), *table.rows],
        lines=[line, *table.lines],
        notes=(*table.notes, f"line {line} holds a formula: the table is read without a header"),
    )
