"""What a composition must meet, in pieces that can be checked as soon as their properties are known."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS
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


INTERVAL_NAMES = ("lower", "upper", "in_domain")
COMPOSITION_NAMES: Mapping[str, Kind] = {"n_elements": "number", **dict.fromkeys(ELEMENTS, "number")}


def names_of(properties: Iterable[str]) -> dict[str, Kind]:
    """What may stand in the expressions of a screening of these properties."""
    names: dict[str, Kind] = {}
    for name in properties:
        names[name] = names[f"{name}.lower"] = names[f"{name}.upper"] = "number"
        names[f"{name}.in_domain"] = "condition"
    return {**names, **COMPOSITION_NAMES}


def intervals_of(name: str) -> frozenset[str]:
    """Names that are known once the intervals of a property are."""
    return frozenset(f"{name}.{ending}" for ending in INTERVAL_NAMES)


@dataclass(frozen=True)
class Conditions:
    """Conditions that must all hold.

    Attributes:
        parts: To be checked one by one.
    """

    parts: tuple[Expression, ...] = ()

    @classmethod
    def read(cls, where: str | None, in_domain: bool, properties: tuple[str, ...]) -> Conditions:
        """Take a condition apart at its ``and``, and add what follows from it and costs less to check.

        Args:
            where: The condition, if there is one.
            in_domain: Ask for the training domain of every property, too.
            properties: Names of the properties.

        Raises:
            ExpressionError: The condition is none, or names what is not screened.
        """
        names = names_of(properties)
        parts = () if where is None else parse_condition(where, names).parts
        parts += tuple(further for part in parts for further in implied(part, names))
        if in_domain:
            parts += tuple(parse_condition(f"{name}.in_domain", names) for name in properties)
        return cls(parts)

    def ready(self, known: Iterable[str]) -> Conditions:
        """Those that need nothing else than these names and the composition."""
        given = {*known, *COMPOSITION_NAMES}
        return Conditions(tuple(part for part in self.parts if part.names <= given))

    def without(self, done: Conditions) -> Conditions:
        """Those that are not among others."""
        return Conditions(tuple(part for part in self.parts if part not in done.parts))

    def range_of(self, name: str) -> tuple[float, float]:
        """Range outside of which a property fails; infinite where nothing bounds it."""
        return asked_range(self.parts, name)

    def hold(self, values: Mapping[str, np.ndarray], n: int) -> NDArray[np.bool_]:
        """Whether all hold for each of n compositions, shape (n,)."""
        held = np.ones(n, dtype=bool)
        for part in self.parts:
            held &= part(values)
        return held


def bounded_property(conditions: Conditions, properties: Iterable[str]) -> tuple[str, bool] | None:
    """The first property that a condition compares with a number, and whether more of it is asked for."""
    owners = {name: p for p in properties for name in (p, f"{p}.lower", f"{p}.upper")}
    for part in conditions.parts:
        for name, more, _ in bounds_in(part):
            if name in owners:
                return owners[name], more
    return None


def read_objectives(
    objectives: Iterable[tuple[str, bool]], properties: Iterable[str]
) -> tuple[tuple[Expression, bool], ...]:
    """Quantities to rank by, read, with whether more is better.

    Raises:
        ExpressionError: One is no quantity, or names what is not screened.
    """
    names = names_of(properties)
    return tuple((parse_quantity(text, names), more) for text, more in objectives)
