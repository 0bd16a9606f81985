"""From formulas to elemental fractions, and from fractions to the key that identifies a composition."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from crossprop.data.formulas import COLUMN, ELEMENTS, amounts_of, parse_formula
from crossprop.errors import FormulaError

__all__ = ["ELEMENTS", "composition_keys", "fraction_matrix", "parse_formula", "parse_formulas"]

_DIGITS: Final = 4
"""Decimals of a fraction in a composition key."""


def fraction_matrix(formulas: Iterable[object], where: str | None = None) -> np.ndarray:
    """Elemental fractions of many formulas.

    Args:
        formulas: Formulas, n of them.
        where: Name of their origin (a file, say), for error messages.

    Returns:
        Float64 array, shape (n, 86), columns as in :data:`ELEMENTS`; each row sums to 1.

    Raises:
        FormulaError: As :func:`parse_formula`; the message adds the row, counted from 0, and ``where``.
    """
    fractions, _, refused = parse_formulas(formulas)
    for row, error in refused.items():
        place = f"row {row} of {where}" if where else f"row {row}"
        raise type(error)(f"{error} ({place})") from None
    return fractions


def parse_formulas(formulas: Iterable[object]) -> tuple[np.ndarray, np.ndarray, dict[int, FormulaError]]:
    """Elemental fractions of those among many texts that are formulas, and what is wrong with the others.

    Whatever an item is (a number, nothing, ten megabytes of text), it is answered in bounded time: a formula has at
    most :data:`~crossprop.data.formulas.MAX_LENGTH` characters.

    Args:
        formulas: Formulas, n of them.

    Returns:
        The fractions of the m formulas, float64, shape (m, 86), columns as in :data:`ELEMENTS`, each row summing
        to 1; their numbers among the n, counted from 0, shape (m,); and for every other number its error, as
        :func:`parse_formula` raises it.
    """
    good: list[int] = []
    counts: list[int] = []
    columns: list[int] = []
    amounts: list[float] = []
    refused: dict[int, FormulaError] = {}
    for number, text in enumerate(formulas):
        try:
            parsed = amounts_of(text)
        except FormulaError as error:
            refused[number] = error
            continue
        good.append(number)
        counts.append(len(parsed))
        for symbol, amount in parsed:
            columns.append(COLUMN[symbol])
            amounts.append(amount)
    matrix = np.zeros((len(good), len(ELEMENTS)))
    matrix[np.repeat(np.arange(len(good)), counts), columns] = amounts
    totals = matrix.sum(axis=1, keepdims=True)
    return np.divide(matrix, totals, out=matrix), np.array(good, dtype=np.intp), refused


def composition_keys(fractions: np.ndarray) -> np.ndarray:
    """Text that two spellings or multiples of one composition share, e.g. ``'Cl:0.5000 Na:0.5000'``.

    Fractions are rounded to four decimals, since data sets with decimal formulas defeat exact ratios.
    Elements stand in alphabetical order; those that round to zero are left out.

    Args:
        fractions: Elemental fractions, shape (n, 86).

    Returns:
        Object array of n strings.
    """
    order = np.argsort(np.array(ELEMENTS))
    base = 10**_DIGITS
    # A tie such as 1/32 must fall the same way for '0.031250' of a file and for the exact ratio. Ties go
    # up, and the
    # boundary lies a little below them, where no ratio of small whole numbers is near.
    counts = np.floor(np.asarray(fractions, dtype=np.float64)[:, order] * base + 0.5065).astype(np.int32)
    rows, columns = np.nonzero(counts)
    codes = columns * (base + 1) + counts[rows, columns]
    place = np.zeros(len(ELEMENTS) * (base + 1), dtype=np.int32)
    place[codes] = 1
    used = np.flatnonzero(place)
    place[used] = np.arange(len(used))
    words = [f"{ELEMENTS[order[c // (base + 1)]]}:{c % (base + 1) / base:.{_DIGITS}f}" for c in used.tolist()]
    tokens = [words[i] for i in place[codes].tolist()]
    ends = np.cumsum(np.bincount(rows, minlength=len(counts))).tolist()
    keys = np.empty(len(counts), dtype=object)
    start = 0
    for row, end in enumerate(ends):
        keys[row] = " ".join(tokens[start:end])
        start = end
    return keys
