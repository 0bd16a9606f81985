"""What a unit measures and in which size, so far as its text says; enough to see that two texts are different units."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Final

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

Measure = tuple[float, frozenset[tuple[str, int]]]


def measures(unit: str) -> list[Measure]:
    """Size and dimensions that a unit may mean (``W/mK`` has two readings); none where it is not fully understood."""
    if unit == "°C":
        return [(1.0, frozenset({("°C", 1)}))]
    readings: list[tuple[float, Counter[str]]] = [(1.0, Counter())]
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
            found = [(s * t**power, _plus(d, e, power)) for s, d in readings for t, e in _symbol(token[2])]
            readings = found
    return [(size, frozenset((k, n) for k, n in dims.items() if n)) for size, dims in readings if dims]


def different(first: str, second: str) -> bool | None:
    """Whether no reading of two units is the same; ``None`` where one of them is not understood."""
    readings = [measures(unit) for unit in (first, second)]
    if not all(readings):
        return None
    return not any(
        d == e and math.isclose(s, t, rel_tol=1e-3) for s, d in readings[0] for t, e in readings[1]
    )


def comparable(first: str, second: str) -> bool:
    """Whether some readings of two units measure the same, in whatever size; both scales of temperature do."""
    kinds = [{str(sorted(d)).replace("°C", "K") for _, d in measures(unit)} for unit in (first, second)]
    return bool(kinds[0] & kinds[1])


def _symbol(text: str) -> list[tuple[float, Counter[str]]]:
    """Readings of one symbol: alone, with a prefix, and as two symbols side by side."""
    whole = _single(text)
    pairs = [
        (s * t, _plus(d, e, 1))
        for cut in range(1, len(text))
        for s, d in _single(text[:cut])
        for t, e in _single(text[cut:])
    ]
    return whole + pairs


def _single(text: str) -> list[tuple[float, Counter[str]]]:
    if text in _ALONE:
        size, powers = _ALONE[text]
        return [(float(size), _dimensions(powers))]
    return [
        (size * 10.0**exponent, _dimensions(powers))
        for name, (size, powers) in _PREFIXED.items()
        if text.endswith(name) and (exponent := _PREFIXES.get(text[: -len(name)])) is not None
    ]


def _dimensions(powers: str) -> Counter[str]:
    return Counter(
        {found[1]: int(found[2] or 1) for part in powers.split() if (found := _POWERS.match(part))}
    )


def _plus(first: Counter[str], second: Counter[str], times: int) -> Counter[str]:
    total = Counter(first)
    for name, power in second.items():
        total[name] += times * power
    return total
