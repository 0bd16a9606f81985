"""A file of one's own, read whole: which columns are meant, and what stands in them."""

from __future__ import annotations

from pathlib import Path

from crossprop.data.own_columns import Columns, elements_in, named_column, refuse_formulas
from crossprop.data.own_columns import formula_column as guess_formula_column
from crossprop.data.own_columns import value_column as guess_value_column
from crossprop.data.own_elements import ElementColumns
from crossprop.data.own_reader import OwnReader
from crossprop.data.own_rows import MIN_ROWS, Kind, OwnTable, Problem
from crossprop.data.own_table import Dialect, fold, read_text_table
from crossprop.errors import OwnFileError

__all__ = ["MIN_ROWS", "Dialect", "Kind", "OwnTable", "Problem", "read_own_file"]


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
