"""All compositions of some elements, each once, in an order that lets a stopped screening go on by position."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from math import comb
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import ScreeningError


@dataclass(frozen=True)
class Compositions:
    """Some compositions of a space, in its order.

    Attributes:
        positions: Where they stand in the space, shape (n,), int64, increasing.
        elements: Columns of ``ELEMENTS``, shape (n, most elements), by atomic number; anything where the amount is 0.
        amounts: Amounts in the formula, same shape; 0 where a row has fewer elements.
        written: Formulas as somebody wrote them, shape (n,), object; ``None`` where they are still to be written.
    """

    positions: NDArray[np.int64]
    elements: NDArray[np.int16]
    amounts: NDArray[Any]
    written: NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, rows: NDArray[Any] | slice) -> Compositions:
        written = None if self.written is None else self.written[rows]
        return Compositions(self.positions[rows], self.elements[rows], self.amounts[rows], written)

    @property
    def n_elements(self) -> NDArray[np.int64]:
        """Number of elements of every composition, shape (n,)."""
        counts: NDArray[np.int64] = (self.amounts > 0).sum(axis=1)
        return counts

    def fractions(self) -> NDArray[np.float64]:
        """Elemental fractions, shape (n, 86): what the models take, without a formula in between."""
        matrix = np.zeros((len(self), len(ELEMENTS)))
        rows, places = np.nonzero(self.amounts)
        matrix[rows, self.elements[rows, places]] = self.amounts[rows, places]
        totals = matrix.sum(axis=1, keepdims=True)
        return np.divide(matrix, totals, out=matrix, where=totals > 0)

    def formulas(self) -> list[str]:
        """Formulas as they were written, or as chemists do: from the least electronegative element to the most."""
        if self.written is not None:
            return self.written.tolist()
        rank = _writing_order()
        present = self.amounts > 0
        order = np.argsort(np.where(present, rank[self.elements], len(ELEMENTS)), axis=1, kind="stable")
        elements = np.take_along_axis(self.elements, order, axis=1).tolist()
        amounts = np.take_along_axis(self.amounts, order, axis=1).tolist()
        return [
            "".join(f"{ELEMENTS[e]}{_number(a)}" for e, a in zip(row, counts, strict=True) if a > 0)
            for row, counts in zip(elements, amounts, strict=True)
        ]


def _number(amount: float) -> str:
    return "" if amount == 1 else f"{amount:.10g}"


@cache
def _writing_order() -> NDArray[np.int64]:
    """Rank of every element by electronegativity (Pauling's scale), ties by atomic number."""
    from smact import Element

    values = [Element(symbol).pauling_eneg for symbol in ELEMENTS]
    known = np.array([np.inf if value is None else float(value) for value in values])
    rank = np.empty(len(ELEMENTS), dtype=np.int64)
    rank[np.argsort(known, kind="stable")] = np.arange(len(ELEMENTS))
    return rank


MAX_PATTERNS = 5_000_000
"""Sets of amounts of one system; more would mean an alloy grid too fine to be screened."""


@lru_cache(maxsize=64)
def reduced_patterns(n_elements: int, max_atoms: int, max_amount: int) -> NDArray[np.int32]:
    """All reduced formulas' amounts: whole numbers from 1 without a common divisor.

    Args:
        n_elements: Elements of the system.
        max_atoms: Largest sum of the amounts.
        max_amount: Largest amount of one element.

    Returns:
        Shape (n_patterns, n_elements), read-only, ordered by their sum and then by the amounts.

    Raises:
        ScreeningError: There are more than :data:`MAX_PATTERNS`.
    """
    patterns = _bounded(n_elements, max_atoms, max_amount)
    patterns = patterns[np.gcd.reduce(patterns, axis=1) == 1] if len(patterns) else patterns
    order = np.lexsort((*patterns.T[::-1], patterns.sum(axis=1)))
    return _frozen(patterns[order])


@lru_cache(maxsize=64)
def count_reduced_patterns(n_elements: int, max_atoms: int, max_amount: int) -> int:
    """Number of :func:`reduced_patterns`, without making them: all amounts, less the multiples of smaller ones."""
    most = max_atoms // n_elements
    free = [True] * (most + 1)  # of squares
    factors = [0] * (most + 1)
    for p in range(2, most + 1):
        if factors[p] == 0:
            for multiple in range(p, most + 1, p):
                factors[multiple] += 1
                free[multiple] &= multiple // p % p != 0
    return sum(
        (-1) ** factors[d] * _count_bounded(n_elements, max_atoms // d, max_amount // d)
        for d in range(1, most + 1)
        if free[d]
    )


def count_grid_patterns(n_elements: int, parts: int) -> int:
    """Number of :func:`grid_patterns`, without making them."""
    return comb(parts - 1, n_elements - 1)


def _count_bounded(n_elements: int, max_atoms: int, max_amount: int) -> int:
    """Rows of whole numbers from 1 to ``max_amount`` whose sum is at most ``max_atoms``."""
    # By inclusion and exclusion over the elements that exceed the largest amount.
    return sum(
        (-1) ** j * comb(n_elements, j) * comb(max_atoms - j * max_amount, n_elements)
        for j in range(n_elements + 1)
        if max_atoms - j * max_amount >= n_elements
    )


@lru_cache(maxsize=64)
def grid_patterns(n_elements: int, parts: int) -> NDArray[np.int32]:
    """Amounts of an alloy grid: whole numbers from 1 that sum to ``parts``, shape (n_patterns, n_elements).

    Each is a composition of its own, since fractions are multiples of 1/parts; read-only, in lexicographic order.

    Raises:
        ScreeningError: There are more than :data:`MAX_PATTERNS`.
    """
    if n_elements > parts:
        return _frozen(np.zeros((0, n_elements), np.int32))
    if n_elements == 1:
        return _frozen(np.array([[parts]], np.int32))
    heads = _bounded(n_elements - 1, parts - 1, parts)
    patterns = np.column_stack([heads, parts - heads.sum(axis=1)]).astype(np.int32)
    return _frozen(patterns[np.lexsort(patterns.T[::-1])])


def _bounded(n_elements: int, max_atoms: int, max_amount: int) -> NDArray[np.int32]:
    """All rows of whole numbers from 1 to ``max_amount`` whose sum is at most ``max_atoms``."""
    rows = np.zeros((1, 0), np.int32)
    room = np.array([max_atoms - n_elements])  # what a row may still give out beyond 1 for everybody
    if _count_bounded(n_elements, max_atoms, max_amount) > MAX_PATTERNS:
        raise ScreeningError(
            f"{n_elements} elements with up to {max_atoms} atoms give more than {MAX_PATTERNS:,} sets of "
            "amounts per system. Lower --max-atoms or --max-elements, or take a coarser --fractions."
        )
    for _ in range(n_elements):
        choices = np.clip(room + 1, 0, max_amount)
        parent = np.repeat(np.arange(len(rows)), choices)
        amounts = np.arange(len(parent)) - np.repeat(np.cumsum(choices) - choices, choices) + 1
        rows = np.column_stack([rows[parent], amounts]).astype(np.int32)
        room = room[parent] - amounts + 1
    return rows


def _frozen(patterns: NDArray[np.int32]) -> NDArray[np.int32]:
    patterns.setflags(write=False)
    return patterns


MOST_ELEMENTS = 12
_TOO_MANY = 10**15


class Space(Protocol):
    """Compositions that can be read from any position."""

    @property
    def total(self) -> int:
        """Number of positions."""
        ...

    def block(self, start: int, stop: int) -> Compositions:
        """The compositions from one position to before another."""
        ...


@dataclass(frozen=True)
class ElementSpace:
    """Every reduced composition of every system of some elements.

    Order: systems of fewer elements first, systems of equally many in the order of ``ELEMENTS``, and within a
    system smaller formulas first. Nothing is stored per composition: a position is computed.

    Attributes:
        elements: Symbols, by atomic number.
        must: Symbols that every composition holds; a part of ``elements``.
        min_elements: Fewest elements of a composition.
        max_elements: Most elements of a composition.
        max_atoms: Largest sum of amounts in the reduced formula.
        max_amount: Largest amount of one element in the reduced formula.
        parts: Fractions are multiples of one by this number (an alloy grid), or ``None`` for reduced formulas.
    """

    elements: tuple[str, ...]
    must: tuple[str, ...] = ()
    min_elements: int = 2
    max_elements: int = 3
    max_atoms: int = 10
    max_amount: int = 10
    parts: int | None = None

    def __post_init__(self) -> None:
        if strange := [symbol for symbol in self.must if symbol not in self.elements]:
            raise ScreeningError(
                f"Every composition must contain {', '.join(strange)}, which is not among the elements. Add it to "
                "--elements or drop it from --must-contain."
            )
        if not 1 <= self.min_elements <= self.max_elements <= MOST_ELEMENTS:
            raise ScreeningError(
                f"{self.min_elements} to {self.max_elements} elements cannot be enumerated: give "
                f"1 <= --min-elements <= --max-elements <= {MOST_ELEMENTS}."
            )
        if self.total == 0:
            raise ScreeningError(
                f"There is no composition of {self.min_elements} to {self.max_elements} of the "
                f"{len(self.elements)} element(s) {', '.join(self.elements[:10])} within the limits. "
                "Give more elements, or raise --max-atoms or --max-amount."
            )
        if self.total > _TOO_MANY:
            raise ScreeningError(
                f"That makes {self.total:.1e} compositions, which nobody can screen. "
                "Give fewer --elements, or lower --max-elements or --max-atoms."
            )

    @cached_property
    def total(self) -> int:
        """Number of compositions, exact, without making one."""
        return sum(self._n_systems(k) * self._n_patterns(k) for k in self._sizes)

    def block(self, start: int, stop: int) -> Compositions:
        """The compositions from one position to before another; positions beyond the end are left out."""
        stop = min(stop, self.total)
        width = min(self.max_elements, len(self.elements))
        n = max(0, stop - start)
        elements, amounts = np.zeros((n, width), np.int16), np.zeros((n, width), np.int32)
        first = 0
        for k in self._sizes:
            size = self._n_systems(k) * self._n_patterns(k)
            low, high = max(start, first), min(stop, first + size)
            if low < high:
                patterns = self._patterns(k)
                systems, rows = np.divmod(np.arange(low - first, high - first), len(patterns))
                which, place = np.unique(systems, return_inverse=True)
                here = slice(low - start, high - start)
                elements[here, :k] = self._systems(k, which)[place]
                amounts[here, :k] = patterns[rows]
            first += size
        return Compositions(np.arange(start, start + n), elements, amounts)

    @property
    def _sizes(self) -> range:
        return range(
            max(self.min_elements, len(self.must), 1), min(self.max_elements, len(self.elements)) + 1
        )

    @property
    def _free(self) -> list[int]:
        return [ELEMENTS.index(symbol) for symbol in self.elements if symbol not in self.must]

    def _n_systems(self, k: int) -> int:
        return comb(len(self._free), k - len(self.must))

    def _n_patterns(self, k: int) -> int:
        if self.parts is not None:
            return count_grid_patterns(k, self.parts)
        return count_reduced_patterns(k, self.max_atoms, self.max_amount)

    def _patterns(self, k: int) -> NDArray[np.int32]:
        if self.parts is not None:
            return grid_patterns(k, self.parts)
        return reduced_patterns(k, self.max_atoms, self.max_amount)

    def _systems(self, k: int, ranks: NDArray[np.int64]) -> NDArray[np.int16]:
        """Columns of the systems of k elements with these ranks in lexicographic order, shape (n, k)."""
        free, left = np.array(self._free, dtype=np.int64), k - len(self.must)
        # The combinatorial number system, mirrored: the rank from the end picks the smallest element first.
        rest = self._n_systems(k) - 1 - ranks
        chosen = np.empty((len(ranks), k), dtype=np.int64)
        for place in range(left):
            table = np.array([comb(c, left - place) for c in range(len(free))], dtype=np.int64)
            digit = np.searchsorted(table, rest, side="right") - 1
            rest = rest - table[digit]
            chosen[:, place] = free[len(free) - 1 - digit]
        chosen[:, left:] = [ELEMENTS.index(symbol) for symbol in self.must]
        return np.sort(chosen, axis=1).astype(np.int16)
