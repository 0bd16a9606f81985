"""Whether one oxidation state per element can add up to no charge, for many compositions at once."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from crossprop.features.element_tables import element_tables

_TOLERANCE, _SINGLE_PRECISION_TOLERANCE = 1e-8, 1e-6
"""Charge per atom that counts as none: as in matminer, and where rounding to float32 leaves 4e-7 charges per atom."""
_MAX_VECTORISED = 4096  # combinations of oxidation states up to which rows are handled in one array
_BATCH_VALUES = 1 << 20  # sums held at once in the vectorised search: 8 MiB
_UNITS_PER_CHARGE = 10**12  # resolution of the exact integer sums of the search for many combinations
_MAX_SUMS = 100_000  # distinct partial sums above which the integer search coarsens its grid


@dataclass(frozen=True)
class _StateTable:
    """Oxidation states as arrays; ``multivalent`` elements ascend in their ``counts`` of ``states``, padded with 0."""

    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    only: NDArray[np.float64]  # the state of elements with a single one, else 0, shape (86,)
    multivalent: NDArray[np.intp]
    counts: NDArray[np.intp]
    states: NDArray[np.float64]


@cache
def _state_table() -> _StateTable:
    per_element = element_tables().oxidation_states
    n_states = np.array([len(states) for states in per_element])
    multivalent = np.array([i for i in np.argsort(n_states, kind="stable") if n_states[i] > 1])
    padded = np.zeros((multivalent.size, n_states.max()))
    for row, element in enumerate(multivalent):
        padded[row, : n_states[element]] = per_element[element]
    return _StateTable(
        lowest=np.array([min(states) for states in per_element]),
        highest=np.array([max(states) for states in per_element]),
        only=np.array([states[0] if len(states) == 1 else 0.0 for states in per_element]),
        multivalent=multivalent,
        counts=n_states[multivalent],
        states=padded,
    )


def neutral_compound_possible(fractions: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether one oxidation state per element can balance each row, shape (n, 86), as in matminer's IonProperty."""
    table = _state_table()
    in_single = (fractions.astype(np.float32) == fractions).all(axis=1)
    tolerance = np.where(in_single, _SINGLE_PRECISION_TOLERANCE, _TOLERANCE)
    fractions = np.asarray(fractions, dtype=np.float64)
    possible = (fractions > 0).sum(axis=1) == 1
    within_reach = (fractions @ table.lowest <= tolerance) & (fractions @ table.highest >= -tolerance)
    open_rows = np.flatnonzero(within_reach & ~possible)
    fixed = fractions[open_rows] @ table.only
    chosen = fractions[open_rows][:, table.multivalent]
    # Columns are ordered by number of states, so rows with as many present elements of each number
    # of states share one shape of the product of states.
    sizes = np.unique(table.counts)
    per_size = np.stack([(chosen[:, table.counts == size] > 0).sum(axis=1) for size in sizes], axis=1)
    patterns, members = np.unique(per_size, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        rows = np.flatnonzero(members.ravel() == number)
        present = np.nonzero(chosen[rows])[1].reshape(rows.size, -1)
        amounts = np.take_along_axis(chosen[rows], present, axis=1)
        counts = np.repeat(sizes, pattern)
        charges = table.states[present] * amounts[:, :, None]
        where = open_rows[rows]
        if np.prod(counts.astype(np.float64)) <= _MAX_VECTORISED:
            possible[where] = _any_neutral(fixed[rows], charges, counts, tolerance[where])
        else:
            for i, row in enumerate(where):
                options = [charges[i, j, :count] for j, count in enumerate(counts)]
                possible[row] = neutral_by_partial_sums(float(fixed[rows[i]]), options, float(tolerance[row]))
    return possible


def _any_neutral(
    fixed: NDArray[np.float64],
    charges: NDArray[np.float64],
    counts: NDArray[np.intp],
    tolerance: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Try all combinations of rows that share ``counts``; ``charges`` has shape (rows, elements, states)."""
    found = np.empty(fixed.size, dtype=bool)
    step = max(1, _BATCH_VALUES // int(np.prod(counts, initial=1)))
    for start in range(0, fixed.size, step):
        batch = slice(start, start + step)
        sums = fixed[batch, None]
        for j, count in enumerate(counts):
            sums = (sums[:, :, None] + charges[batch, None, j, :count]).reshape(sums.shape[0], -1)
        found[batch] = (np.abs(sums) <= tolerance[batch, None]).any(axis=1)
    return found


def neutral_by_partial_sums(
    fixed: float, options: list[NDArray[np.float64]], tolerance: float, max_sums: int = _MAX_SUMS
) -> bool:
    """One row: distinct partial sums, pruned to those that the remaining elements can still balance."""
    # the widest spans first: what is left to balance shrinks fastest, so most partial sums drop out early
    steps = sorted(
        (np.rint(option * _UNITS_PER_CHARGE).astype(np.int64) for option in options), key=np.ptp, reverse=True
    )
    lowest_left = [sum(int(s.min()) for s in steps[j + 1 :]) for j in range(len(steps))]
    highest_left = [sum(int(s.max()) for s in steps[j + 1 :]) for j in range(len(steps))]
    slack = round(tolerance * _UNITS_PER_CHARGE)
    grid = 1
    sums = np.array([round(fixed * _UNITS_PER_CHARGE)], dtype=np.int64)
    for step, low, high in zip(steps, lowest_left, highest_left, strict=True):
        sums = np.unique((sums[:, None] + step).ravel())
        while sums.size > max_sums:
            grid *= 10
            slack += grid
            sums = np.unique(sums // grid * grid)
        sums = sums[(sums + low <= slack) & (sums + high >= -slack)]
        if sums.size == 0:
            return False
    return bool((np.abs(sums) <= slack).any())
