"""Which compositions can be neutral: smact's data and rules, for many compositions at once.

Source: Davies et al. 2016, doi:10.1016/j.chempr.2016.09.010 (charge neutrality and electronegativity).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS
from crossprop.screening.compositions import Compositions
from crossprop.screening.valence import mixed_valence_possible

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
