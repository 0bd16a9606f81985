"""What is to be predicted: formulas from arguments, a file or a pipe, with the other columns of the input."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

import pandas as pd

from crossprop.data.own_columns import elements_in, named_column, plain_formula
from crossprop.data.own_columns import formula_column as guess_formula_column
from crossprop.data.own_elements import ElementColumns, formulas_of, read_amount
from crossprop.data.own_sheet import is_workbook
from crossprop.data.own_table import read_text_table
from crossprop.data.own_text import decode, read_bytes
from crossprop.data.own_values import read_numbers
from crossprop.errors import OwnFileError

SEPARATORS: Final = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Asked:
    """What is to be predicted.

    Attributes:
        formulas: Texts, n of them.
        lines: Line of each in its file, or its place among the arguments, from 1.
        columns: All columns of the input, as texts; empty where it had none.
        word: What the numbers count.
        reasons: Why a row gives no formula, by position, where more is known than its text says.
    """

    formulas: list[str]
    lines: list[int]
    columns: pd.DataFrame
    word: str = "line"
    reasons: Mapping[int, str] = field(default_factory=dict)


def asked_formulas(formulas: Sequence[str]) -> Asked:
    """Formulas that were given as arguments."""
    columns = pd.DataFrame(index=range(len(formulas)))
    return Asked(
        [plain_formula(formula) for formula in formulas],
        list(range(1, len(formulas) + 1)),
        columns,
        "formula",
    )


def read_pipe(stream: TextIO | None, formula_column: str | None) -> Asked:
    """Formulas from standard input, in whatever encoding.

    Raises:
        OwnFileError: It is closed, no text, empty, or has no such column.
    """
    if stream is None:
        raise OwnFileError("There is no input to read: it is closed. Give formulas, or --input with a file.")
    text, _ = decode(Path("the input"), stream.buffer.read())
    return read_text(text, formula_column)


def read_text(text: str, formula_column: str | None) -> Asked:
    """Formulas of a text: a table with a header, or one formula a line.

    Raises:
        OwnFileError: There is none, or no such column.
    """
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise OwnFileError("The input is empty. Give one formula a line, or a table with a header.")
    separator = next((sign for sign in SEPARATORS if sign in lines[0][1]), ",")
    try:
        reader = list(csv.reader(io.StringIO("\n".join(line for _, line in lines)), delimiter=separator))
    except csv.Error as error:
        raise OwnFileError(f"The input is no table: {error}. Is a quote left open there?") from error
    header = [name.strip() for name in reader[0]]
    wanted = formula_column or next((name for name in header if name.lower() == "formula"), None)
    if wanted is None and len(header) == 1:
        return Asked(
            [plain_formula(line.strip().strip('"')) for _, line in lines],
            [n for n, _ in lines],
            pd.DataFrame(index=range(len(lines))),
        )
    if wanted not in header:
        raise OwnFileError(
            f"The input has the columns {', '.join(header)}. Name that of the formulas with --formula-column."
        )
    if len(reader) == 1:
        raise OwnFileError(f"The input holds a header ({', '.join(header)[:80]}) but no formula below it.")
    rows = [[*row, *[""] * len(header)][: len(header)] for row in reader[1:]]
    columns = pd.DataFrame(rows, columns=_different(header), dtype=object)
    at = header.index(wanted)
    return Asked([plain_formula(str(row[at])) for row in rows], [n for n, _ in lines[1:]], columns)


def read_file(
    path: Path, formula_column: str | None, *, sheet: str | None = None, element_columns: str | None = None
) -> Asked:
    """Formulas from a CSV or Excel file, whatever its dialect; its other columns are kept.

    A text without any separator is a list: one formula a line, with or without a header.

    Args:
        path: The file.
        formula_column: Column of the formulas; the one that parses as such if ``None``.
        sheet: Sheet of a workbook.
        element_columns: ``atomic`` or ``weight``, where every element has a column of amounts instead.

    Raises:
        OwnFileError: The file cannot be read, or the column not be found.
    """
    content = read_bytes(path)
    if not is_workbook(content) and element_columns is None:
        text, _ = decode(path, content)
        if not any(sign in line.strip() for line in text.splitlines() for sign in (*SEPARATORS, " ")):
            return read_text(text, formula_column)
    table = read_text_table(path, [formula_column] if formula_column else [], sheet=sheet)
    width = len(table.header)
    rows = [[*record.fields, *[""] * width][:width] for record in table.records]
    columns = pd.DataFrame(rows, columns=_different(table.header), dtype=object)
    lines = [record.line for record in table.records]
    if element_columns is not None:
        if formula_column is not None or element_columns not in tuple(ElementColumns):
            raise OwnFileError(
                f"Give --element-columns {' or '.join(ElementColumns)}, and no --formula-column beside it."
            )
        elements = elements_in(path, table)
        formulas, reasons = composed(rows, elements, ElementColumns(element_columns))
        columns = columns.assign(**{_free("formula", columns): formulas})
        return Asked(formulas, lines, columns, reasons=reasons)
    if formula_column is not None:
        at = named_column(path, table, formula_column, "--formula-column")
    else:
        at = guess_formula_column(path, table, [])
    return Asked([plain_formula(row[at]) for row in rows], lines, columns)


def composed(
    rows: Sequence[Sequence[str]], elements: Mapping[int, str], kind: ElementColumns
) -> tuple[list[str], dict[int, str]]:
    """Formulas from columns of amounts; where a row gives none, why."""
    amounts = []
    for position in elements:
        texts = [row[position] for row in rows]
        numbers = read_numbers(texts).values
        amounts.append([read_amount(text, value) for text, value in zip(texts, numbers, strict=True)])
    return formulas_of(list(elements.values()), list(zip(*amounts, strict=True)), kind)


def _different(names: Sequence[str]) -> list[str]:
    """Names of columns without repetitions: the second 'K' is 'K_2'."""
    made: list[str] = []
    for name in names:
        count = 1
        while (different := name if count == 1 else f"{name}_{count}") in made:
            count += 1
        made.append(different)
    return made


def _free(name: str, columns: pd.DataFrame) -> str:
    return _different([*map(str, columns.columns), name])[-1]
