"""What a composition must meet, in pieces that can be checked as soon as their properties are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS
from crossprop.screening.expressions import parse_condition, parse_quantity
from crossprop.screening.grammar import Expression, Kind
from crossprop.screening.ranges import asked_range, bounds_in, implied

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
