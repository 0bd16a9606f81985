"""A small language for conditions and quantities over properties, read with Python's parser and never executed."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from crossprop.errors import ExpressionError
from crossprop.screening.grammar import Expression, Kind, Reader, pointed

MAX_LENGTH = 1000
MAX_NODES = 300
_SLIPS = {
    **dict.fromkeys(("&&", "AND ", "And "), "conditions are joined by 'and'"),
    **dict.fromkeys(("||", "OR ", "Or "), "conditions are joined by 'or'"),
    **dict.fromkeys(("=<", "≤"), "at most is written '<='"),
    **dict.fromkeys(("=>", "≥"), "at least is written '>='"),
    **dict.fromkeys(("<>", "≠"), "unlike is written '!='"),
    "−": "minus is written '-'",
    "!": "the opposite of a condition is written 'not'",
    "=": "a comparison for equality is written '=='",
}
"""What people write for what is meant; the longer ones first."""


def parse_condition(text: str, names: Mapping[str, Kind]) -> Expression:
    """Read a condition such as ``'bulk_modulus > 200 and band_gap.lower >= 1'``.

    Allowed are numbers, the names given, ``+ - * / **``, comparisons, ``and or not``, parentheses, and the functions
    ``abs min max sqrt log10``.

    Args:
        text: The condition.
        names: Names that may stand in it, and what they are.

    Raises:
        ExpressionError: It is none; the message names the column.
    """
    expression = _parse(text, names, "condition")
    if expression.kind != "condition":
        raise ExpressionError(
            f"{text!r} is a number, not a condition. Compare it with something, e.g. '{text} > 0'."
        )
    return expression


def parse_quantity(text: str, names: Mapping[str, Kind]) -> Expression:
    """Read a number to rank by, such as ``'bulk_modulus - 0.5 * shear_modulus'``; as :func:`parse_condition`."""
    expression = _parse(text, names, "number")
    if expression.kind != "number":
        raise ExpressionError(
            f"{text!r} is a condition, not a number. Give a property or what is computed from some."
        )
    return expression


def _parse(text: str, names: Mapping[str, Kind], wanted: Kind) -> Expression:
    text = " ".join(text.split())
    if not text:
        raise ExpressionError(
            f"The {wanted} is empty. Write one such as 'bulk_modulus > 200', or leave it out."
        )
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"The {wanted} is {len(text)} characters long; at most {MAX_LENGTH} are read. Shorten it."
        )
    if (comment := text.find("#")) >= 0:  # the parser would leave out all behind it without a word
        raise ExpressionError(pointed(text, comment + 1, "there are no comments here; leave it out"))
    try:
        tree = ast.parse(text, mode="eval").body
        size = sum(1 for _ in ast.walk(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(_unreadable(text, error)) from None
    if size > MAX_NODES:
        raise ExpressionError(
            f"The {wanted} has {size} parts; at most {MAX_NODES} are read. Make it simpler."
        )
    return Reader(text, names).expression(tree)


def _unreadable(text: str, error: Exception) -> str:
    column = (
        getattr(error, "offset", None) or len(text) + 1
    )  # the parser has no place for what is missing at the end
    reason = f"this cannot be read ({getattr(error, 'msg', None) or type(error).__name__})"
    for start in (column - 1, column - 2):  # it may have stopped behind the first of two signs
        slip = next((slip for slip in _SLIPS if start >= 0 and text.startswith(slip, start)), None)
        if slip is not None:
            return pointed(text, start + 1, _SLIPS[slip])
    return pointed(text, column, reason)
