"""From formulas to elemental fractions, and from fractions to the key that identifies a composition."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import numpy as np

from crossprop.errors import FormulaError, UnknownElementError

# fmt: off
ELEMENTS: Final[tuple[str, ...]] = (
    "H", "Li", "Be", "B", "C", "N", "O", "F", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "K", "Ca",
    "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr",
    "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te",
    "I", "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er",
    "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Ac",
    "Th", "Pa", "U", "Np", "Pu",
)
# fmt: on
"""The 86 elements that the networks know, by atomic number: H to Pu
without He, Ne, Ar, Po, At, Rn, Fr and Ra."""

COLUMN: Final = {symbol: i for i, symbol in enumerate(ELEMENTS)}
"""Column of each element in a matrix of fractions."""

MAX_LENGTH: Final = 300
"""Characters of a formula at most. It bounds the time, and all amounts as well: they and their sum stay below 1e303."""

MAX_DEPTH: Final = 10
"""Brackets within brackets of a formula at most."""

# fmt: off
_OUTSIDE: Final = frozenset((
    "He", "Ne", "Ar", "Po", "At", "Rn", "Fr", "Ra", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No",
    "Lr", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og",
))
# fmt: on
_AMOUNT = r"(\d+(?:\.\d*)?|\.\d+)?"
_PLAIN: Final = re.compile(rf"(?:[A-Z][a-z]?{_AMOUNT.replace('(', '(?:', 1)})+", re.ASCII)
_ELEMENT: Final = re.compile(rf"([A-Z][a-z]?){_AMOUNT}", re.ASCII)
_TOKEN: Final = re.compile(
    rf"([A-Z][a-z]?){_AMOUNT}|([(\[{{])|([)\]}}]){_AMOUNT}|\s+(?=[A-Z(\[{{])", re.ASCII
)
_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}
_DOTS: Final = re.compile(r"\s*[·•∙⋅*]\s*")
"""What stands between the parts of a hydrate: middle dot, bullet, bullet and dot operators, asterisk."""

_COEFFICIENT: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*", re.ASCII)
_HYDRATE_OR_DECIMAL: Final = re.compile(
    r"(?:[1-9]|(?<=[A-Za-z)\]}]))\.\d*[1-9]\d*(?:H2O|NH3)(?![a-z0-9.])", re.ASCII
)


def parse_formula(text: object) -> dict[str, float]:
    """Read a chemical formula: symbols, amounts (decimals too), nested brackets and hydrates.

    The parts of a hydrate stand on both sides of a middle dot (``'CuSO4·5H2O'``, also with ``*``). A full stop
    is a decimal point: where it could be meant as the dot of a hydrate, as in ``'CuSO4.5H2O'``, the formula is
    refused rather than guessed. ``'NaN'`` is the sodium nitride NaN; a missing value (the float) is refused.

    Args:
        text: Formula such as ``'Mg2(SiO4)'``, ``'Fe0.5Ni0.5'`` or ``'Ca(Al2[SiO4]2)'``, at most 300
            characters, with at most 10 brackets within each other.

    Returns:
        Amount of each element in the formula, in order of first appearance; all amounts are finite and
        positive.

    Raises:
        FormulaError: The text is no formula, holds a charge, a zero amount, unbalanced brackets or characters
            other than ASCII.
        UnknownElementError: A symbol is no element or an element outside :data:`ELEMENTS`.
    """
    return dict(amounts_of(text))


def amounts_of(text: object) -> tuple[tuple[str, float], ...]:
    """As :func:`parse_formula`, as pairs; formulas that were read lately are not read again."""
    if type(text) is str and len(text) <= MAX_LENGTH:
        return _parse(text)
    if not isinstance(text, str):
        shown = f"{text!r} (float)" if isinstance(text, float) else f"a value of type {type(text).__name__}"
        raise FormulaError(f"A formula must be a text, not {shown}. Give one such as 'NaCl'.")
    return _parse(_bounded(text))


@lru_cache(maxsize=65536)
def _parse(text: str) -> tuple[tuple[str, float], ...]:
    """Amounts of one formula; a plain one without brackets takes the short way."""
    amounts: dict[str, float] = {}
    if _PLAIN.fullmatch(text):
        for symbol, number in _ELEMENT.findall(text):
            amounts[symbol] = amounts.get(symbol, 0.0) + (_amount(number, text) if number else 1.0)
        if "." in text:
            _refuse_dot_of_hydrate(text)
    else:
        amounts = _parse_parts(_bounded(text))
    for symbol in amounts:
        if symbol not in COLUMN:
            raise UnknownElementError(_unknown_element(symbol, text))
    return tuple(amounts.items())


def _bounded(text: str) -> str:
    """The text without outer blanks, once it is neither empty nor longer than any formula."""
    formula = str(text).strip()
    if not formula:
        raise FormulaError("An empty text is no formula. Give one such as 'NaCl'.")
    if len(formula) > MAX_LENGTH:
        raise FormulaError(
            f"{_short(formula)} is {len(formula)} characters long, which is no formula (at most {MAX_LENGTH})."
        )
    return formula


def _parse_parts(formula: str) -> dict[str, float]:
    """Amounts of a formula that may be a hydrate: parts between dots, each with a factor before it."""
    parts = _DOTS.split(formula)
    for part in parts:
        _refuse_characters(part, formula)
    if re.search(r"[+-]", formula):
        raise FormulaError(
            f"{_short(formula)} holds a charge or a negative amount. Give the neutral formula, without + and -."
        )
    _refuse_dot_of_hydrate(formula)
    if len(parts) == 1:
        return _parse_brackets(formula)
    total: dict[str, float] = {}
    for part in parts:
        factor = _COEFFICIENT.match(part)
        body = part[factor.end() :] if factor else part
        if not body:
            raise FormulaError(
                f"{_short(formula)} has nothing on one side of its dot. Write a hydrate as 'CuSO4·5H2O'."
            )
        times = _amount(factor[1], formula) if factor else 1.0
        for name, amount in _parse_brackets(body).items():
            total[name] = total.get(name, 0.0) + amount * times
    return total


def _refuse_characters(part: str, formula: str) -> None:
    strange = next((c for c in part if not c.isascii()), None)
    if strange is not None:
        raise FormulaError(
            f"{_short(formula)} holds {strange!r} (U+{ord(strange):04X}), which is no plain letter, digit or "
            "bracket. Write it in ASCII: 'H2O' for subscripts, 'CuSO4(H2O)5' or 'CuSO4·5H2O' for hydrates."
        )


def _refuse_dot_of_hydrate(formula: str) -> None:
    """'CuSO4.5H2O' is O4.5 to the one reader and five waters to the other."""
    doubtful = _HYDRATE_OR_DECIMAL.search(formula)
    if doubtful:
        dot = formula.index(".", doubtful.start())
        raise FormulaError(
            f"{_short(formula)} may be a hydrate or hold a decimal amount ({doubtful[0]!r}). Write the hydrate "
            f"as {_short(f'{formula[:dot]}·{formula[dot + 1 :]}')}, or the decimal amount in front of a bracket."
        )


def _parse_brackets(formula: str) -> dict[str, float]:
    """Amounts of a formula that may hold nested brackets and blanks between groups."""
    stack: list[dict[str, float]] = [{}]
    opened: list[str] = []
    position = 0
    while position < len(formula):
        token = _TOKEN.match(formula, position)
        if token is None:
            raise FormulaError(
                f"{_short(formula)} is no chemical formula: {formula[position]!r} at character "
                f"{position + 1} is neither an element, an amount behind one, nor a bracket."
            )
        symbol, number, opening, closing, factor = token.groups()
        if symbol:
            stack[-1][symbol] = stack[-1].get(symbol, 0.0) + _amount(number, formula)
        elif opening:
            if len(opened) == MAX_DEPTH:
                raise FormulaError(
                    f"{_short(formula)} nests more than {MAX_DEPTH} brackets, which is no formula. Write it out."
                )
            stack.append({})
            opened.append(opening)
        elif closing:
            if not opened or _CLOSING[opened.pop()] != closing:
                raise FormulaError(
                    f"{_short(formula)} closes a bracket that was not opened ({closing!r}). Balance them."
                )
            group, times = stack.pop(), _amount(factor, formula)
            if not group:
                raise FormulaError(f"{_short(formula)} holds empty brackets. Remove them.")
            for name, amount in group.items():
                stack[-1][name] = stack[-1].get(name, 0.0) + amount * times
        position = token.end()
    if opened:
        raise FormulaError(f"{_short(formula)} leaves {opened[-1]!r} open. Balance the brackets.")
    return stack[0]


def _amount(number: str | None, formula: str) -> float:
    """Number behind a symbol or bracket; 1 where there is none."""
    if not number:
        return 1.0
    value = float(number)
    if value == 0.0:
        raise FormulaError(
            f"{_short(formula)} holds an amount of zero. Remove the element or give its amount."
        )
    return value


def _unknown_element(symbol: str, text: str) -> str:
    if symbol in _OUTSIDE:
        return (
            f"{_short(text)} holds {symbol!r}, which is none of the 86 elements that the networks know "
            "(H to Pu without He, Ne, Ar, Po, At, Rn, Fr, Ra). Drop the row."
        )
    hint = (
        " Write deuterium and tritium as 'H'."
        if symbol in ("D", "T")
        else " Correct the formula or drop the row."
    )
    return f"{_short(text)} holds {symbol!r}, which is no element.{hint}"


def _short(text: str) -> str:
    """The text in quotes, cut where it would fill the screen."""
    return repr(text) if len(text) <= 60 else f"{text[:60]!r}…"


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
    most :data:`~crossprop.data.compositions.MAX_LENGTH` characters.

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
