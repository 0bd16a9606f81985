"""Which compositions can be neutral: smact's data and rules (Davies et al. 2016, doi:10.1016/j.chempr.2016.09.010)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import pairwise
from operator import or_
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS
from crossprop.features.charge_neutrality import any_neutral, padded_states
from crossprop.screening.space import Compositions, of_elements

_ROUNDING = 1e-6  # of the share of an element in a row of computed shares
_HIGHEST = 10  # charge of an atom

States = tuple[int, ...]
OxidationStates = Literal["icsd24", "icsd16", "smact14", "pymatgen_sp", "wiki"]


@dataclass(frozen=True)
class ChargeBalance:
    """Keeps what smact's ``smact_validity`` calls valid; the compositions of a system are judged together."""

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
        shares = amounts / amounts.sum(axis=1, keepdims=True)
        rounding = _rounding(amounts)
        kept = np.zeros(len(amounts), dtype=bool)
        for side in sides:
            kept |= any_neutral(shares[:, :, None] * padded_states(side), map(len, side), _HIGHEST * rounding)
        several = [self.mixed_valence and symbol in MIXED_VALENCE_ELEMENTS for symbol in symbols]
        if any(several):
            for row in np.flatnonzero(~kept):
                if counts := _whole(amounts[row], rounding[row]):
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


def _rounding(amounts: NDArray[Any]) -> NDArray[np.float64]:
    """Possible error of the shares of each row: half of the last place, if a file gives amounts to 3, 4 or 5 places."""
    rounding, total = np.full(len(amounts), _ROUNDING), amounts.sum(axis=1)
    for places in (5, 4, 3, 2) if amounts.dtype.kind == "f" else ():
        rounded = (amounts.round(places) == amounts).all(axis=1)
        rounding[rounded] = 0.5 * 10.0**-places / total[rounded] if places > 2 else _ROUNDING
    return rounding


def _whole(amounts: NDArray[Any], rounding: float) -> list[int]:
    """The smallest whole amounts of a composition, as smact takes them; empty where decimals need over 1,000 atoms."""
    if (np.rint(amounts.astype(float)) != amounts).any():
        n = np.arange(1, 1001)[:, None]
        multiples = n * amounts / amounts.sum()
        near = (np.abs(multiples - np.rint(multiples)) <= rounding * n).all(axis=1)
        if not near.any():
            return []
        amounts = np.rint(multiples[near.argmax()])
    whole = amounts.astype(int)
    return (whole // np.gcd.reduce(whole)).tolist()


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
