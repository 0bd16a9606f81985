"""Values of a file of one's own as numbers, and for each that is none the reason in plain words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from crossprop.errors import OwnFileError

NUMBER: Final = r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?"
"""A number with either sign of the decimals."""

ABSENT: Final = frozenset(
    ("", "-", "--", "—", "–", "?", ".", "/", "na", "n/a", "n.a.", "nan", "nd", "n.d.", "none", "null", "nil",
     "missing", "unknown", "tbd", "#n/a", "#value!", "#ref!", "#div/0!", "#num!", "#name?", "#null!")
)  # fmt: skip
"""What people and spreadsheets write where there is no value, in small letters."""

WITH_UNIT: Final = re.compile(rf"({NUMBER})\s*([^\d\s.,()±<>~+\-'×·*][^±()×]*)")
_MOST: Final = 0.5
"""Share of the cells with a number above which what stands behind them is the unit of the column."""

_LOOKALIKES: Final = str.maketrans({
    "−": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " ", "\ufeff": "", "\u200b": "", "’": "'",
    **{sign: str(i) for i, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}, "⁻": "-",
})  # fmt: skip
_POWER: Final = re.compile(rf"({NUMBER})\s*[x×·⋅*]\s*10(?:\s*\^\s*|\s*\*\*\s*)?\(?([+-]?\d+)\)?", re.ASCII)
_GROUPS: Final = re.compile(r"([+-]?\d{1,3})((?:'\d{3})+|(?: \d{3})+)((?:[.,]\d*)?)(?![\d])(.*)", re.ASCII)
_UNCERTAIN: Final = re.compile(rf"({NUMBER})\s*(?:\(\d+[.,]?\d*\)|(?:±|\+/-|\+-)\s*{NUMBER})(.*)", re.ASCII)
_UNIT_ALONE: Final = re.compile(r"[^\d\s][^,;]{0,24}")


def tidy(text: str) -> str:
    """A cell in plain characters, its power of ten as an exponent, without marks between thousands.

    ``4,1·10^3`` becomes ``4,1e3``; ``40'344.5`` and ``40 344,5`` become ``40344.5`` and ``40344,5``.
    """
    cell = text.translate(_LOOKALIKES).strip()
    if found := _GROUPS.fullmatch(cell):
        cell = f"{found[1]}{re.sub('[^0-9]', '', found[2])}{found[3]}{found[4]}"
    if found := _POWER.fullmatch(cell):
        cell = f"{found[1]}e{found[2]}" if "e" not in found[1].lower() else cell
    return cell


def without_uncertainty(cell: str) -> str | None:
    """The number of ``40.3 ± 2.0``, ``40.3(20)`` and the like, with the unit behind it; ``None`` for other cells."""
    found = _UNCERTAIN.fullmatch(cell)
    return f"{found[1]}{found[2]}".strip() if found else None


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
    bare = text.strip()
    return bare.casefold() not in ABSENT and _UNIT_ALONE.fullmatch(bare) is not None


def bare_unit(text: str) -> str:
    """A unit without the brackets around it."""
    return text.strip().strip("[]()").strip() or text.strip()


_EXPONENT = r"(?:[eE][+-]?\d+)?"
_PLAIN: Final = {
    ".": re.compile(rf"[+-]?(?:\d+\.?\d*|\.\d+){_EXPONENT}", re.ASCII),
    ",": re.compile(rf"[+-]?(?:\d+,?\d*|,\d+){_EXPONENT}", re.ASCII),
}
_GROUPED: Final = {
    ".": re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?", re.ASCII),
    ",": re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+(?:,\d*)?", re.ASCII),
}
_EITHER_WAY: Final = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
"""A comma that may stand before decimals or between thousands."""

_BOUND: Final = re.compile(rf"(?:[<>≤≥~≈]|ca\.?|>=|<=)\s*{NUMBER}.*")
_DATE: Final = re.compile(r"\d{4}-\d{1,2}-\d{1,2}.*|\d{1,2}[./]\d{1,2}[./]\d{2,4}", re.ASCII)
_RANGE: Final = re.compile(rf"{NUMBER}\s*(?:-|–|to|\.\.\.?)\s*{NUMBER}.*")
_INFINITE: Final = re.compile(r"[+-]?inf(?:inity)?|[+-]?∞", re.IGNORECASE)


@dataclass(frozen=True)
class Numbers:
    """A column of values.

    Attributes:
        values: The numbers; NaN where there is none.
        reasons: Why a row has none, by position.
        decimal: The sign of the decimals.
        unit: What stands behind most of the numbers, if it is the same everywhere.
        uncertain: Positions of the values that came with an uncertainty, which is left out.
    """

    values: list[float]
    reasons: dict[int, str]
    decimal: str
    unit: str | None = None
    uncertain: tuple[int, ...] = ()


def read_numbers(texts: Sequence[str], decimal: str | None = None) -> Numbers:
    """Read a column of values; its unit and the sign of the decimals are taken from the column as a whole.

    A comma that may stand before decimals or between thousands counts as the one that other values of the column
    prove; where other values prove neither, the row has no value rather than one that is a thousand times too large.

    Args:
        texts: What stands in the cells.
        decimal: ``.`` or ``,``; decided by the values that leave no doubt if ``None``.

    Raises:
        OwnFileError: A comma may mean decimals or thousands, and no other value decides.
    """
    cells = [tidy(text) for text in texts]
    unit = common_unit(cells)
    uncertain = []
    for i, cell in enumerate(cells):
        if (certain := without_uncertainty(cell)) is not None:
            cells[i] = certain
            uncertain.append(i)
    unit = unit or common_unit(cells)
    bare = cells if unit is None else [_without(cell, unit) for cell in cells]
    sign = decimal or _decimal_sign(bare)
    doubtful = decimal is None and not _groups_thousands(bare, sign)
    values, reasons = [], {}
    for i, cell in enumerate(bare):
        value = _number(cell, sign)
        if doubtful and sign == "." and _EITHER_WAY.fullmatch(cell):
            value = math.nan
            reasons[i] = (
                f"the comma of {cell!r} may stand before decimals or between thousands: "
                "write it without, or say --decimal"
            )
        elif not math.isfinite(value):
            reasons[i] = _why(cell, sign)
        elif unit is not None and cell == cells[i]:
            value = math.nan
            reasons[i] = f"the value {_shown(cell)} has no unit where most others carry {unit!r}"
        values.append(value)
    return Numbers(values, reasons, sign, unit, tuple(uncertain))


def is_number(text: str) -> bool:
    """Whether a cell holds a number, with either sign of the decimals, perhaps with an uncertainty or a unit."""
    cell = tidy(text)
    cell = without_uncertainty(cell) or cell
    if found := WITH_UNIT.fullmatch(cell):
        cell = found[1]
    return any(pattern.fullmatch(cell) for pattern in (*_PLAIN.values(), *_GROUPED.values()))


def _without(cell: str, unit: str) -> str:
    found = WITH_UNIT.fullmatch(cell)
    return found[1] if found and found[2].strip() == unit else cell


def _number(cell: str, decimal: str) -> float:
    """The cell's number; NaN where it holds none, infinity where it is too large."""
    if _PLAIN[decimal].fullmatch(cell):
        return float(cell.replace(",", "."))
    if _GROUPED[decimal].fullmatch(cell) and not (
        decimal == "," and cell.count(".") == 1 and "," not in cell
    ):
        return float(cell.replace("," if decimal == "." else ".", "").replace(",", "."))
    return math.nan


def _decimal_sign(cells: Sequence[str]) -> str:
    points = sum(1 for c in cells if _sure(c, "."))
    commas = sum(1 for c in cells if _sure(c, ","))
    if points or commas:
        return "," if commas > points else "."
    doubtful = next((c for c in cells if _EITHER_WAY.fullmatch(c)), None)
    if doubtful is not None:
        raise OwnFileError(
            f"{doubtful!r} may be a decimal number or one of thousands, and no other value decides it. "
            "Say which with --decimal ',' or --decimal '.'."
        )
    return "."


def _groups_thousands(cells: Sequence[str], decimal: str) -> bool:
    """Whether some value can only be read with marks between its thousands."""
    other = "," if decimal == "." else "."
    pattern = _GROUPED[decimal]
    return any(pattern.fullmatch(c) and (decimal in c or c.count(other) > 1) for c in cells)


def _sure(cell: str, decimal: str) -> bool:
    """Whether a number can be read with this sign of the decimals alone."""
    other = "," if decimal == "." else "."
    if decimal not in cell or _EITHER_WAY.fullmatch(cell):
        return False
    return math.isfinite(_number(cell, decimal)) and not math.isfinite(_number(cell, other))


def _why(cell: str, decimal: str) -> str:
    """Why a cell cannot be used as a value."""
    shown = _shown(cell)
    if cell.casefold() in ABSENT:
        return "the value is missing" + (f" ({shown})" if cell else "")
    if _INFINITE.fullmatch(cell) or math.isinf(_number(cell, decimal)):
        return f"the value {shown} is not finite"
    other = "," if decimal == "." else "."
    if math.isfinite(_number(cell, other)):
        return (
            f"the value {shown} has a decimal {_NAMES[other]} where the other rows have a {_NAMES[decimal]}"
        )
    for pattern, what in _KINDS:
        if pattern.fullmatch(cell):
            return f"the value {shown} {what}"
    if found := WITH_UNIT.fullmatch(cell):
        return f"the value {shown} carries a unit: keep {found[1]} alone, the unit goes to --unit"
    return f"the value {shown} is no number"


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else f"{cell[:40]}…")


_KINDS: Final = (
    (_BOUND, "is a bound or an estimate, no value"),
    (_DATE, "is a date"),
    (_RANGE, "is a range: decide on one number"),
)
_NAMES: Final = {".": "point", ",": "comma"}
