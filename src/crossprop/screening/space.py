"""The compositions to screen: all of some elements, each once and readable from any position, or those of a file."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import COLUMN, ELEMENTS, Amounts, parse_formula, plain_formula, spelled_out
from crossprop.errors import FormulaError, ScreeningError, UserFileError


@dataclass(frozen=True)
class Compositions:
    """Some compositions: positions in the space, shape (n,), amounts, (n, 86), and formulas of a file, (n,)."""

    positions: NDArray[np.int64]
    amounts: NDArray[Any]
    written: NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, rows: NDArray[Any] | slice) -> Compositions:
        written = None if self.written is None else self.written[rows]
        return Compositions(self.positions[rows], self.amounts[rows], written)

    def fractions(self) -> NDArray[np.float64]:
        """Elemental fractions, shape (n, 86)."""
        matrix: NDArray[np.float64] = self.amounts / self.amounts.sum(axis=1, keepdims=True)
        return matrix

    def formulas(self) -> list[str]:
        """Formulas as the file gives them, or from the least electronegative element to the most."""
        if self.written is not None:
            return self.written.tolist()
        order = _by_electronegativity()
        ordered = self.amounts[:, order]
        rows, places = np.nonzero(ordered)
        amounts = ordered[rows, places]
        formulas = [""] * len(self)
        for row, place, amount in zip(rows.tolist(), places.tolist(), amounts.tolist(), strict=True):
            formulas[row] += ELEMENTS[order[place]] + ("" if amount == 1 else str(amount))
        return list(map(spelled_out, formulas))


@cache
def of_elements(attribute: str) -> tuple[Any, ...]:
    """An attribute that smact has of the 86 elements; ``None`` where it knows none."""
    from smact import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(getattr(Element(symbol), attribute) for symbol in ELEMENTS)


@cache
def _by_electronegativity() -> list[int]:
    """Columns of the elements in the order of Pauling's scale, ties by atomic number."""
    values = of_elements("pauling_eneg")
    return sorted(range(len(ELEMENTS)), key=lambda i: np.inf if values[i] is None else float(values[i]))


_MAX_PATTERNS = 5_000_000
_MOST_ELEMENTS = 12
_TOO_MANY = 10**15


@lru_cache(maxsize=64)
def _patterns(n_elements: int, max_atoms: int, max_amount: int, parts: int | None) -> NDArray[np.int32]:
    """Amounts from 1, shape (n, n_elements), smaller sums first: reduced formulas, or those that sum to ``parts``."""
    if parts is not None:
        heads = _bounded(n_elements - 1, parts - 1, parts)
        patterns = np.column_stack([heads, parts - heads.sum(axis=1)]).astype(np.int32)
    else:
        patterns = _bounded(n_elements, max_atoms, max_amount)
        patterns = patterns[np.gcd.reduce(patterns, axis=1) == 1] if len(patterns) else patterns
    return patterns[np.lexsort((*patterns.T[::-1], patterns.sum(axis=1)))]


def _bounded(n_elements: int, max_atoms: int, max_amount: int) -> NDArray[np.int32]:
    """All rows of whole numbers from 1 to ``max_amount`` whose sum is at most ``max_atoms``."""
    if _at_most(n_elements, max_atoms, max_amount) > _MAX_PATTERNS:
        raise ScreeningError(
            f"{n_elements} elements with up to {max_atoms} atoms give more than {_MAX_PATTERNS:,} sets of "
            "amounts per system. Lower --max-atoms or --max-elements, or take a coarser --fractions."
        )
    rows = np.zeros((1, 0), np.int32)
    room = np.array([max_atoms - n_elements])  # what the next element may have beyond 1
    for _ in range(n_elements):
        choices = np.clip(room + 1, 0, max_amount)
        parent = np.repeat(np.arange(len(rows)), choices)
        amounts = np.arange(len(parent)) - np.repeat(np.cumsum(choices) - choices, choices) + 1
        rows = np.column_stack([rows[parent], amounts]).astype(np.int32)
        room = room[parent] - amounts + 1
    return rows


def _at_most(n_elements: int, max_atoms: int, max_amount: int) -> int:
    return min(comb(max_atoms, n_elements), max_amount**n_elements)


@dataclass(frozen=True)
class ElementSpace:
    """Every reduced composition of all systems, smaller first; with ``parts`` fractions are multiples of 1/parts."""

    elements: tuple[str, ...]
    must: tuple[str, ...] = ()
    min_elements: int = 2
    max_elements: int = 3
    max_atoms: int = 10
    max_amount: int = 10
    parts: int | None = None

    def __post_init__(self) -> None:
        fewest, most = self.min_elements, self.max_elements
        if strange := [symbol for symbol in self.must if symbol not in self.elements]:
            raise ScreeningError(
                f"Every composition must contain {', '.join(strange)}, which is not among the elements. Add it to "
                "--elements or drop it from --must-contain."
            )
        if not fewest <= most <= _MOST_ELEMENTS:
            raise ScreeningError(
                f"{fewest} to {most} elements cannot be enumerated: give --min-elements <= --max-elements <= "
                f"{_MOST_ELEMENTS}."
            )
        limits = self.parts or self.max_atoms, self.parts or self.max_amount
        bound = sum(n * _at_most(k, *limits) for k, n in self._systems_of.items())
        if bound > _TOO_MANY:  # before any amounts are made
            raise ScreeningError(
                f"That makes up to {bound:.1e} compositions, too many to screen. "
                "Give fewer --elements, or lower --max-elements or --max-atoms."
            )
        if self.total == 0:
            raise ScreeningError(
                f"There is no composition of {fewest} to {most} of {len(self.elements)} element(s) within the limits. "
                "Give more elements, or raise --max-atoms or --max-amount."
            )

    @cached_property
    def _systems_of(self) -> dict[int, int]:
        """Number of systems by their number of elements."""
        fewest, most = max(self.min_elements, len(self.must), 1), min(self.max_elements, len(self.elements))
        free, must = len(self.elements) - len(self.must), len(self.must)
        return {k: comb(free, k - must) for k in range(fewest, most + 1)}

    @cached_property
    def total(self) -> int:
        """Number of compositions, without making one."""
        limits = (self.max_atoms, self.max_amount, self.parts)
        return sum(n * len(_patterns(k, *limits)) for k, n in self._systems_of.items())

    def block(self, start: int, stop: int) -> Compositions:
        """The compositions from one position to before another; positions beyond the end are left out."""
        stop = min(stop, self.total)
        amounts = np.zeros((max(0, stop - start), len(ELEMENTS)), np.int32)
        first = 0
        for k, n_systems in self._systems_of.items():
            patterns = _patterns(k, self.max_atoms, self.max_amount, self.parts)
            size = n_systems * len(patterns)
            low, high = max(start, first), min(stop, first + size)
            if low < high:
                systems, rows = np.divmod(np.arange(low - first, high - first), len(patterns))
                which, place = np.unique(systems, return_inverse=True)
                columns = self._systems(k, which)[place]
                np.put_along_axis(amounts[low - start : high - start], columns, patterns[rows], axis=1)
            first += size
        return Compositions(np.arange(start, start + len(amounts)), amounts)

    def _systems(self, k: int, ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Columns of the systems of k elements with these ranks in lexicographic order, shape (n, k)."""
        free = np.array([COLUMN[e] for e in self.elements if e not in self.must], dtype=np.int64)
        left = k - len(self.must)
        # The combinatorial number system, mirrored: the rank from the end picks the smallest element first.
        rest = comb(len(free), left) - 1 - ranks
        chosen = np.empty((len(ranks), k), dtype=np.int64)
        for place in range(left):
            table = np.array([comb(c, left - place) for c in range(len(free))], dtype=np.int64)
            digit = np.searchsorted(table, rest, side="right") - 1
            rest = rest - table[digit]
            chosen[:, place] = free[len(free) - 1 - digit]
        chosen[:, left:] = [COLUMN[symbol] for symbol in self.must]
        return np.sort(chosen, axis=1)


@dataclass(frozen=True)
class ListedSpace:
    """The distinct compositions of a file, in its order, each with its first formula as the file gives it."""

    written: tuple[str, ...]
    repeated: int = 0  # rows that repeat a composition
    n_bad: int = 0  # rows that hold no formula
    bad: tuple[str, ...] = ()  # why, for the first ten
    notes: tuple[str, ...] = ()  # how the file was read

    @property
    def total(self) -> int:
        """Number of distinct compositions."""
        return len(self.written)

    def block(self, start: int, stop: int) -> Compositions:
        """As :meth:`ElementSpace.block`."""
        written = self.written[start:stop]
        amounts = np.zeros((len(written), len(ELEMENTS)))
        for row, text in enumerate(written):
            for symbol, amount in parse_formula(plain_formula(text)).items():
                amounts[row, COLUMN[symbol]] = amount
        return Compositions(np.arange(start, start + len(written)), amounts, np.array(written, dtype=object))


Space = ElementSpace | ListedSpace


def read_formulas(
    path: Path, formula_column: str | None = None, sheet: str | None = None, kind: str = Amounts.ATOMIC
) -> ListedSpace:
    """Read the distinct compositions of a list of formulas; a :class:`ScreeningError` if there is none."""
    from crossprop.data.formula_list import read_formula_list

    try:
        listed = read_formula_list(path, formula_column, sheet=sheet, amounts=kind)
    except UserFileError as error:
        raise ScreeningError(str(error)) from error
    found: dict[frozenset[tuple[str, float]], str] = {}
    bad: list[str] = []
    rows = zip(listed.lines, listed.formulas, listed.written, strict=True)
    for row, (line, formula, written) in enumerate(rows):
        if row in listed.reasons:
            bad.append(f"line {line}: {listed.reasons[row]}")
            continue
        try:
            amounts = parse_formula(formula)
        except FormulaError as error:
            bad.append(f"line {line}: {error}")
            continue
        whole = sum(amounts.values())
        key = frozenset((symbol, round(amount / whole, 6)) for symbol, amount in amounts.items())
        # A formula that a spreadsheet made a date is shown as the formula that it was.
        found.setdefault(key, written.strip() if plain_formula(written) == formula else formula)
    if not found:
        advice = f"Write one in each line. The first: {bad[0]}"
        raise ScreeningError(f"{path} holds no formula in {len(bad)} row(s). {advice}")
    repeated = len(listed.lines) - len(bad) - len(found)
    return ListedSpace(tuple(found.values()), repeated, len(bad), tuple(bad[:10]), listed.notes)
