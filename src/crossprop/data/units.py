"""Units as texts: where a column's name states one, what it measures, and whether two contradict each other."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Final

from crossprop.errors import UserFileError

_PREFIXES: Final = {
    "G": 9, "M": 6, "k": 3, "h": 2, "": 0, "d": -1, "c": -2, "m": -3, "µ": -6, "u": -6, "mu": -6,
    "n": -9, "p": -12, "f": -15,
}  # fmt: skip
_PREFIXED: Final = {  # size, and powers of kg, m, s, A, K, mol
    "Pa": (1, "kg m-1 s-2"), "N": (1, "kg m s-2"), "J": (1, "kg m2 s-2"), "eV": (1.602177e-19, "kg m2 s-2"),
    "W": (1, "kg m2 s-3"), "V": (1, "kg m2 s-3 A-1"), "A": (1, "A"), "m": (1, "m"), "g": (1e-3, "kg"), "s": (1, "s"),
    "K": (1, "K"), "mol": (1, "mol"), "Hz": (1, "s-1"), "T": (1, "kg s-2 A-1"), "ohm": (1, "kg m2 s-3 A-2"),
    "Ω": (1, "kg m2 s-3 A-2"), "S": (1, "kg-1 m-2 s3 A2"), "bar": (1e5, "kg m-1 s-2"), "cal": (4.184, "kg m2 s-2"),
    "Oe": (1, "Oe"),
}  # fmt: skip
_ALONE: Final = {
    "Å": (1e-10, "m"), "°C": (1, "K"), "atom": (1, "atom"), "atoms": (1, "atom"), "f.u.": (1, "f.u."), "HV": (1, "HV"),
    "atm": (101325, "kg m-1 s-2"), "psi": (6894.76, "kg m-1 s-2"), "ksi": (6894760, "kg m-1 s-2"), "%": (1, "%"),
    "kgf": (9.80665, "kg m s-2"),
}  # fmt: skip
_POWERS: Final = re.compile(r"([^\d-]+)(-?\d+)?")
_TOKEN: Final = re.compile(r"(/)|(f\.u\.|[^\d\s/·*.()^+-]+)(?:\^?\(?([+-]?\d+)\)?)?|[\s·*.()]+|1(?=/)")
_PREFIX: Final = "[QRYZEPTGMkhdcmuµnpfazyrq]?"
_KNOWN: Final = re.compile(
    rf"(?:({_PREFIX})(Pa|eV|Hz|mol|cal|bar|ohm|Ω|Ha|Ry|Å|J|g|m|s|W|V|K)|(%|°C|HV|HB|HRC|bohr|psi|ksi|kgf|atm))"
    r"(?:\^?[+-]?\d+)?(?=$|[\s/·*.(])"
)
_LAST_WORD: Final = re.compile(rf"(?<=[A-Za-z0-9)])[\s_]+({_PREFIX}(?:Pa|eV|Hz|mol|ohm))\s*$")
_POWER_OF_UNIT: Final = re.compile(
    r"(?:[x×*·]\s*)?(?:10\s*(?:\^|\*\*)?\s*([+-]\d+|(?<=[\^*\s])\d+)|1[eE]([+-]?\d+)|1(0+))(?![\d.])\s*[x×*·]?\s*(.*)",
    re.ASCII,
)
_SUPERSCRIPT: Final = re.compile("(?=[⁰¹²³⁴⁵⁶⁷⁸⁹⁻])(?<![⁰¹²³⁴⁵⁶⁷⁸⁹⁻])")
_PLAIN: Final = str.maketrans({
    "−": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " ", "\ufeff": "", "\u200b": "", "’": "'", "⁻": "-",
    **{sign: str(i) for i, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
})  # fmt: skip
_FACTOR: Final = re.compile(r"(?<!\d)10\s*(?:\^|\*\*)\s*[+-]?\d+|(?<!\d)10⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+|[x×*·]\s*10{2,}$")
_LOGARITHM: Final = re.compile(
    r"(?<![A-Za-z])(log(?:arithm)?|lg|ln)[\s_]?(10|2|e)?(?![A-Za-z])", re.IGNORECASE
)
_OF_LOGARITHM: Final = re.compile(r"1|none|-|dex|.*(?<![A-Za-z])(?:log|lg|ln)(?![a-z]).*", re.IGNORECASE)

Dimensions = Counter[str]


def in_plain_signs(text: str) -> str:
    """A text with plain signs, digits and blanks; a superscript becomes ``^`` and digits."""
    return _SUPERSCRIPT.sub("^", text).translate(_PLAIN).strip()


def bare_unit(text: str) -> str:
    """A unit without the brackets around it."""
    return text.strip().strip("[]()").strip() or text.strip()


def unit_in(name: str) -> str | None:
    """The unit at the end of a column's name: anything in brackets, else a known one; ``dex`` of a logarithm."""
    if logarithm := _LOGARITHM.search(name):
        return "dex" if logarithm[1].casefold() == "lg" or logarithm[2] == "10" else None
    if found := re.search(r"[(\[]([^()\[\]]+)[)\]]\s*$", name):
        return found[1].strip()
    if (found := re.search(r"(?:\s/\s+|,\s*)([^,]+)$", name)) and _KNOWN.match(_spelled(found[1])):
        return found[1].strip()
    found = _LAST_WORD.search(name)
    return found[1] if found else None


def refuse_contradiction(place: str, header: str, stated: str | None, found: str | None) -> None:
    """Refuse the column ``header`` of a file where it, its cells (``found``) and the user (``stated``) disagree."""
    of_header, factor = unit_in(header), _FACTOR.search(header)
    if factor and not (of_header and factor[0] in of_header):
        raise UserFileError(
            f"The column {header!r} of {place} names a power of ten, {factor[0]!r}, outside its unit: were the values "
            "multiplied or divided by it? Convert them, and rename the column."
        )
    if stated and _LOGARITHM.search(header) and not _OF_LOGARITHM.fullmatch(stated.strip()):
        raise UserFileError(
            f"The column {header!r} of {place} holds logarithms by its name, and --unit says {stated!r}. Give 'dex' "
            "for a decadic logarithm, 'none' for another one, or choose a column of plain values."
        )
    for first, second in ((stated, found), (stated, of_header), (found, of_header)):
        if first and second and contradicting(first, second):
            where = f"the column {header!r} of {place} states {second!r}"
            said = (
                f"--unit says {first!r}, but {where}" if first == stated else f"{where}, its cells {first!r}"
            )
            raise UserFileError(f"{said}. Convert the values, or correct the unit.")


def contradicting(first: str, second: str) -> bool:
    """Whether two texts are units of which one cannot be meant by the other: ``GPa`` and ``MPa`` or ``10^3 GPa``."""
    powers, units = zip(*(_without_power(_spelled(text)) for text in (first, second)), strict=True)
    if powers[0] != powers[1]:
        return True
    known = [_KNOWN.match(unit) for unit in units]
    readings = [measures(unit) for unit in units]
    if all(readings):
        kinds = [{str(sorted(d)).replace("°C", "K") for _, d in found} for found in readings]
        certain = all(len(u) > 1 and (k or re.search(r"[/\d]", u)) for u, k in zip(units, known, strict=True))
        if certain or kinds[0] & kinds[1]:  # "(TS)" and "(K)" behind a name are symbols rather than units
            return not any(
                d == e and math.isclose(s, t, rel_tol=1e-3) for s, d in readings[0] for t, e in readings[1]
            )
    if known[0] is None or known[1] is None or any(len(unit) < 2 and unit != "%" for unit in units):
        return False
    return known[0].groups() != known[1].groups()


def measures(unit: str) -> list[tuple[float, frozenset[tuple[str, int]]]]:
    """Size and dimensions that a unit may mean (``W/mK`` has two readings); none where it is not fully understood."""
    if unit == "°C":
        return [(1.0, frozenset({("°C", 1)}))]
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
    return bare_unit(unit).replace("μ", "µ").replace("\u2126", "Ω")


def _without_power(unit: str) -> tuple[int, str]:
    """The power of ten before a unit, as in ``10^3 GPa`` or ``x1000``, and the rest; 0 where there is none."""
    found = _POWER_OF_UNIT.match(in_plain_signs(unit))
    if found is None:
        return 0, unit
    return int(found[1] or found[2] or len(found[3])), found[4]
