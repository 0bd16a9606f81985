"""What stands around a number in a cell: an uncertainty, a power of ten, marks between thousands, a unit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

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
