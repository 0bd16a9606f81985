"""Which compositions can be neutral: smact's data and rules (Davies et al. 2016, doi:10.1016/j.chempr.2016.09.010)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import pairwise, product
from operator import or_
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS
from crossprop.features.charge_neutrality import neutral_by_partial_sums
from crossprop.screening.space import Compositions, of_elements

States = tuple[int, ...]
OxidationStates = Literal["icsd24", "icsd16", "smact14", "pymatgen_sp", "wiki"]
_MOST_COMBINATIONS = 100_000  # of the states of a system, above which each composition is searched on its own
_CHUNK = 1 << 22  # charges computed at once (16 MiB of float32)


@dataclass(frozen=True)
class ChargeBalance:
    """Keeps what smact's ``smact_validity`` calls valid; the states of a system are combined once."""

    states: OxidationStates = "icsd24"
    pauling: bool = True
    alloys: bool = False
    mixed_valence: bool = False

    def keep(self, compositions: Compositions) -> NDArray[np.bool_]:
        """Tell for each composition whether it is kept, shape (n,)."""
        kept = np.zeros(len(compositions), dtype=bool)
        present = compositions.amounts > 0
        changes = np.flatnonzero((present[1:] != present[:-1]).any(axis=1)) + 1
        for start, stop in pairwise([0, *changes.tolist(), len(kept)]):
            if start < stop:
                system = np.flatnonzero(present[start])
                amounts = compositions.amounts[start:stop, system]
                kept[start:stop] = self._keep_system(tuple(system.tolist()), amounts)
        return kept

    def _keep_system(self, system: tuple[int, ...], amounts: NDArray[Any]) -> NDArray[np.bool_]:
        from smact import metals
        from smact.screening import MIXED_VALENCE_ELEMENTS

        symbols = [ELEMENTS[e] for e in system]
        if len(system) == 1 or (self.alloys and all(symbol in metals for symbol in symbols)):
            return np.ones(len(amounts), dtype=bool)
        sides = _sides(system, self.states, self.pauling)
        if sum(math.prod(map(len, side)) for side in sides) > _MOST_COMBINATIONS:
            shares = amounts / amounts.sum(axis=1, keepdims=True)
            kept = np.array([any(_adds_up(side, row) for side in sides) for row in shares], dtype=bool)
        else:
            kept = _neutral(amounts, _combinations(sides))
        several = [self.mixed_valence and symbol in MIXED_VALENCE_ELEMENTS for symbol in symbols]
        if any(several):
            for row in np.flatnonzero(~kept & (np.rint(amounts.astype(float)) == amounts).all(axis=1)):
                counts = [int(amount) for amount in amounts[row]]
                kept[row] = any(_reaches_zero(side, counts, several) for side in sides)
        return kept


@lru_cache(maxsize=4096)
def _sides(system: tuple[int, ...], name: OxidationStates, pauling: bool) -> tuple[tuple[States, ...], ...]:
    """States of each element, for every way to make the less electronegative ones the cations, if smact has them."""
    attribute = f"oxidation_states_{'sp' if name == 'pymatgen_sp' else name}"
    states = tuple(tuple(of_elements(attribute)[e] or ()) for e in system)
    sides = [states]
    if pauling:
        order = [of_elements("pauling_eneg")[e] for e in system]
        limits = [] if None in order else [*sorted(set(order)), np.inf]
        sides = [
            tuple(
                tuple(s for s in of_one if (s >= 0 if value < limit else s <= 0))
                for of_one, value in zip(states, order, strict=True)
            )
            for limit in limits
        ]
    return tuple(side for side in sides if all(side))


def _adds_up(side: tuple[States, ...], shares: NDArray[Any]) -> bool:
    """As :func:`_neutral` for one composition of many elements."""
    charges = [share * np.array(states, dtype=float) for share, states in zip(shares, side, strict=True)]
    return neutral_by_partial_sums(0.0, charges, 1e-6)


@lru_cache(maxsize=64)  # of a few megabytes each; a system's compositions follow each other
def _combinations(sides: tuple[tuple[States, ...], ...]) -> NDArray[np.float32]:
    """One state per element, all ways that can be neutral at all, shape (m, k)."""
    if not sides:
        return np.zeros((0, 0), np.float32)
    products = [np.array(list(product(*side)), np.float32).reshape(-1, len(side)) for side in sides]
    rows = np.concatenate(products)
    return rows[((rows > 0).any(axis=1) & (rows < 0).any(axis=1)) | ~rows.any(axis=1)]


def _neutral(amounts: NDArray[Any], combinations: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether any of the combinations of states, shape (m, k), makes amounts of shape (n, k) neutral."""
    found = np.zeros(len(amounts), dtype=bool)
    if not len(combinations):
        return found
    weights: NDArray[Any] = amounts.astype(np.result_type(amounts, np.float32))
    tolerance = 1e-6 * weights.sum(axis=1, keepdims=True)  # amounts of a file may be decimals
    step = max(1, _CHUNK // len(combinations))
    for start in range(0, len(amounts), step):
        rows = slice(start, start + step)
        found[rows] = (np.abs(weights[rows] @ combinations.T) <= tolerance[rows]).any(axis=1)
    return found


def _reaches_zero(states: Sequence[States], amounts: Sequence[int], several: Sequence[bool]) -> bool:
    """Whether the charges can add up to zero if some elements have several states; sums are the bits of a number."""
    bits, lowest = 1, 0
    for of_one, amount, mixed in zip(states, amounts, several, strict=True):
        low = min(of_one)
        lowest += amount * low
        atoms, charge = (amount, 1) if mixed else (1, amount)
        for _ in range(atoms):
            bits = reduce(or_, [bits << charge * (s - low) for s in of_one])
    return lowest <= 0 and bool(bits >> -lowest & 1)
