"""Conditions and quantities: nothing is executed, a syntax tree is evaluated whose nodes :func:`_value` lists."""

import ast
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import ExpressionError

Kind = Literal["condition", "number"]
Values = Mapping[str, Any]

INTERVAL_NAMES = ("lower", "upper", "in_domain")
_MAX_NODES = 300
_ROUNDING = 1e-9  # share by which equal numbers may differ: 0.05 + 0.35 is 0.39999999999999997


def _rounding(left: Any, right: Any) -> Any:
    """How far two numbers may be apart and still count as equal."""
    return _ROUNDING * np.maximum(np.abs(left), np.abs(right)) + _ROUNDING**2


def _equal(left: Any, right: Any) -> Any:
    apart = np.abs(left - right)
    return (left == right) | ((apart <= _rounding(left, right)) & np.isfinite(apart))


_OPERATIONS: dict[type, Any] = {
    ast.And: np.logical_and,
    ast.Or: np.logical_or,
    ast.Not: np.logical_not,
    ast.USub: np.negative,
    ast.UAdd: np.positive,
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
    ast.Lt: lambda left, right: (left < right) & ~_equal(left, right),
    ast.LtE: lambda left, right: (left < right) | _equal(left, right),
    ast.Gt: lambda left, right: (left > right) & ~_equal(left, right),
    ast.GtE: lambda left, right: (left > right) | _equal(left, right),
    ast.Eq: _equal,
    ast.NotEq: lambda left, right: ~_equal(left, right),
}
_OF_ONE: dict[str, Any] = {"abs": np.abs, "sqrt": np.sqrt, "log10": np.log10}
_ALLOWED = (
    "known are plain numbers, names, + - * / **, < <= > >= == !=, 'and', 'or', 'not', parentheses, abs, sqrt and log10 "
    "of one number, min and max of two or more"
)


@dataclass(frozen=True)
class Expression:
    """A condition or a quantity, checked against the names that exist; ``names`` are those that it depends on."""

    text: str
    tree: ast.expr
    names: frozenset[str]

    def __call__(self, values: Values) -> np.ndarray:
        """Evaluate for arrays of shape (n,) by name: shape (n,), or () where only numbers were written."""
        with np.errstate(all="ignore"):  # 1 / 0 is infinite, and NaN meets no condition
            return np.asarray(_value(self.tree, values))


class _RefusedError(Exception):
    """A node that is not allowed, and why."""


def _value(node: ast.expr, values: Values) -> Any:
    match node:
        case ast.Constant(value=bool(truth)):
            return np.bool_(truth)
        case ast.Constant(value=int() | float() as number) if abs(number) < 1e300:
            return np.float64(number)
        case ast.Name() | ast.Attribute() if name := _dotted(node):
            if name not in values:
                raise _RefusedError(node, _unknown(name, values))
            return values[name]
        case ast.BoolOp(op=op, values=operands):
            return reduce(_OPERATIONS[type(op)], _values(operands, "condition", values))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATIONS:
            wanted: Kind = "condition" if isinstance(op, ast.Not) else "number"
            return _OPERATIONS[type(op)](*_values([operand], wanted, values))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](*_values([left, right], "number", values))
        case ast.Compare(left=left, ops=ops, comparators=others) if {*map(type, ops)} <= {*_OPERATIONS}:
            sides = pairwise(_values([left, *others], "number", values))
            held = [_OPERATIONS[type(op)](*two) for op, two in zip(ops, sides, strict=True)]
            return reduce(np.logical_and, held)
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _OF_ONE:
            return _OF_ONE[name](*_values([argument], "number", values))
        case ast.Call(func=ast.Name(id="min" | "max" as name), args=[_, _, *_] as numbers, keywords=[]):
            smaller_or_larger = np.minimum if name == "min" else np.maximum
            return reduce(smaller_or_larger, _values(numbers, "number", values))
    raise _RefusedError(node, f"this is not allowed; {_ALLOWED}")


def _values(nodes: Sequence[ast.expr], wanted: Kind, values: Values) -> list[Any]:
    found = [_value(node, values) for node in nodes]
    for node, value in zip(nodes, found, strict=True):
        if (kind := _kind(value)) != wanted:
            raise _RefusedError(node, f"this is a {kind} where a {wanted} is needed")
    return found


def _kind(value: Any) -> Kind:
    return "condition" if np.asarray(value).dtype == bool else "number"


def _dotted(node: ast.AST) -> str | None:
    """Name that a node stands for, such as ``gap.lower``; ``None`` if it is something else."""
    text = ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""
    return text if all(map(str.isidentifier, text.split("."))) else None


def _names(node: ast.AST) -> frozenset[str]:
    name = _dotted(node)
    return frozenset([name]) if name else frozenset().union(*map(_names, ast.iter_child_nodes(node)))


def _unknown(name: str, known: Iterable[str]) -> str:
    if near := difflib.get_close_matches(name, known, n=3, cutoff=0.6):
        return f"unknown name {name!r}; did you mean {' or '.join(near)}?"
    listed = [other for other in known if other not in ELEMENTS][:20]
    return f"unknown name {name!r}; known: {', '.join(listed)}, element symbols such as Fe"


def parse_expression(text: str, properties: Iterable[str], kind: Kind) -> list[Expression]:
    """Read ``'bulk_modulus > 200 and band_gap.lower >= 1'`` or a number as the parts that ``and`` joins at its top."""
    text = " ".join(text.split())
    if not text:
        raise ExpressionError(f"The {kind} is empty. Write e.g. 'bulk_modulus > 200', or leave it out.")
    if (comment := text.find("#")) >= 0:  # the parser would silently ignore the rest
        raise _pointed(text, comment, "comments are not allowed; leave it out")
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        # The parser gives no column for what is missing at the end.
        column = (getattr(error, "offset", None) or len(text) + 1) - 1
        reason = getattr(error, "msg", type(error).__name__)
        raise _pointed(text, column, f"this cannot be read ({reason}); {_ALLOWED}") from None
    if (size := len([*ast.walk(tree)])) > _MAX_NODES:
        raise ExpressionError(f"The {kind} has {size} parts; at most {_MAX_NODES} are read. Make it simpler.")
    known: dict[str, Any] = {}
    for name in properties:
        known |= {name: 1.0, f"{name}.lower": 1.0, f"{name}.upper": 1.0, f"{name}.in_domain": True}
    known |= {"n_elements": 1.0} | dict.fromkeys(ELEMENTS, 1.0)
    try:
        with np.errstate(all="ignore"):
            found = _kind(_value(tree, known))
    except _RefusedError as refused:
        node, reason = refused.args
        before = text.encode()[: node.col_offset]  # the parser counts bytes
        raise _pointed(text, len(before.decode(errors="ignore")), reason) from None
    if found != kind:
        advice = f"Compare it with something, e.g. '{text} > 0'" if kind == "condition" else "Give a property"
        raise ExpressionError(f"{text!r} is a {found}, not a {kind}. {advice}.")
    return [
        Expression(ast.get_source_segment(text, part) or text, part, _names(part) & {*known})
        for part in _joined_by_and(tree)
    ]


def _joined_by_and(tree: ast.expr) -> list[ast.expr]:
    if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And):
        return [part for operand in tree.values for part in _joined_by_and(operand)]
    return [tree]


def _pointed(text: str, offset: int, reason: str) -> ExpressionError:
    """An error with the expression and a mark under the character at an offset."""
    offset = min(offset, len(text))
    start = max(0, offset - 60)
    mark = " " * (offset - start)
    return ExpressionError(f"column {offset + 1}: {reason}\n  {text[start : start + 100]}\n  {mark}^")


def composition_values(fractions: NDArray[np.float64]) -> dict[str, np.ndarray]:
    """Values of ``n_elements`` and the elements for elemental fractions of shape (n, 86)."""
    return {**dict(zip(ELEMENTS, fractions.T, strict=True)), "n_elements": (fractions > 0).sum(axis=1)}


def read_conditions(where: str | None, in_domain: bool, properties: Sequence[str]) -> tuple[Expression, ...]:
    """Conditions that must all hold; with ``in_domain``, every property must be in its training domain."""
    found = [] if where is None else parse_expression(where, properties, "condition")
    added = []  # gap.lower >= 1 implies gap >= 1, which can be checked before the interval is known
    for name, more, value in bounds_in(found):
        before, _, ending = name.rpartition(".")
        if before in properties and (ending, more) in (("lower", True), ("upper", False)):
            added.append(f"{before} {'>=' if more else '<='} {value!r}")
    added += [f"{name}.in_domain" for name in properties if in_domain]
    return (*found, *(part for text in added for part in parse_expression(text, properties, "condition")))


def bounds_in(conditions: Iterable[Expression]) -> Iterator[tuple[str, bool, float]]:
    """Comparisons of a name with a number: the name, whether it must be more, and the number; two in ``1 <= x < 2``."""
    for tree in (part.tree for part in conditions):
        if not isinstance(tree, ast.Compare):
            continue
        for (left, right), operation in zip(pairwise([tree.left, *tree.comparators]), tree.ops, strict=True):
            more = isinstance(operation, ast.Gt | ast.GtE)
            if more or isinstance(operation, ast.Lt | ast.LtE):
                for side, other, asks_more in ((left, right, more), (right, left, not more)):
                    if name := _dotted(side):
                        with suppress(ValueError, TypeError):  # not a number
                            yield name, asks_more, float(ast.literal_eval(other))


def range_of(conditions: Iterable[Expression], name: str) -> tuple[float, float]:
    """Range outside of which a value of this name fails a condition, wider by the rounding that comparisons allow."""
    bounds = [(more, value) for other, more, value in bounds_in(conditions) if other == name]
    low = max((value for more, value in bounds if more), default=-np.inf)
    high = min((value for more, value in bounds if not more), default=np.inf)
    return low - 2 * _rounding(low, low), high + 2 * _rounding(high, high)


def bounded_property(conditions: Iterable[Expression], properties: Iterable[str]) -> tuple[str, bool] | None:
    """The first property that a condition compares with a number, and whether it asks for more of it."""
    owners = {name: p for p in properties for name in (p, f"{p}.lower", f"{p}.upper")}
    return next(((owners[name], more) for name, more, _ in bounds_in(conditions) if name in owners), None)
