"""Which columns of a user's file hold the formulas and the values; cells and columns of elements as formulas."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from crossprop.data.cleaning import EXCEL_DATES
from crossprop.data.compositions import (
    COLUMN,
    Amounts,
    amounts_of,
    atomic_formula,
    atomic_masses,
    composition_keys,
    formula_warnings,
    near_whole,
    parse_formulas,
    plain_formula,
)
from crossprop.data.user_table import TextTable, bare_name, fold, is_formula_name
from crossprop.data.user_values import is_number, proven_signs, read_numbers, tidy
from crossprop.errors import UserFileError

_HEADER: Final = re.compile(
    r"([A-Z][a-z]?)(?:[\s_]*[(\[]?\s*(at|wt|mol|mass|weight|atomic|w|x)?[.\s-]*(%?)\s*[)\]]?)?", re.ASCII
)
_KIND_OF: Final = {
    **dict.fromkeys(("at", "mol", "atomic", "x"), Amounts.ATOMIC),
    **dict.fromkeys(("wt", "mass", "weight", "w"), Amounts.WEIGHT),
}
_OTHER_AMOUNT: Final = re.compile(r"([A-Z][a-z]?)(?:[\s_,/]+|(?=[(\[])).*(?:%|ppm|ppb|mg/kg).*")
_BALANCE: Final = frozenset(("bal", "bal.", "balance", "rest", "rem", "rem."))
_NOTHING: Final = frozenset(("", "-", "–", "—", "0"))
_FITTING: Final = 0.8  # share of the rows whose amounts have to sum to a whole for any of them to be believed
_SAMPLE: Final = 1000
_ENOUGH: Final = 0.5  # share of the cells that have to parse for a column to be one of formulas, or of values


def formulas_in(cells: Sequence[str], amounts: str = Amounts.ATOMIC) -> tuple[list[str], dict[int, str]]:
    """Formulas of atoms in a column's cells, spreadsheet dates turned back; by position why weights give none."""
    formulas = [EXCEL_DATES.get(text, text) for text in map(plain_formula, cells)]
    if amounts == Amounts.ATOMIC:
        return formulas, {}
    reasons = {i: str(error) for i, error in parse_formulas(formulas, amounts)[2].items()}
    for i, text in enumerate(formulas):
        if i not in reasons:
            formulas[i] = atomic_formula(*zip(*amounts_of(text, amounts), strict=True))
    return formulas, reasons


def formula_notes(
    lines: Sequence[int], cells: Sequence[str], formulas: Sequence[str], amounts: str
) -> list[str]:
    """What was changed in a column of formulas, and what is doubtful there, each with the first line."""
    if amounts == Amounts.WEIGHT:
        return ["the formulas in weight percent are turned into amounts of atoms"]
    told: dict[str, list[str]] = {}
    for line, raw, formula in zip(lines, cells, formulas, strict=True):
        if raw != formula and not parse_formulas([formula])[2]:
            what = "typeset formulas rewritten in plain letters"
            if raw in EXCEL_DATES:
                what = "spreadsheet dates turned back into formulas"
            told.setdefault(what, []).append(f"{line}: {raw} is read as {formula}")
        if doubts := formula_warnings(formula):
            told.setdefault("doubtful formulas, kept", []).append(f"{line}: {doubts[0]}")
    return [f"{len(lines)} {what}, the first on line {lines[0]}" for what, lines in told.items()]


def element_columns(header: Sequence[str], taken: Sequence[int] = ()) -> dict[int, str]:
    """Positions of the columns named by an element (``Al``, ``Al (at%)``, ``Al_wt``), with the element."""
    named = {i: _HEADER.fullmatch(name.strip()) for i, name in enumerate(header) if i not in taken}
    return {i: found[1] for i, found in named.items() if found and found[1] in COLUMN}


def elements_in(table: TextTable, taken: Sequence[int], amounts: str) -> dict[int, str]:
    """Positions of at least two columns named by elements, with the element; no name may contradict ``amounts``."""
    path = table.path
    if amounts not in tuple(Amounts):
        raise UserFileError(f"{amounts!r} is no kind of amount. Choose {' or '.join(Amounts)}.")
    found = element_columns(table.header, taken)
    if len(found) < 2 or len(set(found.values())) < len(found):
        raise UserFileError(
            f"{path} has {len(found)} column(s) named by an element, {len(set(found.values()))} different ones; it has "
            f"{table}. Name one column by each element (such as 'Al' or 'Al (at%)'), or leave --element-columns out."
        )
    for position, name in enumerate(table.header):
        other = _OTHER_AMOUNT.fullmatch(name.strip())
        if position not in (*taken, *found) and other and other[1] in COLUMN:
            raise UserFileError(
                f"The column {name!r} of {path} holds amounts in a unit that is not read. Convert them to the kind "
                "of the others, as in 'C (wt%)', or rename the column if it is no part of the composition."
            )
        said = _HEADER.fullmatch(name) if position in found else None
        kind = _KIND_OF.get(said[2]) if said else None
        if kind not in (None, amounts):
            raise UserFileError(
                f"The column {name!r} of {path} says that its amounts are {kind}, not {amounts}. "
                f"Choose --element-columns {kind}, or correct the name."
            )
    return found


def composed(
    table: TextTable, elements: Mapping[int, str], amounts: str, decimal: str | None = None
) -> tuple[list[str], dict[int, str]]:
    """Formulas of the rows of a table with element columns; where a row gives none, why."""
    cells: list[list[float | None]] = []
    for position in elements:
        texts = table.column(position)
        numbers = read_numbers(texts, decimal, lambda: table_sign(table)).values
        words = [text.strip().casefold() for text in texts]
        cells.append(
            [
                None if word in _BALANCE else 0.0 if word in _NOTHING else number
                for word, number in zip(words, numbers, strict=True)
            ]
        )
    percent = any((said := _HEADER.fullmatch(table.header[i])) and said[3] for i in elements)
    return formulas_of(list(elements.values()), list(zip(*cells, strict=True)), amounts, percent=percent)


def formulas_of(
    symbols: Sequence[str],
    rows: Sequence[Sequence[float | None]],
    amounts: str,
    *,
    percent: bool = False,
    any_sum: bool = False,
) -> tuple[list[str], dict[int, str]]:
    """Formulas of rows of amounts, empty where a row gives none, and by position why; ``None`` is the balance.

    Amounts sum to 100 or 1; those of atoms may also sum to another whole number, as in ``La1.85Sr0.15CuO4``, and to
    anything with ``any_sum``. ``percent`` says that they are known to be percents.
    """
    reasons = {i: reason for i, row in enumerate(rows) if (reason := _wrong(symbols, row))}
    sums = [sum(a for a in row if a is not None and math.isfinite(a)) for row in rows]
    balanced = [None in row for row in rows]
    full = [sums[i] for i in range(len(rows)) if not balanced[i] and i not in reasons]
    percent = percent or any(total > 3 for total in sums)
    fractions = not percent and any(abs(total - 1) <= 0.03 for total in full)

    def fits(total: float) -> bool:
        whole = amounts == Amounts.ATOMIC and total > 1.5 and abs(total - round(total)) < 1e-6 * total
        return any_sum or whole or near_whole(total)

    doubted = sum(map(fits, full)) < _FITTING * len(full)
    masses = atomic_masses(symbols) if amounts == Amounts.WEIGHT else [1.0] * len(symbols)
    formulas = [""] * len(rows)
    for i, total in enumerate(sums):
        if i in reasons:
            continue
        if balanced[i] and not (percent or fractions):
            reasons[i] = (
                f"the amounts beside the balance sum to {total:g}: percents or fractions? Write '%' into the names of "
                "the columns, as in 'Fe (wt%)', or the balance as a number"
            )
        elif balanced[i] and total >= (100 if percent else 1):
            reasons[i] = f"the amounts sum to {total:g}: nothing is left for the balance"
        elif not balanced[i] and abs(total - 100) > 3 and (doubted or not fits(total)):
            reasons[i] = (
                f"the amounts sum to {total:g}, neither 1 nor 100: is the main element missing? Give it a column, with "
                "its amount or 'bal.'"
            )
        else:
            rest = (100 if percent else 1) - total
            filled = [rest if amount is None else amount for amount in rows[i]]
            parts = [amount / mass for amount, mass in zip(filled, masses, strict=True)]
            formulas[i] = atomic_formula(symbols, parts)
    return formulas, reasons


def _wrong(symbols: Sequence[str], row: Sequence[float | None]) -> str | None:
    """Why a row of amounts is no composition, whatever its sum; ``None`` where it may be one."""
    for symbol, amount in zip(symbols, row, strict=True):
        if amount is not None and not math.isfinite(amount):
            return f"the amount of {symbol} is no number"
        if amount is not None and amount < 0:
            return f"the amount of {symbol} is negative ({amount:g})"
    if (balances := list(row).count(None)) > 1:
        return f"{balances} elements are the balance; one can be"
    return None if any(amount is None or amount > 0 for amount in row) else "all amounts are zero"


def table_sign(table: TextTable) -> str | None:
    """The sign of the decimals that a table proves by its cells, or by commas between them."""
    proven = proven_signs([tidy(cell) for row in table.rows[:_SAMPLE] for cell in row])
    return next(iter(proven)) if len(proven) == 1 else "." if table.dialect.delimiter == "," else None


def named_column(table: TextTable, name: str, option: str) -> int:
    """Position of the one column that the user named; none, or several different ones, are refused."""
    exact = [i for i, head in enumerate(table.header) if head == name.strip()]
    found = exact or [i for i, head in enumerate(table.header) if fold(head) == fold(name)]
    found = found or [i for i, head in enumerate(table.header) if bare_name(head) == fold(name)]
    if len(found) == 1 or (found and len({tuple(table.column(i)) for i in found}) == 1):
        return found[0]
    if not found:
        raise UserFileError(f"{table.path} has no column {name!r}; it has {table}. Name one with {option}.")
    heads = ", ".join(f"{table.header[i]!r} (column {i + 1})" for i in found)
    raise UserFileError(
        f"{table.path} has {len(found)} columns named {name!r}: {heads}. Choose one with {option}, or rename them."
    )


def guess_formula_column(table: TextTable, taken: Sequence[int] = ()) -> int:
    """Position of the column whose cells are formulas, other than those that are taken.

    Among several a telling name decides. A column of names such as ``Co1``, ``Co2``, which all are one composition, is
    none of formulas beside another one.
    """
    found: list[int] = []
    numbered: list[int] = []
    examples: dict[int, str] = {}
    for i in range(len(table.header)):
        cells = [] if i in taken else _filled(table, i)
        fractions, good, _ = parse_formulas(cells)
        if not cells or len(good) < _ENOUGH * len(cells):
            continue
        examples[i] = cells[good[0]]
        one = len({cells[row] for row in good}) > 1 and len(set(composition_keys(fractions).tolist())) == 1
        (numbered if one else found).append(i)
    found = found or numbered
    names = [i for i in found if is_formula_name(table.header[i])]
    for chosen in (names, found):
        if len(chosen) == 1:
            return chosen[0]
    if found:
        listed = ", ".join(f"{table.header[i]!r} (e.g. {examples[i]!r})" for i in names or found)
        raise UserFileError(
            f"Several columns of {table.path} hold chemical formulas: {listed}. Choose one with --formula-column."
        )
    elements = element_columns(table.header, taken)
    hint = "If one does, name it with --formula-column, and its rows will be explained."
    if len(elements) > 1:
        hint = (
            f"The columns {', '.join(table.header[i] for i in list(elements)[:5])} are named by elements: say what "
            "their amounts count with --element-columns atomic or --element-columns weight."
        )
    raise UserFileError(
        f"No column of {table.path} holds chemical formulas (such as 'Fe2O3'); it has {table}. {hint}"
    )


def value_column_of(table: TextTable, name: str | None, target: str, formula_column: str | None) -> int:
    """Position of the column of the values: the named one, else the one that is named like the target."""
    if name is None and not any(fold(target) in (fold(head), bare_name(head)) for head in table.header):
        numeric = []
        for i, head in enumerate(table.header):
            cells = _filled(table, i)
            if cells and sum(map(is_number, cells)) >= _ENOUGH * len(cells):
                numeric.append(head or f"(column {i + 1})")
        rest = ", ".join(map(repr, numeric)) if numeric else f"none; it has {table}"
        raise UserFileError(
            f"{table.path} has no column {target!r}. Choose the column of the values with --value-column; "
            f"numbers stand in: {rest}."
        )
    at = named_column(table, name or target, "--value-column")
    cells = _filled(table, at)
    is_other = formula_column is None or fold(formula_column) != fold(table.header[at])
    if cells and is_other and not parse_formulas(cells)[2] and not any(map(is_number, cells)):
        raise UserFileError(
            f"The column {table.header[at]!r} of {table.path} holds formulas, no values. --target names the property; "
            "its values stand in the column of this name, or in the one that --value-column names."
        )
    return at


def _filled(table: TextTable, position: int) -> list[str]:
    """The first filled cells of a column."""
    return [cell for cell in table.column(position)[: 2 * _SAMPLE] if cell][:_SAMPLE]
