"""Values of a user's file: as numbers, or the reason why one is none; their unit, and whether units contradict."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crossprop.errors import UserFileError

_DIGITS = r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)"
NUMBER: Final = rf"{_DIGITS}(?:[eE][+-]?\d+)?"  # a number with either sign of the decimals
ABSENT: Final = frozenset(
    ("", "-", "--", "—", "–", "?", ".", "/", "na", "n/a", "n.a.", "nan", "nd", "n.d.", "none", "null", "nil",
     "missing", "unknown", "tbd", "#n/a", "#value!", "#ref!", "#div/0!", "#num!", "#name?", "#null!")
)  # fmt: skip
_HEX = "[+-]?0[xX]"  # begin of a hexadecimal number
_MOST: Final = 0.5  # share of the numbers above which what stands behind them is the column's unit
_EXPONENT: Final = re.compile(rf"({_DIGITS})(?:\s*[eEdD]([+-]\d+)|[eEdD](\d+))(?![\w.,])(.*)", re.ASCII)
_TIMES = rf"({_DIGITS})\s*[x×·⋅*]\s*"
_POWER: Final = re.compile(rf"{_TIMES}10(?:\s*(?:\^|\*\*)\s*\(?([+-]?\d+)\)?|([+-]\d+))(?![\w.,])(.*)", re.ASCII)
_TIMES_TENS: Final = re.compile(rf"(?!{_HEX}){_TIMES}1(0+)(?![\w.,^*])(.*)", re.ASCII)
_GROUPS: Final = re.compile(r"([+-]?\d{1,3})((?:'\d{3})+|(?: \d{3})+)((?:[.,]\d*)?)(?![\d])(.*)", re.ASCII)
_UNCERTAIN: Final = re.compile(
    rf"(?!{_DIGITS}\s*(?:±|\+/-|\+-)\s*{_DIGITS}[eE][+-]?\d)({NUMBER})\s*(?:\(\d+[.,]?\d*\)(?!\d)|"
    rf"(?:±|\+/-|\+-)\s*{NUMBER}(?![\d.,]|[eE][+-]?\d|\s*[x×·⋅*]))(.*)",  # ± 0.3×10^3 may be of the whole
    re.ASCII,
)
_LETTER = "[A-Za-zµμΩΩÅ°℃%‰α-ωΑ-Ω/\\[(]"
_MONTH = "(?:Jan|Feb|M[aä]r|Mrz|Apr|Ma[iy]|Jun|Jul|Aug|Sep|O[ck]t|Nov|De[cz])"
_NO_UNIT = rf"{_MONTH}|[eEdDxX]\s*[+-]?\d|/\s*[\d.]|\(\d+[.,]?\d*\)|[kM](?!\S)"  # exponent, fraction, uncertainty, 2k
WITH_UNIT: Final = re.compile(rf"(?!{_HEX})({NUMBER})\s*((?!{_NO_UNIT}){_LETTER}(?:[^\s±×]|\s(?!\d))*)")
_BALANCE: Final = frozenset(("bal", "bal.", "balance", "rest", "rem", "rem."))
_NOTHING: Final = frozenset(("", "-", "–", "—", "0"))
_UNIT_ALONE: Final = re.compile(r"[^\d\s][^,;]{0,24}")
_SUPERSCRIPT: Final = re.compile("(?=[⁰¹²³⁴⁵⁶⁷⁸⁹⁻])(?<![⁰¹²³⁴⁵⁶⁷⁸⁹⁻])")
_DASH: Final = re.compile(r"[–‐‑﹣－]\s*(?=[\d.,])")  # a minus at the start of a cell, else of a range
_PLAIN_SIGNS: Final = str.maketrans({
    "−": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " ", "\ufeff": "", "\u200b": "", "’": "'", "⁻": "-",
    **{sign: str(i) for i, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
})  # fmt: skip


class NumberCell(str):
    """The text of a workbook's number, perhaps with its unit: its point is one of decimals in any column."""

    __slots__ = ()


def in_plain_signs(text: str) -> str:
    """A text with plain signs, digits and blanks; a superscript becomes ``^`` and digits."""
    return _SUPERSCRIPT.sub("^", text).translate(_PLAIN_SIGNS).strip()


def tidy(text: str) -> str:
    """A cell in plain characters, ``4,1·10^3`` as ``4,1e3``, ``40'344.5`` as ``40344.5``."""
    if isinstance(text, NumberCell):
        number, _, unit = text.partition(" ")
        return f"{number if 'e' in number else f'{number}e0'} {unit}".strip()
    cell = in_plain_signs(text)
    cell = f"-{cell[dash.end() :]}" if (dash := _DASH.match(cell)) else cell
    if found := _GROUPS.fullmatch(cell):
        cell = f"{found[1]}{re.sub('[^0-9]', '', found[2])}{found[3]}{found[4]}"
    for pattern in (_EXPONENT, _POWER):
        if found := pattern.fullmatch(cell):
            return f"{found[1]}e{found[2] or found[3]}{found[4]}"
    if found := _TIMES_TENS.fullmatch(cell):
        return f"{found[1]}e{len(found[2])}{found[3]}"
    return cell


def common_unit(cells: Sequence[str]) -> str | None:
    """What stands behind most of the numbers of a column, if that is one and the same text."""
    behind = [found[2].strip() for cell in cells if (found := WITH_UNIT.fullmatch(cell))]
    bare = sum(1 for cell in cells if re.fullmatch(NUMBER, cell))
    if not behind:
        return None
    unit, count = Counter(behind).most_common(1)[0]
    return unit if count > _MOST * (len(behind) + bare) and count > 1 else None


def is_unit(text: str) -> bool:
    """Whether a cell may be the unit of its column: ``GPa``, ``[µΩ cm]``, ``%``."""
    return text.casefold() not in ABSENT and _UNIT_ALONE.fullmatch(text) is not None


_TAIL = r"(?:[eE][+-]?\d+)?"
_PLAIN: Final = {
    ".": re.compile(rf"[+-]?(?:\d+\.?\d*|\.\d+){_TAIL}", re.ASCII),
    ",": re.compile(rf"[+-]?(?:\d+,?\d*|,\d+){_TAIL}", re.ASCII),
}
_GROUPED: Final = {
    ".": re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?", re.ASCII),
    ",": re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+(?:,\d*)?", re.ASCII),
}
_OTHER: Final = {".": ",", ",": "."}
_NAMES: Final = {".": "point", ",": "comma"}
_KINDS: Final = (
    (re.compile(rf"(?:[<>≤≥~≈]|ca\.?|>=|<=)\s*{NUMBER}.*"), "is a bound or an estimate, no value"),
    (re.compile(r"\d{4}-\d{1,2}-\d{1,2}.*|\d{1,2}[./]\d{1,2}[./]\d{2,4}", re.ASCII), "is a date"),
    (re.compile(rf"\d+[.-]?\s*{_MONTH}.*"), "is a date"),
    (re.compile(rf"{NUMBER}\s*/\s*{NUMBER}.*"), "is a fraction: write its number"),
    (re.compile(rf"{NUMBER}\s*(?:-|–|to|\.\.\.?)\s*{NUMBER}.*"), "is a range: decide on one number"),
    (re.compile(rf"{NUMBER}\D*%.*"), "is a percentage: write 0.12 or 12 for 12%, as the other values are"),
)
_INFINITE: Final = re.compile(r"[+-]?inf(?:inity)?|[+-]?∞", re.IGNORECASE)


@dataclass(frozen=True)
class Numbers:
    """A column of values: numbers, NaN where there is none, and why, by position."""

    values: list[float]
    reasons: dict[int, str]
    decimal: str
    unit: str | None = None  # that stands behind most of the numbers
    uncertain: tuple[int, ...] = ()  # positions of numbers with an uncertainty, which is left out
    blanks: tuple[int, ...] = ()  # positions of numbers with blanks between thousands


def read_numbers(
    texts: Sequence[str], decimal: str | None = None, elsewhere: Callable[[], str | None] = lambda: "."
) -> Numbers:
    """Read a column of values; its unit and the sign of the decimals are taken from the column as a whole.

    A sign that some value proves (``907,5``) decides for the column, then ``elsewhere``, the sign that the rest of the
    table proves; a sign between thousands is read only where proven. What nothing decides is a UserFileError.
    """
    if decimal not in (None, ".", ","):
        raise UserFileError(f"{decimal!r} is no sign of decimals. Choose '.' or ','.")
    cells = [tidy(text) for text in texts]
    unit = common_unit(cells)
    uncertain = []
    for i, cell in enumerate(cells):
        if found := _UNCERTAIN.fullmatch(cell):
            cells[i] = tidy(f"{found[1]}{found[2]}")
            uncertain.append(i)
    unit = unit or common_unit(cells)
    bare = cells
    if unit is not None:
        split = [(cell, WITH_UNIT.fullmatch(cell)) for cell in cells]
        bare = [found[1] if found and found[2].strip() == unit else cell for cell, found in split]
    certain = [isinstance(text, NumberCell) for text in texts]
    written = [cell for cell, number in zip(bare, certain, strict=True) if not number]
    proven = proven_signs(written) or proven_signs(bare)
    sign = decimal or ("," if proven[","] > proven["."] else ".")
    either_way = [cell for cell in bare if _either_way(cell)]
    commas = [cell for cell in either_way if "," in cell]
    if decimal is None and not proven and (commas or (either_way and elsewhere() != ".")):
        raise UserFileError(
            f"{(commas or either_way)[0]!r} may be a decimal number or one of thousands, and no other value decides "
            "it. Say which with --decimal ',' or --decimal '.'."
        )
    grouped = any(_GROUPED[sign].fullmatch(c) and (sign in c or c.count(_OTHER[sign]) > 1) for c in bare)
    doubtful = decimal is None and (len(proven) > 1 or not grouped)
    values, reasons = [], {}
    for i, cell in enumerate(bare):
        value = _number(cell, "." if certain[i] else sign)
        if doubtful and _either_way(cell) and (_OTHER[sign] in cell or (sign == "," and len(proven) > 1)):
            name = _NAMES["," if "," in cell else "."]
            reasons[i] = (
                f"the {name} of {cell!r} may stand before decimals or between thousands: "
                "write it without, or say --decimal"
            )
        elif not math.isfinite(value):
            reasons[i] = _why(cell, sign, unit)
        elif unit is not None and cell == cells[i]:
            reasons[i] = f"the value {_shown(cell)} has no unit where most others carry {unit!r}"
        values.append(math.nan if i in reasons else value)
    spaced = {i for i, text in enumerate(texts) if (found := _GROUPS.fullmatch(text.strip())) and " " in found[2]}
    return Numbers(values, reasons, sign, unit, tuple(uncertain), tuple(sorted(spaced - reasons.keys())))


def is_number(text: str) -> bool:
    """Whether a cell holds a number, with either sign of the decimals, perhaps with an uncertainty or a unit."""
    cell = tidy(text)
    if found := _UNCERTAIN.fullmatch(cell):
        cell = tidy(f"{found[1]}{found[2]}")
    if found := WITH_UNIT.fullmatch(cell):
        cell = found[1]
    return any(pattern.fullmatch(cell) for pattern in (*_PLAIN.values(), *_GROUPED.values()))


def _number(cell: str, decimal: str) -> float:
    """The cell's number; NaN where it holds none, infinity where it is too large."""
    if _PLAIN[decimal].fullmatch(cell):
        return float(cell.replace(",", "."))
    if _GROUPED[decimal].fullmatch(cell):
        return float(cell.replace(_OTHER[decimal], "").replace(",", "."))
    return math.nan


def _either_way(cell: str) -> bool:
    """Whether a number is another one with the other sign of the decimals, as ``1.037`` and ``1,037`` are."""
    point, comma = _number(cell, "."), _number(cell, ",")
    return math.isfinite(point) and math.isfinite(comma) and point != comma


def proven_signs(cells: Sequence[str]) -> Counter[str]:
    """How many numbers can be read with one sign of the decimals alone, by sign."""
    readable = ([sign for sign in _PLAIN if not math.isnan(_number(cell, sign))] for cell in cells)
    return Counter(signs[0] for signs in readable if len(signs) == 1)


def sign_of(cells: Iterable[str]) -> str | None:
    """The one sign of the decimals that some cells prove, if they prove one alone."""
    proven = proven_signs([tidy(cell) for cell in cells])
    return next(iter(proven)) if len(proven) == 1 else None


def read_amounts(
    columns: Sequence[Sequence[str]], decimal: str | None, elsewhere: Callable[[], str | None]
) -> tuple[list[tuple[float | None, ...]], list[str | None]]:
    """Amounts of elements, a column each, row by row: ``None`` is the balance, NaN what is no number; and their units.

    A column has no unit where its cells carry none.
    """
    amounts, units = [], []
    for texts in columns:
        words = [text.strip().casefold() for text in texts]
        numbers = read_numbers(texts, decimal, elsewhere)
        units.append(numbers.unit)
        amounts.append(
            [
                None if word in _BALANCE else 0.0 if word in _NOTHING else number
                for word, number in zip(words, numbers.values, strict=True)
            ]
        )
    return list(zip(*amounts, strict=True)), units


def _why(cell: str, decimal: str, unit: str | None = None) -> str:
    """Why a cell cannot be used as a value; ``unit`` is that of most others."""
    shown = _shown(cell)
    if cell.casefold() in ABSENT:
        return "the value is missing" + (f" ({shown})" if cell else "")
    if _INFINITE.fullmatch(cell) or math.isinf(_number(cell, decimal)):
        return f"the value {shown} is not finite"
    other = _OTHER[decimal]
    if math.isfinite(_number(cell, other)):
        return f"the value {shown} has a decimal {_NAMES[other]} where the others have a {_NAMES[decimal]}"
    for pattern, what in _KINDS:
        if pattern.fullmatch(cell):
            return f"the value {shown} {what}"
    found = WITH_UNIT.fullmatch(cell)
    if found and unit:
        return f"the value {shown} has no {unit!r} behind it, as most others do: convert it, or write the unit alike"
    if found:
        return f"the value {shown} carries a unit: keep {found[1].removesuffix('e0')} alone, the unit goes to --unit"
    return f"the value {shown} is no number"


def _shown(cell: str) -> str:
    cell = re.sub(r"(?<=\d)e0(?!\d)", "", cell)  # of a workbook's number
    return repr(cell if len(cell) <= 40 else f"{cell[:40]}…")


# units

_PREFIXES: Final = {
    "G": 9, "M": 6, "k": 3, "h": 2, "": 0, "d": -1, "c": -2, "m": -3, "µ": -6, "u": -6, "mu": -6,
    "n": -9, "p": -12, "f": -15,
}  # fmt: skip
_PREFIXED: Final = {  # size, and powers of kg, m, s, A, K, mol
    "Pa": (1, "kg m-1 s-2"), "N": (1, "kg m s-2"), "J": (1, "kg m2 s-2"), "eV": (1.602177e-19, "kg m2 s-2"),
    "W": (1, "kg m2 s-3"), "V": (1, "kg m2 s-3 A-1"), "A": (1, "A"), "m": (1, "m"), "g": (1e-3, "kg"), "s": (1, "s"),
    "K": (1, "K"), "mol": (1, "mol"), "Hz": (1, "s-1"), "T": (1, "kg s-2 A-1"), "ohm": (1, "kg m2 s-3 A-2"),
    "Ω": (1, "kg m2 s-3 A-2"), "S": (1, "kg-1 m-2 s3 A2"), "bar": (1e5, "kg m-1 s-2"), "cal": (4.184, "kg m2 s-2"),
    "Oe": (1, "Oe"), "C": (1, "s A"),
}  # fmt: skip
_ALONE: Final = {
    "Å": (1e-10, "m"), "°C": (1, "K"), "atom": (1, "atom"), "atoms": (1, "atom"), "f.u.": (1, "f.u."), "HV": (1, "HV"),
    "atm": (101325, "kg m-1 s-2"), "psi": (6894.76, "kg m-1 s-2"), "ksi": (6894760, "kg m-1 s-2"), "%": (1, "%"),
    "kgf": (9.80665, "kg m s-2"), "ppm": (1e-4, "%"), "‰": (0.1, "%"), "HB": (1, "HB"), "HRC": (1, "HRC"),
    "Ha": (4.359745e-18, "kg m2 s-2"), "Ry": (2.179872e-18, "kg m2 s-2"), "emu": (1e-3, "m2 A"),
    "µB": (9.274010e-24, "m2 A"),
}  # fmt: skip
_POWERS: Final = re.compile(r"([^\d-]+)(-?\d+)?")
_TOKEN: Final = re.compile(r"(/)|(f\.u\.|[^\d\s/·*.()^+-]+)(?:\^?\(?([+-]?\d+)\)?)?|[\s·*.()]+|1(?=/)")
_PREFIX: Final = "[QRYZEPTGMkhdcmuµnpfazyrq]?"
_KNOWN: Final = re.compile(
    rf"(?:({_PREFIX})(Pa|eV|Hz|mol|cal|bar|ohm|Ω|Ha|Ry|Å|J|g|m|s|W|V|K)|(%|°[CF]|ppm|HV|HB|HRC|bohr|psi|ksi|kgf|atm))"
    r"(?:\^?[+-]?\d+)?(?=$|[\s/·*.(])"
)
_LAST_WORD: Final = re.compile(
    rf"(?:(?<=[A-Za-z0-9)])[\s_]+(?!%)|(?<![\d\s])\s*(?=%))({_PREFIX}(?:Pa|eV|Hz|mol|ohm)|[nµu]m|%)\s*$"
)
_SLASHED: Final = re.compile(  # Hardness/GPa, but not 1/eV and states/eV
    rf"(.*[^\W\d](?<!states))/({_PREFIX}(?:[Pp]a|PA|eV|[Oo]hm|Ω|Hz)(?![A-Za-z])[^,]*)"
)
_OTHER_CASE: Final = re.compile(r"(?<![A-Za-zµ])(?:([GMkKgm])(?:PA|pa)|([GMkmµun]?)(ev|[Oo]hm|OHM))(?![A-Za-z])")
_SPELT: Final = {
    "μ": "µ", "ω": "Ω", "å": "Å", "angstrom": "Å", "ångström": "Å", "℃": "°C", "ºc": "°C", "degc": "°C", "deg c": "°C",
    "℉": "°F", "ºf": "°F", "degf": "°F", "deg f": "°F", "celsius": "°C", "degree celsius": "°C",
    "degrees celsius": "°C", "fahrenheit": "°F", "degree fahrenheit": "°F", "degrees fahrenheit": "°F", "kelvin": "K",
    "hartree": "Ha", "rydberg": "Ry", "percent": "%",
}  # fmt: skip
"""Other spellings of units in small letters, as ``casefold`` gives them for their own signs, too."""
_OTHER_SPELLING: Final = re.compile("|".join(sorted(_SPELT, key=len, reverse=True)), re.IGNORECASE)
_POWER_OF_UNIT: Final = re.compile(
    r"(?:[x×*·]\s*)?(?:10\s*(?:\^|\*\*)?\s*([+-]\d+|(?<=[\^*\s])\d+)|1[eE]([+-]?\d+)|1(0+))(?![\d.])\s*[x×*·]?\s*(.*)",
    re.ASCII,
)
_FACTOR: Final = re.compile(r"(?<!\d)10\s*(?:\^|\*\*)\s*[+-]?\d+|(?<!\d)10⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+|[x×*·]\s*10{2,}$")
_LOGARITHM: Final = re.compile(r"(?<![A-Za-z])(log(?:arithm)?|lg|ln)[\s_]?(10|2|e)?(?![A-Za-z])", re.IGNORECASE)
_OF_LOGARITHM: Final = re.compile(r"1|none|-|dex|.*(?<![A-Za-z])(?:log|lg|ln)(?![a-z]).*", re.IGNORECASE)

Dimensions = Counter[str]


def bare_unit(text: str) -> str:
    """A unit without the brackets around it."""
    return text.strip().strip("[]()").strip() or text.strip()


def unit_beside(path: Path, columns: Iterable[tuple[str, Sequence[str]]], values: Sequence[str]) -> str | None:
    """The unit that columns of units (name and cells) state beside the values; several units are refused."""
    for name, units in columns:
        pairs = zip(units, values, strict=True)
        stated = sorted({bare_unit(u) for u, text in pairs if is_number(text) and u.casefold() not in ABSENT})
        known = next(filter(is_known_unit, stated), None)
        if known and any(u != known and (not is_known_unit(u) or contradicting(known, u)) for u in stated):
            raise UserFileError(
                f"The column {name!r} of {path} states several units: {', '.join(map(repr, stated[:5]))}. "
                "Convert the values to one of them."
            )
        if known:
            return known
    return None


def is_known_unit(text: str) -> bool:
    """Whether a unit, perhaps behind a power of ten, is fully understood."""
    return bool(measures(_without_power(_spelled(text))[1]))


def unit_in(name: str) -> str | None:
    """The unit at the end of a column's name: anything in brackets, else a known one; ``dex`` of a logarithm."""
    if logarithm := _LOGARITHM.search(name):
        return "dex" if logarithm[1].casefold() == "lg" or logarithm[2] == "10" else None
    brackets = re.findall(r"[(\[]((?:[^()\[\]]|\([^()\[\]]*\))+)[)\]]", name)
    if len(known := [text.strip() for text in brackets if len(text) > 1 and measures(_spelled(text))]) == 1:
        return known[0]
    if brackets and re.search(r"[)\]]\s*$", name):
        return brackets[-1].strip()
    if (found := re.search(r"(?:\s/\s+|,\s*)([^,]+)$", name)) and _KNOWN.match(_spelled(found[1])):
        return found[1].strip()
    if (found := _SLASHED.fullmatch(name.strip())) and not measures(_spelled(found[1].split()[-1])):
        return found[2]
    found = _LAST_WORD.search(name)
    return found[1] if found else None


def known_unit_in(name: str) -> str:
    """As :func:`unit_in`, but only a unit that is understood, or ``dex``; empty for ``gap (PBE)``."""
    found = unit_in(name) or ""
    certain = measures(_spelled(found)) and (len(found) > 1 or found == "%")  # "(K)" may be a symbol
    return found if found == "dex" or certain else ""


def is_no_unit(text: str) -> bool:
    """Whether a user's text says that the values are pure numbers."""
    return text.strip().lower() in ("", "none", "-", "1")


def refuse_conflict(path: Path, header: str, stated: str | None, found: str | None) -> None:
    """Refuse the column ``header`` of a file where it, its cells (``found``) and the user (``stated``) disagree."""
    of_header, factor = unit_in(header), _FACTOR.search(header)
    if factor and not (of_header and factor[0] in of_header):
        raise UserFileError(
            f"The column {header!r} of {path} names a power of ten, {factor[0]!r}, outside its unit: were the values "
            "multiplied or divided by it? Convert them, and rename the column."
        )
    if stated and _LOGARITHM.search(header) and not _OF_LOGARITHM.fullmatch(stated.strip()):
        raise UserFileError(
            f"The column {header!r} of {path} holds logarithms by its name, and --unit says {stated!r}. Give 'dex' "
            "for a decadic logarithm, 'none' for another one, or choose a column of plain values."
        )
    kind = _LOGARITHM.search(header.casefold())
    if stated and stated.strip().casefold() == "dex" and kind and (kind[1] == "ln" or kind[2] in ("2", "e")):
        raise UserFileError(
            f"The column {header!r} of {path} holds logarithms that are not decadic, and --unit says 'dex'. Convert "
            "the values, or give 'none'."
        )
    certain = ("%", found if found and is_known_unit(found) else "%")  # a header's "(GPa)" may be no unit
    for first, second in ((stated, found), (stated, of_header), (found, of_header)):
        if first and second and (contradicting(first, second) or (is_no_unit(first) and second in certain)):
            where = f"the column {header!r} of {path} states {second!r}"
            said = f"--unit says {first!r}, but {where}" if first == stated else f"{where}, its cells {first!r}"
            raise UserFileError(f"{said}. Convert the values, or correct the unit.")


def contradicting(first: str, second: str) -> bool:
    """Whether two texts are units of which one cannot be meant by the other: ``GPa`` and ``MPa`` or ``10^3 GPa``."""
    powers, units = zip(*(_without_power(_spelled(text)) for text in (first, second)), strict=True)
    if powers[0] != powers[1]:
        return True
    known = [_KNOWN.match(unit) for unit in units]
    readings = [measures(unit) for unit in units]
    if all(readings):
        kinds = [{str(sorted(d)).replace("°C", "K").replace("°F", "K") for _, d in found} for found in readings]
        certain = all(len(u) > 1 and (k or re.search(r"[/\d]", u)) for u, k in zip(units, known, strict=True))
        if certain or kinds[0] & kinds[1]:  # "(TS)" and "(K)" behind a name are symbols rather than units
            return not any(d == e and math.isclose(s, t, rel_tol=1e-3) for s, d in readings[0] for t, e in readings[1])
    if known[0] is None or known[1] is None or any(len(unit) < 2 and unit != "%" for unit in units):
        return False
    return known[0].groups() != known[1].groups()


def measures(unit: str) -> list[tuple[float, frozenset[tuple[str, int]]]]:
    """Size and dimensions that a unit may mean (``W/mK`` has two readings); none where it is not fully understood."""
    if unit in ("°C", "°F"):
        return [(1.0, frozenset({(unit, 1)}))]
    readings: list[tuple[float, Dimensions]] = [(1.0, Counter())]
    sign, position = 1, 0
    while position < len(unit):
        token = _TOKEN.match(unit, position)
        if token is None:
            return []
        position = token.end()
        if token[1]:
            sign = -1
        elif token[2]:
            power = sign * int(token[3] or 1)
            whole, cuts = token[2], range(1, len(token[2]))
            pairs = [
                (s * t, _plus(d, e, 1))
                for cut in cuts
                for s, d in _single(whole[:cut])
                for t, e in _single(whole[cut:])
            ]
            symbols = [*_single(whole), *pairs]  # alone, with a prefix, and as two symbols side by side
            readings = [(s * t**power, _plus(d, e, power)) for s, d in readings for t, e in symbols]
    return [(size, frozenset((k, n) for k, n in dims.items() if n)) for size, dims in readings if dims]


def _single(text: str) -> list[tuple[float, Dimensions]]:
    """Readings of one symbol, alone or behind a prefix."""
    found = [
        (size * 10.0 ** _PREFIXES[text[: -len(name)]], powers)
        for name, (size, powers) in _PREFIXED.items()
        if text.endswith(name) and text[: -len(name)] in _PREFIXES
    ]
    found = [_ALONE[text]] if text in _ALONE else found
    return [
        (size, Counter({p[1]: int(p[2] or 1) for part in powers.split() if (p := _POWERS.match(part))}))
        for size, powers in found
    ]


def _plus(first: Dimensions, second: Dimensions, times: int) -> Dimensions:
    return Counter({name: first[name] + times * second[name] for name in {*first, *second}})


def _spelled(unit: str) -> str:
    """A unit in the characters and the case of :data:`_PREFIXED`; ``mpa`` are megapascals."""
    plain = _OTHER_SPELLING.sub(lambda m: _SPELT[m[0].casefold()], in_plain_signs(bare_unit(unit)))
    pascals = {"G": "GPa", "g": "GPa", "M": "MPa", "m": "MPa", "K": "kPa", "k": "kPa"}
    return _OTHER_CASE.sub(lambda m: pascals[m[1]] if m[1] else m[2] + m[3].lower().replace("ev", "eV"), plain)


def _without_power(unit: str) -> tuple[int, str]:
    """The power of ten before a unit, as in ``10^3 GPa`` or ``x1000``, and the rest; 0 where there is none."""
    if unit.startswith("ppm/"):
        return -6, f"1{unit[3:]}"
    found = _POWER_OF_UNIT.match(in_plain_signs(unit))
    if found is None:
        return 0, unit
    return int(found[1] or found[2] or len(found[3])), found[4]
