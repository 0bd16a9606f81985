"""The one reader of formulas: from texts to elemental fractions, and from fractions to keys of compositions."""

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Final

import numpy as np

from crossprop.errors import DataError, FormulaError, ShapeMismatchError, UnknownElementError

# fmt: off
ELEMENTS: Final[tuple[str, ...]] = (
    "H", "Li", "Be", "B", "C", "N", "O", "F", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "K", "Ca",
    "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr",
    "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te",
    "I", "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er",
    "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Ac",
    "Th", "Pa", "U", "Np", "Pu",
)
"""The 86 elements that the networks know, by atomic number: H to Pu without He, Ne, Ar, Po, At, Rn, Fr and Ra."""

_OUTSIDE: Final = frozenset((
    "He", "Ne", "Ar", "Po", "At", "Rn", "Fr", "Ra", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No",
    "Lr", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og",
))
# fmt: on
COLUMN: Final = {symbol: i for i, symbol in enumerate(ELEMENTS)}  # in a matrix of fractions
MAX_LENGTH: Final = 300  # characters of a formula: bounds the time, and the sum of amounts below 1e303
MAX_DEPTH: Final = 10  # nested brackets of a formula at most


class Amounts(StrEnum):
    """What the amounts of a formula, or the columns of elements, count."""

    ATOMIC = "atomic"
    WEIGHT = "weight"


# Subscripts of typeset formulas, and characters that cannot be seen.
_TYPESET: Final = str.maketrans("₀₁₂₃₄₅₆₇₈₉․\u00a0", "0123456789. ", "\u200b\u200c\u200d\u2060\ufeff")

_AMOUNT = r"(\d+(?:\.\d*)?|\.\d+)?"
_UNIT = rf"[A-Z][a-z]?{_AMOUNT.replace('(', '(?:', 1)}"
_PLAIN: Final = re.compile(rf"(?:{_UNIT})+", re.ASCII)
_ELEMENT: Final = re.compile(rf"([A-Z][a-z]?){_AMOUNT}", re.ASCII)
_TOKEN: Final = re.compile(rf"([A-Z][a-z]?){_AMOUNT}|([(\[{{])|([)\]}}]){_AMOUNT}|\s+(?=[A-Z(\[{{])", re.ASCII)
_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}
_DOTS: Final = re.compile(r"\s*[·•∙⋅*]\s*|(?<=[A-Za-z)\]}])\.(?=[A-Z(\[{])")
"""What stands between the parts of an adduct: dots and the asterisk; a full stop where it can be no decimal point."""

_COEFFICIENT: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*", re.ASCII)
_SYMBOLS: Final = re.compile("|".join(sorted((*ELEMENTS, *_OUTSIDE), key=len, reverse=True)))


def parse_formula(text: object, amounts: str = Amounts.ATOMIC) -> dict[str, float]:
    """Read a chemical formula: symbols, amounts (decimals too), nested brackets and adducts such as hydrates.

    The parts of an adduct stand on both sides of a middle dot (``'CuSO4·5H2O'``, also with ``*``). A full stop is a
    decimal point: where it may be the dot of an adduct, as in ``'CuSO4.5H2O'``, the formula is refused. ``'NaN'`` is
    sodium nitride. ``amounts`` are ``atomic``, or ``weight`` where they sum to 100 or 1: ``'Ti90Al6V4'``.

    Returned is the amount of atoms of each element, finite and positive. A text that is no formula, or may be meant as
    something else, is a FormulaError, an element outside :data:`ELEMENTS` an UnknownElementError.
    """
    return dict(amounts_of(text, amounts))


def amounts_of(text: object, amounts: str = Amounts.ATOMIC) -> tuple[tuple[str, float], ...]:
    """As :func:`parse_formula`, as pairs; formulas that were read lately are not read again."""
    if not isinstance(text, str):
        shown = f"{text!r} (float)" if isinstance(text, float) else f"a value of type {type(text).__name__}"
        raise FormulaError(f"A formula must be a text, not {shown}. Give one such as 'NaCl'.")
    if len(text) > MAX_LENGTH and len(text := str(text).strip()) > MAX_LENGTH:
        raise FormulaError(
            f"{_short(text)} is {len(text)} characters long, which is no formula (at most {MAX_LENGTH})."
        )
    return _parse(text) if _kind(amounts) is Amounts.ATOMIC else _parse_weights(text)


def _kind(amounts: str) -> Amounts:
    try:
        return Amounts(amounts)
    except ValueError:
        raise FormulaError(f"{amounts!r} is no kind of amounts. Choose 'atomic' or 'weight'.") from None


@lru_cache(maxsize=65536)
def _parse(text: str) -> tuple[tuple[str, float], ...]:
    formula = plain_formula(text)
    amounts: dict[str, float] = {}
    if _PLAIN.fullmatch(formula):
        _refuse_other_meanings(formula)
        for symbol, number in _ELEMENT.findall(formula):
            amounts[symbol] = amounts.get(symbol, 0.0) + _amount(number, formula)
    elif formula:
        _refuse_known_causes(formula)
        _refuse_other_meanings(formula)
        amounts = _parse_parts(formula)
    else:
        raise FormulaError("An empty text is no formula. Give one such as 'NaCl'.")
    for symbol in amounts:
        if symbol not in COLUMN:
            raise UnknownElementError(_unknown_element(symbol, formula))
    return tuple(amounts.items())


@lru_cache(maxsize=8192)
def _parse_weights(text: str) -> tuple[tuple[str, float], ...]:
    formula = plain_formula(text)
    weights = _designated(formula) or dict(_parse(formula))
    total = sum(weights.values())
    if len(weights) > 1 and not near_whole(total):
        raise FormulaError(
            f"The amounts of {_short(formula)} sum to {total:g}; weight percents sum to 100, weight fractions to 1. "
            "Give the main element its amount, too, as in 'Ti90Al6V4'."
        )
    masses = atomic_masses(list(weights))
    return tuple((symbol, weights[symbol] / mass) for symbol, mass in zip(weights, masses, strict=True))


def near_whole(total: float) -> bool:
    """Whether amounts sum to 1 or 100, within the 3 % that rounding and impurities explain."""
    return abs(total - 1) <= 0.03 or abs(total - 100) <= 3


def checked_fractions(fractions: np.ndarray) -> np.ndarray:
    """Elemental fractions, (n, 86), else ShapeMismatchError; a row that is no composition is a DataError."""
    fractions = np.asarray(fractions, dtype=np.float64)
    if fractions.ndim != 2 or fractions.shape[1] != len(ELEMENTS):
        raise ShapeMismatchError(
            f"Elemental fractions have shape {fractions.shape}, not (n, {len(ELEMENTS)}). Make them with "
            "crossprop.data.compositions.fraction_matrix(formulas)."
        )
    wrong = ~((fractions >= 0).all(axis=1) & (np.abs(fractions.sum(axis=1) - 1) <= 1e-4))  # NaN, too
    if wrong.any():
        raise DataError(
            f"Row {np.argmax(wrong)} of the elemental fractions is no composition, whose fractions are at least 0 and "
            f"sum to 1 ({wrong.sum()} such row(s)). Correct or drop the row."
        )
    return fractions


def atomic_masses(symbols: Sequence[str]) -> list[float]:
    """In g/mol."""
    from pymatgen.core.periodic_table import Element

    return [float(Element(symbol).atomic_mass) for symbol in symbols]


def plain_formula(text: str) -> str:
    """A formula without outer blanks, typeset subscripts and invisible characters; otherwise as it is."""
    return (text if text.isascii() else text.translate(_TYPESET)).strip()


def atomic_formula(symbols: Iterable[str], amounts: Iterable[float]) -> str:
    """The formula of some amounts of atoms, in percent, to eight significant digits."""
    pairs = [(symbol, amount) for symbol, amount in zip(symbols, amounts, strict=True) if amount > 0]
    total = sum(amount for _, amount in pairs)
    shares = (100 * amount / total for _, amount in pairs)
    texts = (np.format_float_positional(s, precision=8, unique=False, fractional=False, trim="-") for s in shares)
    return "".join(symbol + text for (symbol, _), text in zip(pairs, texts, strict=True))


_MIXED: Final = re.compile(rf"\d*\.?\d*\s*(?:{_UNIT}|[()\[\]])+")
_CAUSES: Final = (
    (re.compile(r"[\d.]+[eE][+-]?\d+"), "which is an exponent: write the number out, such as 0.00009"),
    (re.compile(r"\d,\d"), "which is a decimal comma: write a point, as in 'Fe0.5Ni0.5'"),
    (
        re.compile(r"\(?(?:(?:wt|at|mol|mass)\b\.?[\s-]*)?%\)?", re.IGNORECASE),
        "which is a unit: leave it out, and say of which kind the amounts are, 'atomic' or 'weight'",
    ),
    (
        re.compile(r"[(\[{]\s*(?:I{1,3}|IV|VI{0,3})\s*[)\]}]"),
        "which may be an oxidation state, or the elements iodine or vanadium: leave the oxidation state out, or write "
        "the elements without these brackets, as in 'PbI2'",
    ),
    (
        re.compile(r"[(\[{]\s*(?:O?Ac|OPr)\s*[)\]}]"),
        "which is by custom the abbreviation of an organic group (acetate, propoxide): write its atoms, as in "
        "'Zn(C2H3O2)2'",
    ),
    (
        re.compile(r"^[^()\[\]{}]*[A-Za-z\d]\s*([(\[{]\s*[A-Z][a-z]?\s*[)\]}])$"),
        "which may be a dopant, a phase or an atom: write its amount, as in 'Ti0.9Al0.1O2', or leave the phase out",
    ),
    (
        re.compile(
            r"[(\[{]\s*[a-z][a-zα-ω, -]*[)\]}]|^[a-zα-ω]-(?=[A-Z])|"
            r"(?<=[A-Za-z\d)\]}])\s*[-–_ ]\s*[A-Z]?[a-zα-ω]{2,}[a-zα-ω _-]*$"
        ),
        "which is an annotation, such as the name of a phase: leave it out, a formula holds symbols, amounts and "
        "brackets only",
    ),
)


def _refuse_known_causes(formula: str) -> None:
    """Refuse what people write into a column of formulas although it is none, with the real cause."""
    for pattern, advice in _CAUSES:
        if found := pattern.search(formula):
            raise FormulaError(f"{_short(formula)} holds {found[pattern.groups]!r}, {advice}.")
    variable = re.search(r"[xyzδ]|(?<![a-z])n(?![a-z])|(?<=[+-])d\b", _SYMBOLS.sub(" ", formula))
    if variable and _SYMBOLS.search(formula):
        raise FormulaError(
            f"{_short(formula)} holds the variable {variable[0]!r}. Give its number, as in 'La1.85Sr0.15CuO4'."
        )
    parts = [part.strip() for part in re.split(r"[-–+/]", formula)]
    if len(parts) > 1 and all(map(_MIXED.fullmatch, parts)) and _designated(formula) is None:
        raise FormulaError(
            f"{_short(formula)} is a mixture of {len(parts)} parts. Write one formula with the amount of each part, "
            "such as '(Li2O)0.5(P2O5)0.5' for half and half."
        )


_NUMBER = r"\d+(?:\.\d+)?"
_WITH_HYPHENS: Final = re.compile(rf"([A-Z][a-z]?)((?:[-–]{_NUMBER}[A-Z][a-z]?)+)")
_WITHOUT_HYPHENS: Final = re.compile(
    rf"(Ti(?={_NUMBER}(?:Al|V|Mo|Nb))|Co(?=2\dCr))((?:{_NUMBER}(?:Al|V|Sn|Zr|Mo|Nb|Fe|Cr|Si|Ta|W)){{2,}})"
)
_GRADE: Final = re.compile(r"(?:IN|SS|AA|AISI|Al(?=\d{4})|Inconel|Hastelloy|Incoloy)[ -]?\d{3,4}[A-Z]{0,2}")


def _designated(formula: str) -> dict[str, float] | None:
    """Weight percents that an alloy's designation names, as ``Ti-6Al-4V`` or ``Ti6Al4V``; ``None`` for other texts."""
    found = _WITH_HYPHENS.fullmatch(formula) or _WITHOUT_HYPHENS.fullmatch(formula)
    if found is None:
        return None
    weights = {symbol: float(number) for number, symbol in re.findall(rf"({_NUMBER})([A-Z][a-z]?)", found[2])}
    balance = 100 - sum(weights.values())
    if balance <= 0 or found[1] in weights or not {found[1], *weights} <= set(COLUMN):
        return None
    return {found[1]: balance, **weights}


def spelled_out(formula: str) -> str:
    """A plain formula, with an amount of 1 written where it would read as an alloy's designation."""
    if _GRADE.fullmatch(formula):
        return formula.replace("I", "I1", 1)  # IN100, of iodine and nitrogen
    return f"{formula}1" if _designated(formula) else formula


_LETTER_FOR_ZERO: Final = re.compile(r"(?<=[A-Za-z])O\.(?=\d)", re.ASCII)
_ZERO_FIRST: Final = re.compile(r"(?<![\d.])0\d")
_ADDUCT: Final = re.compile(r"(?:(?<=[A-Za-z)\]}])|(?<=(\d)))\.([1-9]\d*)(?=([A-Z(\[{].*))", re.ASCII)
_ANION_LAST: Final = re.compile(r"(?:[OFISHN]|Cl|Br|Se|Te|[)\]}])\d*$")


def _refuse_other_meanings(formula: str) -> None:
    """Refuse a text that can be read as a formula, but is more likely another thing."""
    if "0" in formula and (found := _ZERO_FIRST.search(formula)):
        likely = _ZERO_FIRST.sub(lambda m: f"O{m[0][1:]}", formula)
        raise FormulaError(
            f"{_short(formula)} holds the amount {found[0]!r}, which begins with zero. Is it the letter O, as in "
            f"{_short(likely)}?"
        )
    if "." in formula:
        _refuse_dot_of_adduct(formula)
        likely = _LETTER_FOR_ZERO.sub("0.", formula)
        if likely != formula and not parse_formulas([likely])[2]:
            raise FormulaError(
                f"{_short(formula)} holds the letter O before a point. Is it zero, as in {_short(likely)}? For oxygen, "
                "write 'O0.5'."
            )
    if weights := _designated(formula):
        percent = "".join(f"{symbol}{weight:g}" for symbol, weight in weights.items())
        atoms = f" If atoms are meant, write the last amount, too: {formula + '1'!r}."
        if _WITH_HYPHENS.fullmatch(formula):
            atoms = f" Where atomic percent is meant, give {percent!r} as it is."
        raise FormulaError(
            f"{_short(formula)} is an alloy's designation, by custom in weight percent. Give {percent!r} and say that "
            f"the amounts are of kind 'weight', not 'atomic'.{atoms}"
        )
    if _GRADE.fullmatch(formula):
        raise FormulaError(
            f"{_short(formula)} is the name of an alloy, no formula. Give its composition in weight percent, such as "
            "'Ni53Cr19Fe19Nb5Mo3Ti1', and say that the amounts are of kind 'weight'."
        )


def _refuse_dot_of_adduct(formula: str) -> None:
    """'CuSO4.5H2O' is O4.5 to one reader and five waters to another; so is 'BaO.6Fe2O3'."""
    for found in _ADDUCT.finditer(formula):
        before, body = formula[: found.start()], found[3]
        if before.endswith("0") and not re.search(r"\d0$", before):
            continue  # 0.5 is a decimal
        hydrate = re.match(r"(?:H2O|NH3)(?![a-z0-9.])", body)
        compounds = len(set(_SYMBOLS.findall(before))) > 1 and len(set(_SYMBOLS.findall(body))) > 1
        explicit_one = re.search(r"(?<!\d)1$", before) is not None
        if hydrate or (compounds and "." not in body and not explicit_one and _ANION_LAST.search(before)):
            dot = found.start()
            raise FormulaError(
                f"{_short(formula)} may be a hydrate or another adduct, or hold a decimal amount "
                f"({formula[max(dot - 1, 0) : dot + 8]!r}). Write the adduct as "
                f"{_short(f'{formula[:dot]}·{formula[dot + 1 :]}')}; for a decimal amount, write its element last."
            )


def _parse_parts(formula: str) -> dict[str, float]:
    """Amounts of a formula that may be an adduct: parts between dots, each with a factor before it."""
    parts = _DOTS.split(formula)
    if strange := re.search(r"[^\x00-\x7f]", "".join(parts)):
        raise FormulaError(
            f"{_short(formula)} holds {strange[0]!r} (U+{ord(strange[0]):04X}), which is no plain letter, digit or "
            "bracket. Write it in ASCII, as in 'H2O' or 'CuSO4(H2O)5'."
        )
    if re.search(r"[+-]", formula):
        raise FormulaError(
            f"{_short(formula)} holds a charge or a negative amount. Give the neutral formula, without + and -."
        )
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


def _parse_brackets(formula: str) -> dict[str, float]:
    """Amounts of a formula that may hold nested brackets and blanks between groups."""
    groups = formula.split()
    if len(groups) > 1 and any(len(_SYMBOLS.findall(g)) > 1 and g[0] not in _CLOSING for g in groups):
        raise FormulaError(
            f"{_short(formula)} holds {len(groups)} texts between blanks. Are these several formulas? Give one formula "
            "in each row or argument, without blanks."
        )
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
    if float(number) == 0.0:
        raise FormulaError(f"{_short(formula)} holds an amount of zero. Remove the element or give its amount.")
    return float(number)


def _unknown_element(symbol: str, text: str) -> str:
    if symbol in _OUTSIDE:
        known = "none of the 86 elements that the networks know (H to Pu without He, Ne, Ar, Po, At, Rn, Fr, Ra)"
        return f"{_short(text)} holds {symbol!r}, which is {known}. Drop the row."
    hint = "Correct the formula or drop the row."
    if symbol[1:] in ("x", "y", "z", "n"):
        hint = f"If {symbol[1:]!r} is a variable, give its number."
    elif symbol in ("D", "T"):
        hint = "Write deuterium and tritium as 'H'."
    elif text.upper() == text:
        hint = "Write symbols with small second letters, as in 'NaCl'."
    return f"{_short(text)} holds {symbol!r}, which is no element. {hint}"


def _short(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:60]!r}…"


_MAIN_METAL: Final = "(?:Ag|Al|Co|Cu|Fe|Mg|Ni|Pb|Sn|Ti|Zn)"
_MAY_BE_DOUBTFUL: Final = re.compile(rf"\d\d|CI|NaN|[\s)\]}}·*]|^[^a-z]*$|^{_MAIN_METAL}(?:[A-Z][a-z]?)?[5-9]")
_ALLOYED: Final = "(?:Ag|Al|Co|Cr|Cu|Fe|Mg|Mn|Mo|Nb|Ni|Pb|Si|Sn|Ta|Ti|V|W|Zn|Zr)"
_ALLOY: Final = re.compile(  # AlSi10Mg, CuZn37; Fe12Cr6Ni, Fe9Cr1Mo
    rf"{_MAIN_METAL}(?=[A-Z][a-z]?(?:[5-9]|\d\d))(?:{_ALLOYED}(?:{_NUMBER})?)+|"
    rf"(?:{_MAIN_METAL}|W)(?=[5-9]|\d\d)(?:{_NUMBER}(?:{_ALLOYED}|Re))+"
)
_MOLECULES: Final = ("B12", "C60", "C70", "C76", "C78", "C84")
_ACRONYM: Final = re.compile("(?!(?:KOH|COS|[HK]?S?CN)$)[A-Z]{3,}")  # KNN, BSCF


def formula_warnings(text: object) -> list[str]:
    """What may be wrong with a text that is read as a formula: amounts, capitals or blanks; nothing for other texts."""
    if not isinstance(text, str) or len(text) > MAX_LENGTH:
        return []
    formula = plain_formula(text)
    return list(_warnings(formula)) if _MAY_BE_DOUBTFUL.search(formula) else []


@lru_cache(maxsize=65536)
def _warnings(formula: str) -> tuple[str, ...]:
    try:
        amounts = dict(_parse(formula))
    except FormulaError:
        return ()
    warnings = _large_amounts(formula, amounts)
    if _ALLOY.fullmatch(formula):
        warnings.append(
            f"{formula!r} is read as amounts of atoms: if it names an alloy by weight, give all amounts, and say "
            "that they are of kind 'weight'"
        )
    other = hidden_symbols(formula) if formula.isupper() else None
    several = len(amounts) > 2 and hidden_symbols(re.sub("CO(?=[23])", "C", formula))  # K2CO3 holds no cobalt
    if other and (several or len(re.findall("[a-z]", other)) > 1):
        warnings.append(f"{formula!r} is read as {', '.join(amounts)}: was {other!r} meant?")
    elif _ACRONYM.fullmatch(formula):
        warnings.append(f"{formula!r} is read as {', '.join(amounts)}: is it an abbreviation?")
    chlorine = re.sub(r"CI(?![a-z])", "Cl", formula)
    if chlorine != formula and len(amounts) > 2 and _is_formula(chlorine):
        warnings.append(f"{formula!r} is read with C and I: was {chlorine!r} meant?")
    if formula == "NaN":
        warnings.append("'NaN' is read as Na and N: does it stand for a missing formula?")
    if " " in formula:
        warnings.append(f"{formula!r} holds blanks and is read as one composition")
    return tuple(warnings)


def _large_amounts(formula: str, amounts: dict[str, float]) -> list[str]:
    """Amounts such as the 203 of 'Fe203' that no compound has."""
    total = sum(amounts.values())
    likely = re.sub(r"(?<=[1-9])0", "O", formula)
    single = len(amounts) == 1 and formula not in _MOLECULES and "." not in formula
    for symbol, amount in amounts.items():
        large = single or (amount >= 100 and amount >= 10 * (total - amount))
        if large and amount >= 10 and abs(total - 100) >= 3:
            meant = f": was {likely!r} meant?" if likely != formula and _is_formula(likely) else ""
            return [f"the amount {amount:g} of {symbol} in {formula!r} is large for a compound{meant}"]
    return []


def _is_formula(text: str) -> bool:
    return not parse_formulas([text])[2]


def hidden_symbols(formula: str) -> str | None:
    """A formula in capitals with two-letter symbols where neighbours may be one (``INSB`` as ``InSb``), if any may."""
    other = re.sub("[A-Z]{2}", lambda pair: t if (t := pair[0].capitalize()) in COLUMN else pair[0], formula)
    return other if other != formula else None


def refuse_capitals(formulas: Sequence[str]) -> str | None:
    """Why a column of formulas in capitals cannot be read, where two-letter symbols may hide in it; else ``None``."""
    several = [text for text in formulas if len(_ELEMENT.findall(text)) > 1]
    doubtful = [text for text in several if text.isupper() and hidden_symbols(text)]
    if len(several) < 5 or not all(map(str.isupper, several)) or len(doubtful) < 0.2 * len(several):
        return None
    return (
        f"none of the {len(formulas)} formulas holds a small letter ({', '.join(map(repr, doubtful[:3]))}): "
        f"{doubtful[0]!r} would be read as {' and '.join(dict(amounts_of(doubtful[0])))}. Write symbols as in "
        f"{hidden_symbols(doubtful[0])!r}; where single letters are meant, write their amounts, as in 'C1O1'."
    )


_DIGITS: Final = 4  # decimals of a fraction in a composition key


def fraction_matrix(formulas: Iterable[object], where: str | None = None, amounts: str = Amounts.ATOMIC) -> np.ndarray:
    """Elemental fractions as of :func:`parse_formulas`; a FormulaError adds the row, from 0, and ``where``."""
    fractions, _, refused = parse_formulas(formulas, amounts)
    for row, error in refused.items():
        place = f"row {row} of {where}" if where else f"row {row}"
        raise type(error)(f"{error} ({place})") from None
    return fractions


def parse_formulas(
    formulas: Iterable[object], amounts: str = Amounts.ATOMIC
) -> tuple[np.ndarray, np.ndarray, dict[int, FormulaError]]:
    """Elemental fractions of those among many texts that are formulas, and what is wrong with the others.

    An item may be anything; it is answered in bounded time. Returned are the fractions of the m formulas, float64,
    shape (m, 86), columns as in :data:`ELEMENTS`, each row summing to 1; their numbers among the n, counted from 0,
    shape (m,); and for every other number its error.
    """
    kind = _kind(amounts)
    good: list[int] = []
    counts: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    refused: dict[int, FormulaError] = {}
    for number, text in enumerate(formulas):
        try:
            parsed = amounts_of(text, kind)
        except FormulaError as error:
            refused[number] = error
            continue
        good.append(number)
        counts.append(len(parsed))
        for symbol, amount in parsed:
            columns.append(COLUMN[symbol])
            values.append(amount)
    matrix = np.zeros((len(good), len(ELEMENTS)))
    matrix[np.repeat(np.arange(len(good)), counts), columns] = values
    totals = matrix.sum(axis=1, keepdims=True)
    return np.divide(matrix, totals, out=matrix), np.array(good, dtype=np.intp), refused


def composition_keys(fractions: np.ndarray) -> np.ndarray:
    """Text that two spellings or multiples of one composition share, e.g. ``'Cl:0.5000 Na:0.5000'``.

    Fractions (shape (n, 86)) are rounded to four decimals; elements that round to zero are left out.
    """
    order = np.argsort(np.array(ELEMENTS))
    base = 10**_DIGITS
    # A tie such as 1/32 must fall the same way for '0.031250' of a file and for the exact ratio. Ties go up, and
    # the boundary lies a little below them, where no ratio of small whole numbers is near.
    counts = np.floor(np.asarray(fractions, dtype=np.float64)[:, order] * base + 0.5065).astype(np.int32)
    rows, columns = np.nonzero(counts)
    codes, places = np.unique(columns * (base + 1) + counts[rows, columns], return_inverse=True)
    words = [f"{ELEMENTS[order[c // (base + 1)]]}:{c % (base + 1) / base:.{_DIGITS}f}" for c in codes.tolist()]
    tokens = [words[place] for place in places.tolist()]
    ends = np.count_nonzero(counts, axis=1).cumsum().tolist()
    return np.array([" ".join(tokens[start:end]) for start, end in zip([0, *ends], ends, strict=False)], dtype=object)
