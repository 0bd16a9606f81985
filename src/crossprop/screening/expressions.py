"""A small language for conditions and quantities over properties, read with Python's parser and never executed."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from crossprop.errors import ExpressionError
from crossprop.screening.grammar import Expression, Kind, Reader, pointed

MAX_LENGTH = 1000
MAX_NODES = 300


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
    column = getattr(error, "offset", None) or 1
    reason = f"this cannot be read ({getattr(error, 'msg', None) or type(error).__name__})"
    if text[column - 1 : column] == "=" and text[column : column + 1] != "=":
        reason = "a comparison for equality is written '=='"
    return pointed(text, column, reason)
