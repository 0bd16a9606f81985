"""Values of a file of one's own as numbers, and for each that is none the reason in plain words."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from crossprop.errors import OwnFileError

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

_ANY: Final = r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?"
_WITH_UNIT: Final = re.compile(rf"({_ANY})\s*([^\d\s.,()±<>~+-][^±()]*)")
_UNCERTAIN: Final = re.compile(rf"{_ANY}\s*(?:\(\d+[.,]?\d*\)|(?:±|\+/-|\+-).*)")
_BOUND: Final = re.compile(rf"(?:[<>≤≥~≈]|ca\.?|>=|<=)\s*{_ANY}.*")
_RANGE: Final = re.compile(rf"{_ANY}\s*(?:-|–|to|\.\.\.?)\s*{_ANY}.*")
_INFINITE: Final = re.compile(r"[+-]?inf(?:inity)?|[+-]?∞", re.IGNORECASE)
_ABSENT: Final = frozenset(
    ("", "-", "--", "—", "–", "?", ".", "/", "na", "n/a", "n.a.", "nan", "nd", "n.d.", "none", "null", "nil",
     "missing", "unknown", "tbd", "#n/a", "#value!", "#ref!", "#div/0!", "#num!", "#name?", "#null!")
)  # fmt: skip
_LOOKALIKES: Final = str.maketrans({"−": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " ", "\ufeff": ""})


@dataclass(frozen=True)
class Numbers:
    """A column of values.

    Attributes:
        values: The numbers; NaN where there is none.
        reasons: Why a row has none, by position.
        decimal: The sign of the decimals.
        units: What stands behind the numbers, by position, where it looks like a unit.
    """

    values: list[float]
    reasons: dict[int, str]
    decimal: str
    units: dict[int, str]


def read_numbers(texts: Sequence[str], decimal: str | None = None) -> Numbers:
    """Read a column of values; the sign of the decimals is taken from the column as a whole.

    Args:
        texts: What stands in the cells.
        decimal: ``.`` or ``,``; decided by the values that leave no doubt if ``None``.

    Raises:
        OwnFileError: A comma may mean decimals or thousands, and no other value decides.
    """
    cells = [text.translate(_LOOKALIKES).strip() for text in texts]
    sign = decimal or _decimal_sign(cells)
    values, reasons, units = [], {}, {}
    for i, cell in enumerate(cells):
        value = _number(cell, sign)
        values.append(value)
        if not math.isfinite(value):
            reasons[i] = _why(cell, sign)
            if (found := _WITH_UNIT.fullmatch(cell)) and cell.casefold() not in _ABSENT:
                units[i] = found[2].strip()
    return Numbers(values, reasons, sign, units)


def is_number(text: str) -> bool:
    """Whether a cell holds a number, with either sign of the decimals."""
    cell = text.translate(_LOOKALIKES).strip()
    return any(pattern.fullmatch(cell) for pattern in (*_PLAIN.values(), *_GROUPED.values()))


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


def _sure(cell: str, decimal: str) -> bool:
    """Whether a number can be read with this sign of the decimals alone."""
    other = "," if decimal == "." else "."
    if decimal not in cell or _EITHER_WAY.fullmatch(cell):
        return False
    return math.isfinite(_number(cell, decimal)) and not math.isfinite(_number(cell, other))


def _why(cell: str, decimal: str) -> str:
    """Why a cell cannot be used as a value."""
    shown = repr(cell if len(cell) <= 40 else f"{cell[:40]}…")
    if cell.casefold() in _ABSENT:
        return "the value is missing" + (f" ({shown})" if cell else "")
    if _INFINITE.fullmatch(cell) or math.isinf(_number(cell, decimal)):
        return f"the value {shown} is not finite"
    other = "," if decimal == "." else "."
    if math.isfinite(_number(cell, other)):
        return (
            f"the value {shown} has a decimal {_NAMES[other]} where the other rows have a {_NAMES[decimal]}"
        )
    if _UNCERTAIN.fullmatch(cell):
        return f"the value {shown} carries an uncertainty: keep the number alone"
    if _BOUND.fullmatch(cell):
        return f"the value {shown} is a bound or an estimate, no value"
    if _RANGE.fullmatch(cell):
        return f"the value {shown} is a range: decide on one number"
    if found := _WITH_UNIT.fullmatch(cell):
        return f"the value {shown} carries a unit: keep {found[1]} alone, the unit goes to --unit"
    return f"the value {shown} is no number"


_NAMES: Final = {".": "point", ",": "comma"}
