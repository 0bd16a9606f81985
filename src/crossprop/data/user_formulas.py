"""Formulas of atoms from the cells of a user's file: from a column of formulas, or from columns of elements."""

import math
from collections.abc import Sequence
from typing import Final

from crossprop.data.cleaning import EXCEL_DATES
from crossprop.data.compositions import (
    Amounts,
    amounts_of,
    atomic_formula,
    atomic_masses,
    formula_warnings,
    near_whole,
    parse_formulas,
    plain_formula,
)

_MOST_ATOMS: Final = 50  # of a formula that columns of elements may hold
_FITTING: Final = 0.8  # share of the rows whose amounts have to sum to a whole for any of them to be believed


def formulas_in(
    cells: Sequence[str], lines: Sequence[int], amounts: str | None = None
) -> tuple[list[str], dict[int, str], list[str]]:
    """Formulas of atoms in a column's cells, dates turned back; by position why weights give none; and notes."""
    formulas = [EXCEL_DATES.get(text, text) for text in map(plain_formula, cells)]
    if amounts and amounts != Amounts.ATOMIC:
        reasons = {i: str(error) for i, error in parse_formulas(formulas, amounts)[2].items()}
        for i, text in enumerate(formulas):
            if i not in reasons:
                formulas[i] = atomic_formula(*zip(*amounts_of(text, amounts), strict=True))
        return formulas, reasons, ["the formulas in weight percent are turned into amounts of atoms"]
    told: dict[str, list[str]] = {}
    for line, raw, formula in zip(lines, cells, formulas, strict=True):
        if raw != formula and not parse_formulas([formula])[2]:
            what = "typeset formulas rewritten in plain letters"
            if raw in EXCEL_DATES:
                what = "spreadsheet dates turned back into formulas"
            told.setdefault(what, []).append(f"{line}: {raw} is read as {formula}")
        if doubts := formula_warnings(formula):
            told.setdefault("doubtful formulas, kept", []).append(f"{line}: {doubts[0]}")
    notes = [f"{len(those)} {what}, the first on line {those[0]}" for what, those in told.items()]
    return formulas, {}, notes


def formulas_of(
    symbols: Sequence[str],
    rows: Sequence[Sequence[float | None]],
    amounts: str = Amounts.ATOMIC,
    *,
    percent: bool = False,
    any_sum: bool = False,
) -> tuple[list[str], dict[int, str]]:
    """Formulas of rows of amounts, empty where a row gives none, and by position why; ``None`` is the balance.

    Amounts sum to 100 (always with ``percent``) or 1; those of atoms may also sum to another whole number up to 50, as
    in ``La1.85Sr0.15CuO4``, and to anything with ``any_sum``.
    """
    reasons = {i: reason for i, row in enumerate(rows) if (reason := _wrong(symbols, row))}
    sums = [sum(a for a in row if a is not None and math.isfinite(a)) for row in rows]
    balanced = [None in row for row in rows]
    full = [sums[i] for i in range(len(rows)) if not balanced[i] and i not in reasons]
    stated, hundreds = percent, sum(abs(total - 100) <= 3 for total in full)
    percent = stated or (any(total > 3 for total in sums) and 2 * hundreds >= len(full))
    fractions = not percent and any(abs(total - 1) <= 0.03 for total in full)

    def fits(total: float) -> bool:
        whole = 1.5 < total <= _MOST_ATOMS and abs(total - round(total)) < 1e-6 * total
        return any_sum or (whole and amounts == Amounts.ATOMIC and not stated) or near_whole(total)

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


def sums_of_atoms(names: Sequence[str], rows: Sequence[Sequence[float | None]], formulas: Sequence[str]) -> list[str]:
    """A note on amounts that were read although they sum to neither 1 nor 100; ``names`` are those of the columns."""
    full = [row for row, formula in zip(rows, formulas, strict=True) if formula and None not in row]
    whole = [total for row in full if not near_whole(total := sum(amount or 0.0 for amount in row))]
    if not whole:
        return []
    said = " to ".join(dict.fromkeys((f"{min(whole):g}", f"{max(whole):g}")))
    of = f"the amounts in {', '.join(map(repr, names))} sum to {said}"
    return [f"{of} and are read as atoms of a formula: is the main element missing?"]


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
