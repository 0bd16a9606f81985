"""A batch of compositions as arrays: which elements, how much of each, and what that makes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS


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
