"""Which compositions can be neutral: smact's data and rules, for many compositions at once.

Source: Davies et al. 2016, doi:10.1016/j.chempr.2016.09.010 (charge neutrality and electronegativity).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS
from crossprop.screening.space import Compositions

States = tuple[int, ...]


def mixed_valence_possible(
    amounts: NDArray[Any],
    states: Sequence[States],
    several: Sequence[bool],
    electronegativities: Sequence[float | None] | None,
) -> NDArray[np.bool_]:
    """Tell for each composition of a system whether its charges can add up to none.

    The answer of smact's ``mixed_valence=True``, which tries every combination of states of every atom and gives up
    beyond a million of them; sums of charges are kept as bits here, so nothing is given up.

    Args:
        amounts: Whole numbers, shape (n, k); rows with other amounts are told no.
        states: Oxidation states of the k elements.
        several: Which elements may have several states at once.
        electronegativities: Cations must have lower ones than anions; ``None`` leaves that test out.
    """
    found = np.zeros(len(amounts), dtype=bool)
    if not all(states) or (electronegativities is not None and None in electronegativities):
        return found
    sides = list(_signed(tuple(states), electronegativities))
    whole = np.flatnonzero((np.rint(amounts.astype(np.float64)) == amounts).all(axis=1))
    for row in whole.tolist():
        counts = [int(a) for a in amounts[row].tolist()]
        found[row] = any(
            _zero_is_reached([_sums(s, n, m) for s, n, m in zip(side, counts, several, strict=True)])
            for side in sides
        )
    return found


def _signed(states: tuple[States, ...], order: Sequence[float | None] | None) -> Iterator[tuple[States, ...]]:
    """The states with every element made a cation or an anion, in all ways that the electronegativities allow."""
    if order is None:
        yield states
        return
    known = [float(value or 0.0) for value in order]
    for signs in product((True, False), repeat=len(states)):
        cations = [x for x, cation in zip(known, signs, strict=True) if cation]
        anions = [x for x, cation in zip(known, signs, strict=True) if not cation]
        if cations and anions and max(cations) >= min(anions):
            continue
        side = tuple(
            tuple(s for s in own if (s >= 0 if cation else s <= 0))
            for own, cation in zip(states, signs, strict=True)
        )
        if all(side):
            yield side


@lru_cache(maxsize=65536)
def _sums(states: States, amount: int, several: bool) -> tuple[int, int]:
    """Charges that so many atoms of an element can have: a number whose bits are charges, and the charge of bit 0."""
    low = min(states)
    if not several:
        return sum(1 << amount * (s - low) for s in states), amount * low
    reached = 1
    for _ in range(amount):
        reached = _shifted(reached, [s - low for s in states])
    return reached, amount * low


def _shifted(bits: int, steps: Sequence[int]) -> int:
    found = 0
    for step in steps:
        found |= bits << step
    return found


def _zero_is_reached(parts: list[tuple[int, int]]) -> bool:
    lowest = sum(low for _, low in parts)
    if lowest > 0:
        return False
    total = 1
    for bits, _ in parts:
        total = _shifted(total, [i for i in range(bits.bit_length()) if bits >> i & 1])
    return bool(total >> -lowest & 1)


OxidationStates = Literal["icsd24", "icsd16", "smact14", "pymatgen_sp", "wiki"]
_ATTRIBUTE = {"pymatgen_sp": "oxidation_states_sp"}
_CHUNK = 1 << 22
"""Charges computed at once (16 MiB of float32)."""


@dataclass(frozen=True)
class ChargeBalance:
    """Keeps the compositions that smact's ``smact_validity`` calls valid.

    smact's own function judges one composition at a time, about 2,000 a second; here the states of a system are
    combined once and hold for all its amounts.

    Attributes:
        states: smact's set of oxidation states.
        pauling: Cations must be less electronegative than anions.
        alloys: Compositions of metals only are kept, too.
        mixed_valence: An element that is known for it may have several states at once (Fe3O4).
    """

    states: OxidationStates = "icsd24"
    pauling: bool = True
    alloys: bool = False
    mixed_valence: bool = False

    def keep(self, compositions: Compositions) -> NDArray[np.bool_]:
        """Tell for each composition whether it is kept, shape (n,)."""
        kept = np.zeros(len(compositions), dtype=bool)
        elements = np.where(compositions.amounts > 0, compositions.elements, -1)
        if not len(elements):
            return kept
        changes = np.flatnonzero((elements[1:] != elements[:-1]).any(axis=1)) + 1
        for start, stop in pairwise([0, *changes.tolist(), len(elements)]):
            present = compositions.amounts[start] > 0
            system = tuple(elements[start][present].tolist())
            kept[start:stop] = self._keep_system(system, compositions.amounts[start:stop, present])
        return kept

    def _keep_system(self, system: tuple[int, ...], amounts: NDArray[Any]) -> NDArray[np.bool_]:
        if len(system) == 1 or (self.alloys and all(_is_metal()[e] for e in system)):
            return np.ones(len(amounts), dtype=bool)
        per_element = tuple(_oxidation_states(self.states)[e] for e in system)
        order = tuple(_electronegativities()[e] for e in system) if self.pauling else None
        kept = _neutral(amounts, _combinations(per_element, order))
        if self.mixed_valence and (several := [_is_mixed()[e] for e in system]) and any(several):
            open_rows = np.flatnonzero(~kept)
            kept[open_rows] = mixed_valence_possible(amounts[open_rows], per_element, several, order)
        return kept


def _neutral(amounts: NDArray[Any], combinations: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether any of the combinations of states, shape (m, k), makes amounts of shape (n, k) neutral."""
    found = np.zeros(len(amounts), dtype=bool)
    if not len(combinations):
        return found
    weights: NDArray[Any] = amounts.astype(
        np.float64 if np.issubdtype(amounts.dtype, np.floating) else np.float32
    )
    tolerance = 1e-6 * weights.sum(axis=1, keepdims=True)  # amounts of a file may be decimals
    step = max(1, _CHUNK // len(combinations))
    for start in range(0, len(amounts), step):
        rows = slice(start, start + step)
        charges = weights[rows] @ combinations.T
        found[rows] = (np.abs(charges) <= tolerance[rows]).any(axis=1)
    return found


@lru_cache(maxsize=4096)
def _combinations(
    states: tuple[tuple[int, ...], ...], order: tuple[float | None, ...] | None
) -> NDArray[np.float32]:
    """One state per element, all ways that can be neutral at all and pass the electronegativity test, shape (m, k)."""
    k = len(states)
    if not all(states) or (order is not None and None in order):
        return np.zeros((0, k), np.float32)
    rows = np.array(list(product(*states)), dtype=np.float32).reshape(-1, k)
    fits = ((rows > 0).any(axis=1) & (rows < 0).any(axis=1)) | (rows == 0).all(axis=1)
    rows = rows[fits]
    if order is not None:
        known = np.array(order, dtype=np.float64)
        highest_cation = np.where(rows > 0, known, -np.inf).max(axis=1)
        lowest_anion = np.where(rows < 0, known, np.inf).min(axis=1)
        rows = rows[highest_cation < lowest_anion]
    return rows


@lru_cache(maxsize=8)
def _oxidation_states(name: OxidationStates) -> tuple[tuple[int, ...], ...]:
    """States of the 86 elements in one of smact's sets; empty where it knows none."""
    from smact import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attribute = _ATTRIBUTE.get(name, f"oxidation_states_{name}")
        return tuple(tuple(getattr(Element(symbol), attribute) or ()) for symbol in ELEMENTS)


@lru_cache(maxsize=1)
def _electronegativities() -> tuple[float | None, ...]:
    from smact import Element

    return tuple(Element(symbol).pauling_eneg for symbol in ELEMENTS)


@lru_cache(maxsize=1)
def _is_metal() -> tuple[bool, ...]:
    from smact import metals

    return tuple(symbol in metals for symbol in ELEMENTS)


@lru_cache(maxsize=1)
def _is_mixed() -> tuple[bool, ...]:
    from smact.screening import MIXED_VALENCE_ELEMENTS

    return tuple(symbol in MIXED_VALENCE_ELEMENTS for symbol in ELEMENTS)
