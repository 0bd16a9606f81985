"""Which columns of a file of one's own hold the formulas and the values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from crossprop.data.formulas import parse_formula
from crossprop.data.own_table import TextTable, fold
from crossprop.data.own_values import is_number
from crossprop.errors import FormulaError, OwnFileError

_FORMULA_NAMES: Final = (
    "formula", "composition", "compound", "material", "chemical formula", "pretty formula", "reduced formula",
    "materials", "alloy", "chemical composition", "stoichiometry", "system",
)  # fmt: skip
_SAMPLE: Final = 1000
_ENOUGH: Final = 0.5
"""Share of the cells that have to parse for a column to be one of formulas (of numbers, for one of values)."""

# Subscripts of typeset formulas, and characters that cannot be seen.
_TYPESET: Final = str.maketrans("₀₁₂₃₄₅₆₇₈₉․", "0123456789.", "\u200b\u200c\u200d\u2060\ufeff")


def plain_formula(text: str) -> str:
    """A formula without outer blanks, typeset subscripts and invisible characters; otherwise as it is."""
    return text.translate(_TYPESET).replace("\u00a0", " ").strip()


def named_column(path: Path, table: TextTable, name: str, option: str) -> int:
    """Position of a column that the user named.

    Raises:
        OwnFileError: There is none, or there are several of this name.
    """
    exact = [i for i, head in enumerate(table.header) if head == name.strip()]
    found = exact or [i for i, head in enumerate(table.header) if fold(head) == fold(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise OwnFileError(
            f"{path} has {len(found)} columns named {name!r} (columns {', '.join(str(i + 1) for i in found)}). "
            "Give them different names."
        )
    raise OwnFileError(f"{path} has no column {name!r}; it has {columns(table)}. Name one with {option}.")


def formula_column(path: Path, table: TextTable, taken: Sequence[int] = ()) -> int:
    """Position of the column whose cells are formulas.

    Where several are, the one with a telling name is taken, if there is just one such.

    Args:
        path: For messages.
        table: The table.
        taken: Columns that serve another purpose.

    Raises:
        OwnFileError: No column or several ones hold formulas; the message names them.
    """
    found = []
    for i in range(len(table.header)):
        cells = [] if i in taken else column(table, i, _SAMPLE)
        share = sum(map(_is_formula, cells)) / len(cells) if cells else 0.0
        if share >= _ENOUGH:
            found.append(i)
    names = [i for i in found if fold(table.header[i]) in _FORMULA_NAMES]
    for chosen in (names, found):
        if len(chosen) == 1:
            return chosen[0]
    if not found:
        raise OwnFileError(
            f"No column of {path} holds chemical formulas (such as 'Fe2O3'); it has {columns(table)}. "
            "If one does, name it with --formula-column, and its rows will be explained."
        )
    listed = ", ".join(f"{table.header[i]!r} (e.g. {_example(table, i)!r})" for i in names or found)
    raise OwnFileError(
        f"Several columns of {path} hold chemical formulas: {listed}. Choose one with --formula-column."
    )


def value_column(path: Path, table: TextTable, target: str, taken: Sequence[int] = ()) -> int:
    """Position of the column that is named like the target.

    Raises:
        OwnFileError: There is none; the message names the columns that hold numbers.
    """
    if any(fold(head) == fold(target) for head in table.header):
        return named_column(path, table, target, "--value-column")
    numeric = []
    for i, head in enumerate(table.header):
        cells = [] if i in taken else column(table, i, _SAMPLE)
        if cells and sum(map(is_number, cells)) >= _ENOUGH * len(cells):
            numeric.append(head or f"(column {i + 1})")
    rest = ", ".join(map(repr, numeric)) if numeric else f"none; it has {columns(table)}"
    raise OwnFileError(
        f"{path} has no column {target!r}. Choose the column of the values with --value-column; "
        f"numbers stand in: {rest}."
    )


def column(table: TextTable, position: int, most: int | None = None) -> list[str]:
    """The filled cells of a column, at most so many."""
    cells = (r.fields[position].strip() for r in table.records if position < len(r.fields))
    filled = [cell for cell in cells if cell]
    return filled if most is None else filled[:most]


def columns(table: TextTable) -> str:
    """The names of all columns, for messages."""
    names = [repr(name) if name else f"(column {i + 1}, unnamed)" for i, name in enumerate(table.header)]
    return "the column(s) " + ", ".join(names[:15]) + (", …" if len(names) > 15 else "")


def _is_formula(cell: str) -> bool:
    try:
        parse_formula(plain_formula(cell))
    except FormulaError:
        return False
    return True


def _example(table: TextTable, position: int) -> str:
    return next((cell for cell in column(table, position) if _is_formula(cell)), "")
