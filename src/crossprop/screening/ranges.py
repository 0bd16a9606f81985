"""What a condition asks of one property alone: known before its model has answered in full."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from crossprop.screening.expressions import parse_condition
from crossprop.screening.grammar import Expression, Kind, dotted, rounding

_MORE, _LESS = (ast.Gt, ast.GtE), (ast.Lt, ast.LtE)


def bounds_in(part: Expression) -> Iterator[tuple[str, bool, float]]:
    """Comparisons of a name with a number that must hold: the name, whether it must be more, and the number.

    Args:
        part: A condition; ``1 <= gap < 2`` gives two, a condition with ``or``, ``not`` or arithmetic none.
    """
    tree = ast.parse(part.text, mode="eval").body
    if not isinstance(tree, ast.Compare):
        return
    sides = [tree.left, *tree.comparators]
    for left, operation, right in zip(sides, tree.ops, sides[1:], strict=False):
        more = isinstance(operation, _MORE)
        if not (more or isinstance(operation, _LESS)):
            continue
        for name, number, asks_more in ((dotted(left), right, more), (dotted(right), left, not more)):
            if name is not None and (value := _number(number)) is not None:
                yield name, asks_more, value


def asked_range(parts: Iterable[Expression], name: str) -> tuple[float, float]:
    """Range outside of which a value of this name fails one of the conditions; infinite where nothing bounds it.

    It is wider than the numbers by what comparisons forgive.
    """
    low, high = -np.inf, np.inf
    for part in parts:
        for other, more, value in bounds_in(part):
            if other == name:
                low, high = (max(low, value), high) if more else (low, min(high, value))
    return low - 2 * rounding(low, low), high + 2 * rounding(high, high)


def implied(part: Expression, names: Mapping[str, Kind]) -> tuple[Expression, ...]:
    """Conditions on values that follow from conditions on intervals, since a value lies within its interval.

    Args:
        part: A condition such as ``gap.lower >= 1``, which only a ``gap`` of at least 1 can meet.
        names: Names that may stand in it.
    """
    found = []
    for name, more, value in bounds_in(part):
        before, _, ending = name.rpartition(".")
        if (ending, more) in (("lower", True), ("upper", False)) and before in names:
            found.append(parse_condition(f"{before} {'>=' if more else '<='} {value!r}", names))
    return tuple(found)


def _number(node: ast.expr) -> float | None:
    try:
        return float(ast.literal_eval(node))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
