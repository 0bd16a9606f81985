"""A composition as one column per element: amounts, atomic or weight fractions or percents, made into formulas."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from crossprop.data.formulas import COLUMN

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
