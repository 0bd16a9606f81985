"""What an expression may consist of: names, numbers, arithmetic, comparisons and a few functions, nothing else."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from crossprop.errors import ExpressionError

Kind = Literal["condition", "number"]
Values = Mapping[str, np.ndarray]
Evaluate = Callable[[Values], Any]

_ARITHMETIC: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}
_ROUNDING = 1e-9
"""Share by which equal numbers may differ: fractions of 0.05 and 0.35 add up to 0.39999999999999997."""


def rounding(left: Any, right: Any) -> Any:
    """How far two numbers may be apart and still count as equal."""
    return _ROUNDING * np.maximum(np.abs(left), np.abs(right)) + _ROUNDING**2


def _equal(left: Any, right: Any) -> Any:
    apart = np.abs(left - right)
    return (left == right) | ((apart <= rounding(left, right)) & np.isfinite(apart))


_COMPARISONS: dict[type[ast.cmpop], Callable[..., Any]] = {
    ast.Lt: lambda left, right: (left < right) & ~_equal(left, right),
    ast.LtE: lambda left, right: (left < right) | _equal(left, right),
    ast.Gt: lambda left, right: (left > right) & ~_equal(left, right),
    ast.GtE: lambda left, right: (left > right) | _equal(left, right),
    ast.Eq: _equal,
    ast.NotEq: lambda left, right: ~_equal(left, right),
}
_ONE_ARGUMENT: dict[str, Callable[..., Any]] = {"abs": np.abs, "sqrt": np.sqrt, "log10": np.log10}
_SEVERAL: dict[str, Callable[..., Any]] = {"min": np.minimum, "max": np.maximum}
FUNCTIONS = (*_ONE_ARGUMENT, *_SEVERAL)


@dataclass(frozen=True)
class Expression:
    """A condition or a quantity, checked against the names that exist.

    Attributes:
        text: As it was written.
        names: Names that its value depends on, e.g. ``bulk_modulus`` and ``bulk_modulus.lower``.
        kind: Whether it is true or false, or a number.
        parts: What is joined by ``and`` at its top, to be checked one by one; itself where nothing is.
    """

    text: str
    names: frozenset[str]
    kind: Kind
    _evaluate: Evaluate
    parts: tuple[Expression, ...] = ()

    def __call__(self, values: Values) -> np.ndarray:
        """Evaluate for n compositions.

        Args:
            values: Arrays of shape (n,) for every name in ``names``.

        Returns:
            Array of shape (n,) (or of no dimension where only numbers were written); bool for a condition.
        """
        with np.errstate(all="ignore"):  # a division by zero is no number, and no number is more than another
            return np.asarray(self._evaluate(values))


class Reader:
    """Turns a parsed tree into an expression; whatever is not listed here is refused."""

    def __init__(self, text: str, names: Mapping[str, Kind]) -> None:
        self._text, self._names = text, names
        self._used: set[str] = set()

    def expression(self, tree: ast.expr) -> Expression:
        """The expression that a tree stands for."""
        self._used = set()
        kind, evaluate = self._read(tree)
        used = frozenset(self._used)
        parts: list[Expression] = []
        if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And):
            for value in tree.values:
                part = self.expression(value)
                parts += part.parts or (part,)
        text = ast.get_source_segment(self._text, tree) or self._text
        whole = Expression(text, used, kind, evaluate)
        return Expression(text, used, kind, evaluate, tuple(parts) or (whole,))

    def _read(self, node: ast.expr) -> tuple[Kind, Evaluate]:
        if isinstance(node, ast.Constant):
            return self._constant(node)
        if isinstance(node, ast.Name | ast.Attribute):
            return self._name(node)
        if isinstance(node, ast.BoolOp):
            joined = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return "condition", _fold(joined, [self._need(value, "condition") for value in node.values])
        if isinstance(node, ast.UnaryOp):
            return self._unary(node)
        if isinstance(node, ast.BinOp):
            if (function := _ARITHMETIC.get(type(node.op))) is None:
                raise self._refused(node, "only + - * / ** are known; conditions are joined by 'and', 'or'")
            return "number", _apply(
                function, [self._need(node.left, "number"), self._need(node.right, "number")]
            )
        if isinstance(node, ast.Compare):
            return self._compare(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        raise self._refused(node, f"{type(node).__name__} is not allowed")

    def _need(self, node: ast.expr, kind: Kind) -> Evaluate:
        found, evaluate = self._read(node)
        if found != kind:
            wanted = "a condition (a comparison, say)" if kind == "condition" else "a number"
            raise self._refused(node, f"this is a {found} where {wanted} is needed")
        return evaluate

    def _constant(self, node: ast.Constant) -> tuple[Kind, Evaluate]:
        if isinstance(node.value, bool):
            truth = np.bool_(node.value)
            return "condition", lambda values: truth
        if isinstance(node.value, int | float) and abs(node.value) < 1e300:
            number = np.float64(node.value)
            return "number", lambda values: number
        raise self._refused(node, "only plain numbers can be written out")

    def _name(self, node: ast.Name | ast.Attribute) -> tuple[Kind, Evaluate]:
        name = dotted(node)
        if name is None:
            raise self._refused(node, "only names of properties may have a dot")
        kind = self._names.get(name)
        if kind is None:
            near = difflib.get_close_matches(name, self._names, n=3, cutoff=0.6)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {listed(self._names)}"
            raise self._refused(node, f"unknown name {name!r}; {hint}")
        self._used.add(name)
        return kind, lambda values: values[name]

    def _unary(self, node: ast.UnaryOp) -> tuple[Kind, Evaluate]:
        if isinstance(node.op, ast.Not):
            return "condition", _apply(np.logical_not, [self._need(node.operand, "condition")])
        if isinstance(node.op, ast.USub | ast.UAdd):
            sign = np.negative if isinstance(node.op, ast.USub) else np.positive
            return "number", _apply(sign, [self._need(node.operand, "number")])
        raise self._refused(node, "write 'not' for the opposite of a condition")

    def _compare(self, node: ast.Compare) -> tuple[Kind, Evaluate]:
        sides = [self._need(side, "number") for side in (node.left, *node.comparators)]
        checks = []
        for i, operation in enumerate(node.ops):
            if (function := _COMPARISONS.get(type(operation))) is None:
                raise self._refused(node, "only < <= > >= == != compare")
            checks.append(_apply(function, sides[i : i + 2]))
        return "condition", _fold(np.logical_and, checks)

    def _call(self, node: ast.Call) -> tuple[Kind, Evaluate]:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name not in FUNCTIONS or node.keywords:
            raise self._refused(node, f"the only functions are {', '.join(FUNCTIONS)}")
        arguments = [self._need(argument, "number") for argument in node.args]
        if name in _ONE_ARGUMENT:
            if len(arguments) != 1:
                raise self._refused(node, f"{name} takes one number, not {len(arguments)}")
            return "number", _apply(_ONE_ARGUMENT[name], arguments)
        if len(arguments) < 2:
            raise self._refused(node, f"{name} takes two numbers or more")
        return "number", _fold(_SEVERAL[name], arguments)

    def _refused(self, node: ast.expr, reason: str) -> ExpressionError:
        before = self._text.encode()[: node.col_offset]  # the parser counts bytes
        return ExpressionError(pointed(self._text, len(before.decode(errors="ignore")) + 1, reason))


def _apply(function: Callable[..., Any], arguments: list[Evaluate]) -> Evaluate:
    return lambda values: function(*(argument(values) for argument in arguments))


def _fold(function: Callable[..., Any], arguments: list[Evaluate]) -> Evaluate:
    def evaluate(values: Values) -> Any:
        result = arguments[0](values)
        for argument in arguments[1:]:
            result = function(result, argument(values))
        return result

    return evaluate


def dotted(node: ast.expr) -> str | None:
    """Name that a node stands for, ``None`` if it is something else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)) is not None:
        return f"{before}.{node.attr}"
    return None


def listed(names: Collection[str]) -> str:
    """Names for a message, without the 86 symbols."""
    from crossprop.data.compositions import ELEMENTS

    shown = [name for name in names if name not in ELEMENTS]
    return f"{', '.join(shown[:20])}, element symbols such as Fe"


def pointed(text: str, column: int, reason: str) -> str:
    """The reason, and the expression with a mark under the column."""
    column = max(1, min(column, len(text) + 1))
    start = max(0, column - 60)
    return f"column {column}: {reason}\n  {text[start : start + 100]}\n  {' ' * (column - 1 - start)}^"
