"""Which columns of a file of one's own hold the formulas and the values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from crossprop.data.compositions import COLUMN, composition_keys, parse_formulas
from crossprop.data.user_table import TextTable, bare_name, fold
from crossprop.data.user_values import is_number
from crossprop.errors import OwnFileError

_HEADER: Final = re.compile(
    r"([A-Z][a-z]?)(?:[\s_]*[(\[]?\s*(?:at|wt|mol|mass|weight|atomic|w|x)?[.\s-]*%?\s*[)\]]?)?", re.ASCII
)
_BALANCE: Final = frozenset(("bal", "bal.", "balance", "rest", "rem", "rem."))
_NOTHING: Final = frozenset(("", "-", "–", "—", "0"))
_PERCENT_ABOVE: Final = 1.5
"""Sum of a row above which the amounts cannot be fractions."""


class ElementColumns(StrEnum):
    """What the columns of elements hold."""

    ATOMIC = "atomic"
    WEIGHT = "weight"


def element_of(header: str) -> str | None:
    """The element that a column's name says, as ``Al``, ``Al (at%)`` or ``Al_wt``; ``None`` if it says none."""
    found = _HEADER.fullmatch(header.strip())
    return found[1] if found and found[1] in COLUMN else None


def element_columns(header: Sequence[str], taken: Sequence[int] = ()) -> dict[int, str]:
    """Positions of the columns named by an element, with the element."""
    named = {i: element_of(name) for i, name in enumerate(header) if i not in taken}
    return {i: symbol for i, symbol in named.items() if symbol is not None}


def formulas_of(
    symbols: Sequence[str], rows: Sequence[Sequence[float | None]], kind: ElementColumns
) -> tuple[list[str], dict[int, str]]:
    """Formulas of rows of amounts; an amount of ``None`` is the balance, to 100 or 1.

    Args:
        symbols: Element of each column.
        rows: Amounts, one row a material; NaN where a cell holds no number.
        kind: Whether the amounts count atoms or weigh.

    Returns:
        Formulas, empty where a row gives none, and by position why it does not.
    """
    whole = 1.0
    sums = [sum(a for a in row if a is not None and math.isfinite(a)) for row in rows]
    if any(total > _PERCENT_ABOVE for total in sums):
        whole = 100.0
    masses = _masses(symbols) if kind is ElementColumns.WEIGHT else [1.0] * len(symbols)
    formulas, reasons = [], {}
    for i, (row, total) in enumerate(zip(rows, sums, strict=True)):
        reason = _wrong(symbols, row, total, whole)
        if reason is not None:
            reasons[i] = reason
            formulas.append("")
            continue
        amounts = [whole - total if amount is None else amount for amount in row]
        parts = [amount / mass for amount, mass in zip(amounts, masses, strict=True)]
        if kind is ElementColumns.WEIGHT:
            parts = [100 * part / sum(parts) for part in parts]
        texts = [(symbol, _plain(part)) for symbol, part in zip(symbols, parts, strict=True) if part > 0]
        formulas.append("".join(symbol + text for symbol, text in texts if text != "0"))
    return formulas, reasons


def read_amount(text: str, number: float) -> float | None:
    """An amount: 0 for an empty cell, ``None`` for 'bal.', else the number that was read from it (NaN if none)."""
    word = text.strip().casefold()
    if word in _BALANCE:
        return None
    return 0.0 if word in _NOTHING else number


def _wrong(symbols: Sequence[str], row: Sequence[float | None], total: float, whole: float) -> str | None:
    for symbol, amount in zip(symbols, row, strict=True):
        if amount is not None and not math.isfinite(amount):
            return f"the amount of {symbol} is no number"
        if amount is not None and amount < 0:
            return f"the amount of {symbol} is negative ({amount:g})"
    balances = sum(amount is None for amount in row)
    if balances > 1:
        return f"{balances} elements are the balance; one can be"
    if balances and total > whole:
        return f"the amounts sum to {total:g}: nothing is left for the balance"
    if not balances and total == 0:
        return "all amounts are zero"
    return None


def _plain(amount: float) -> str:
    """A number without exponent, as formulas have it."""
    return f"{amount:.6f}".rstrip("0").rstrip(".") or "0"


def _masses(symbols: Sequence[str]) -> list[float]:
    from pymatgen.core.periodic_table import Element

    return [float(Element(symbol).atomic_mass) for symbol in symbols]


_FORMULA_NAMES: Final = (
    "formula", "composition", "compound", "material", "chemical formula", "pretty formula", "reduced formula",
    "materials", "alloy", "chemical composition", "stoichiometry", "system", "comp", "formel", "summenformel",
    "verbindung", "zusammensetzung", "formule", "formula unit", "nominal composition",
)  # fmt: skip
_SAMPLE: Final = 1000
_ENOUGH: Final = 0.5
"""Share of the cells that have to parse for a column to be one of formulas (of numbers, for one of values)."""

# Subscripts of typeset formulas, and characters that cannot be seen.
_TYPESET: Final = str.maketrans("₀₁₂₃₄₅₆₇₈₉․", "0123456789.", "\u200b\u200c\u200d\u2060\ufeff")


@dataclass(frozen=True)
class Columns:
    """Positions of the columns that are read.

    Attributes:
        formula: Formulas; ``None`` where every element has a column.
        value: Values.
        split: ``train`` or ``test``.
        group: What stays together.
        elements: Columns of amounts with their elements.
        amounts: What the amounts are.
    """

    formula: int | None
    value: int
    split: int | None = None
    group: int | None = None
    elements: Mapping[int, str] = field(default_factory=dict)
    amounts: ElementColumns | None = None


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
    found = found or [i for i, head in enumerate(table.header) if bare_name(head) == fold(name)]
    if len(found) == 1 or (found and _same_cells(table, found)):
        return found[0]
    if found:
        raise OwnFileError(
            f"{path} has {len(found)} columns named {name!r} (columns {', '.join(str(i + 1) for i in found)}). "
            "Give them different names."
        )
    raise OwnFileError(f"{path} has no column {name!r}; it has {columns(table)}. Name one with {option}.")


def formula_column(path: Path, table: TextTable, taken: Sequence[int] = ()) -> int:
    """Position of the column whose cells are formulas.

    Where several are, the one with a telling name is taken, if there is just one such. A column of names such as
    ``Co1``, ``Co2``, ``Co3``, which all are one composition, is none of formulas beside another one.

    Args:
        path: For messages.
        table: The table.
        taken: Columns that serve another purpose.

    Raises:
        OwnFileError: No column or several ones hold formulas; the message names them.
    """
    found: list[int] = []
    numbered: list[int] = []
    for i in range(len(table.header)):
        cells = [] if i in taken else column(table, i, _SAMPLE)
        fractions, good, _ = parse_formulas(map(plain_formula, cells))
        if not cells or len(good) < _ENOUGH * len(cells):
            continue
        texts = {cells[row] for row in good}
        one = len(texts) > 1 and len(set(composition_keys(fractions).tolist())) == 1
        (numbered if one else found).append(i)
    found = found or numbered
    names = [i for i in found if bare_name(table.header[i]) in _FORMULA_NAMES]
    for chosen in (names, found):
        if len(chosen) == 1:
            return chosen[0]
    if not found:
        elements = element_columns(table.header, taken)
        hint = (
            f"The columns {', '.join(table.header[i] for i in list(elements)[:5])} are named by elements: say what "
            "they hold with --element-columns atomic (amounts, fractions or percents of atoms) or "
            "--element-columns weight."
            if len(elements) > 1
            else "If one does, name it with --formula-column, and its rows will be explained."
        )
        raise OwnFileError(
            f"No column of {path} holds chemical formulas (such as 'Fe2O3'); it has {columns(table)}. {hint}"
        )
    listed = ", ".join(f"{table.header[i]!r} (e.g. {_example(table, i)!r})" for i in names or found)
    raise OwnFileError(
        f"Several columns of {path} hold chemical formulas: {listed}. Choose one with --formula-column."
    )


def elements_in(path: Path, table: TextTable, taken: Sequence[int] = ()) -> dict[int, str]:
    """Positions of the columns named by elements, with the element.

    Raises:
        OwnFileError: There are fewer than two, or two of one element.
    """
    found = element_columns(table.header, taken)
    if len(found) < 2:
        raise OwnFileError(
            f"{path} has {len(found)} column(s) named by an element (such as 'Al' or 'Al (at%)'); it has "
            f"{columns(table)}. Leave --element-columns out, or name the columns by their elements."
        )
    twice = sorted({symbol for symbol in found.values() if list(found.values()).count(symbol) > 1})
    if twice:
        raise OwnFileError(f"{path} has several columns of {', '.join(twice)}. Leave one of each.")
    return found


def value_column(path: Path, table: TextTable, target: str, taken: Sequence[int] = ()) -> int:
    """Position of the column that is named like the target.

    Raises:
        OwnFileError: There is none; the message names the columns that hold numbers.
    """
    if any(fold(target) in (fold(head), bare_name(head)) for head in table.header):
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


def refuse_formulas(path: Path, table: TextTable, at: int) -> None:
    """A target's column that is full of formulas is not what was meant."""
    cells = [plain_formula(cell) for cell in column(table, at, _SAMPLE)]
    if cells and len(parse_formulas(cells)[1]) == len(cells) and not any(map(is_number, cells)):
        raise OwnFileError(
            f"The column {table.header[at]!r} of {path} holds formulas, no values. --target names the property; its "
            "values stand in the column of this name, or in the one that --value-column names."
        )


def _same_cells(table: TextTable, positions: Sequence[int]) -> bool:
    """Whether columns of one name hold the same in every row."""
    rows = (tuple(r.fields[i].strip() if i < len(r.fields) else "" for i in positions) for r in table.records)
    return all(len(set(cells)) == 1 for cells in rows)


def _example(table: TextTable, position: int) -> str:
    cells = column(table, position, _SAMPLE)
    good = parse_formulas(map(plain_formula, cells))[1]
    return cells[good[0]] if len(good) else ""
