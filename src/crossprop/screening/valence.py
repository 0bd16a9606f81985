"""Neutrality where an element may have several oxidation states in one compound, as in Fe3O4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
