"""Values of a user's file as numbers, and for each that is none the reason."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from crossprop.data.units import in_plain_signs
from crossprop.data.user_table import NumberCell
from crossprop.errors import UserFileError

_DIGITS = r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)"
NUMBER: Final = rf"{_DIGITS}(?:[eE][+-]?\d+)?"  # a number with either sign of the decimals
ABSENT: Final = frozenset(
    ("", "-", "--", "—", "–", "?", ".", "/", "na", "n/a", "n.a.", "nan", "nd", "n.d.", "none", "null", "nil",
     "missing", "unknown", "tbd", "#n/a", "#value!", "#ref!", "#div/0!", "#num!", "#name?", "#null!")
)  # fmt: skip
_MOST: Final = 0.5  # share of the numbers above which what stands behind them is the column's unit
_EXPONENT: Final = re.compile(rf"({_DIGITS})(?:\s*[eEdD]([+-]\d+)|[eEdD](\d+))(?![\w.,])(.*)", re.ASCII)
_TIMES = rf"({_DIGITS})\s*[x×·⋅*]\s*"
_POWER: Final = re.compile(
    rf"{_TIMES}10(?:\s*(?:\^|\*\*)\s*\(?([+-]?\d+)\)?|([+-]\d+))(?![\w.,])(.*)", re.ASCII
)
_TIMES_TENS: Final = re.compile(rf"{_TIMES}1(0+)(?![\w.,^*])(.*)", re.ASCII)
_GROUPS: Final = re.compile(r"([+-]?\d{1,3})((?:'\d{3})+|(?: \d{3})+)((?:[.,]\d*)?)(?![\d])(.*)", re.ASCII)
_UNCERTAIN: Final = re.compile(rf"({NUMBER})\s*(?:\(\d+[.,]?\d*\)|(?:±|\+/-|\+-)\s*{NUMBER})(.*)", re.ASCII)
_LETTER = "[A-Za-zµμΩΩÅ°℃%‰α-ωΑ-Ω/\\[(]"
_NO_UNIT = r"[eEdDx]\s*[+-]?\d|/\s*[\d.]|\(\d+[.,]?\d*\)|[kM](?!\S)"  # exponent, fraction, uncertainty, 2k
WITH_UNIT: Final = re.compile(rf"({NUMBER})\s*((?!{_NO_UNIT}){_LETTER}(?:[^\s±×]|\s(?!\d))*)")
_UNIT_ALONE: Final = re.compile(r"[^\d\s][^,;]{0,24}")


def tidy(text: str) -> str:
    """A cell in plain characters, ``4,1·10^3`` as ``4,1e3``, ``40'344.5`` as ``40344.5``."""
    if isinstance(text, NumberCell):
        return text if "e" in text else f"{text}e0"
    cell = in_plain_signs(text)
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
    (re.compile(rf"{NUMBER}\s*/\s*{NUMBER}.*"), "is a fraction: write its number"),
    (re.compile(rf"{NUMBER}\s*(?:-|–|to|\.\.\.?)\s*{NUMBER}.*"), "is a range: decide on one number"),
)
_INFINITE: Final = re.compile(r"[+-]?inf(?:inity)?|[+-]?∞", re.IGNORECASE)


@dataclass(frozen=True)
class Numbers:
    """A column of values: numbers, NaN where there is none, and why, by position.

    ``unit`` stands behind most of the numbers; ``uncertain`` are positions of those with an uncertainty, left out.
    """

    values: list[float]
    reasons: dict[int, str]
    decimal: str
    unit: str | None = None
    uncertain: tuple[int, ...] = ()


def read_numbers(
    texts: Sequence[str], decimal: str | None = None, elsewhere: Callable[[], str | None] = lambda: "."
) -> Numbers:
    """Read a column of values; its unit and the sign of the decimals are taken from the column as a whole.

    A sign that some value proves (``907,5``) decides for the column: ``1.037`` is a thousand there. A comma between
    thousands is read only where some value proves it. ``elsewhere`` gives the sign that the rest of the table proves.
    A sign that may mean either while nothing decides is refused (UserFileError).
    """
    cells = [tidy(text) for text in texts]
    unit = common_unit(cells)
    uncertain = []
    for i, cell in enumerate(cells):
        if found := _UNCERTAIN.fullmatch(cell):
            cells[i] = f"{found[1]}{found[2]}".strip()
            uncertain.append(i)
    unit = unit or common_unit(cells)
    bare = cells
    if unit is not None:
        split = [(cell, WITH_UNIT.fullmatch(cell)) for cell in cells]
        bare = [found[1] if found and found[2].strip() == unit else cell for cell, found in split]
    proven = proven_signs(bare)
    sign = decimal or ("," if proven[","] > proven["."] else ".")
    either_way = [cell for cell in bare if _either_way(cell)]
    commas = [cell for cell in either_way if "," in cell]
    if decimal is None and not proven and (commas or (either_way and elsewhere() != ".")):
        raise UserFileError(
            f"{(commas or either_way)[0]!r} may be a decimal number or one of thousands, and no other value decides "
            "it. Say which with --decimal ',' or --decimal '.'."
        )
    grouped = any(_GROUPED["."].fullmatch(c) and ("." in c or c.count(",") > 1) for c in bare)
    doubtful = decimal is None and (len(proven) > 1 or (sign == "." and not grouped))
    values, reasons = [], {}
    for i, cell in enumerate(bare):
        value = _number(cell, sign)
        if doubtful and _either_way(cell) and (sign == "," or "," in cell):
            name = _NAMES["," if "," in cell else "."]
            reasons[i] = (
                f"the {name} of {cell!r} may stand before decimals or between thousands: "
                "write it without, or say --decimal"
            )
        elif not math.isfinite(value):
            reasons[i] = _why(cell, sign)
        elif unit is not None and cell == cells[i]:
            reasons[i] = f"the value {_shown(cell)} has no unit where most others carry {unit!r}"
        values.append(math.nan if i in reasons else value)
    return Numbers(values, reasons, sign, unit, tuple(uncertain))


def is_number(text: str) -> bool:
    """Whether a cell holds a number, with either sign of the decimals, perhaps with an uncertainty or a unit."""
    cell = tidy(text)
    if found := _UNCERTAIN.fullmatch(cell):
        cell = f"{found[1]}{found[2]}".strip()
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


def _why(cell: str, decimal: str) -> str:
    """Why a cell cannot be used as a value."""
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
    if found := WITH_UNIT.fullmatch(cell):
        return f"the value {shown} carries a unit: keep {found[1]} alone, the unit goes to --unit"
    return f"the value {shown} is no number"


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else f"{cell[:40]}…")
