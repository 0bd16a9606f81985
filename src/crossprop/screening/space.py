"""All compositions of some elements, each once, in an order that lets a stopped screening go on by position."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import comb
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import ScreeningError
from crossprop.screening.compositions import Compositions
from crossprop.screening.patterns import (
    count_grid_patterns,
    count_reduced_patterns,
    grid_patterns,
    reduced_patterns,
)

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
