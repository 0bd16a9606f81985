"""Whether one oxidation state per element can add up to no charge, for many compositions at once."""

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from crossprop.features.element_tables import element_tables

_TOLERANCE, _SINGLE_PRECISION_TOLERANCE = 1e-8, 1e-6
"""Charge per atom that counts as none: as in matminer, and where rounding to float32 leaves 4e-7 charges per atom."""
_MAX_VECTORISED = 1 << 14  # combinations of oxidation states up to which rows are handled in one array
_BATCH_VALUES = 1 << 20  # sums held at once in the vectorised search: 8 MiB
_UNITS_PER_CHARGE = 10**12  # resolution of the exact integer sums of the search for many combinations
_MAX_SUMS = 100_000  # distinct partial sums above which the integer search coarsens its grid


def padded_states(states: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Oxidation states of each element as a row; shorter ones repeat their last state."""
    most = max(map(len, states))
    return np.array([[*of_one, *[of_one[-1]] * (most - len(of_one))] for of_one in states], dtype=np.float64)


@cache
def _state_table() -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.intp]]:
    """Columns of the elements, ascending in their number of states, with their states and these numbers."""
    found = element_tables().oxidation_states
    counts = np.array([len(states) for states in found])
    columns = np.argsort(counts, kind="stable")
    return columns, padded_states([found[column] for column in columns]), counts[columns]


def neutral_compound_possible(fractions: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether one oxidation state per element can balance each row, shape (n, 86), as in matminer's IonProperty."""
    columns, states, counts = _state_table()
    in_single = (fractions.astype(np.float32) == fractions).all(axis=1)
    tolerance = np.where(in_single, _SINGLE_PRECISION_TOLERANCE, _TOLERANCE)
    fractions = np.asarray(fractions, dtype=np.float64)[:, columns]
    possible = (fractions > 0).sum(axis=1) == 1
    within_reach = (fractions @ states.min(axis=1) <= tolerance) & (fractions @ states.max(axis=1) >= -tolerance)
    open_rows = np.flatnonzero(within_reach & ~possible)
    # Rows with as many present elements of each number of states share one shape of the product of states.
    sizes = np.unique(counts)
    present = fractions[open_rows] > 0
    per_size = np.stack([present[:, counts == size].sum(axis=1) for size in sizes], axis=1)
    patterns, members = np.unique(per_size, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        rows = open_rows[members.ravel() == number]
        elements = np.nonzero(fractions[rows])[1].reshape(rows.size, -1)
        amounts = np.take_along_axis(fractions[rows], elements, axis=1)
        charges = states[elements] * amounts[:, :, None]
        possible[rows] = any_neutral(charges, np.repeat(sizes, pattern), tolerance[rows])
    return possible


def any_neutral(
    charges: NDArray[np.float64], counts: Iterable[int], tolerance: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether charges of shape (rows, elements, states) add up to none with one of the first ``counts`` of each."""
    counts = list(counts)
    combinations = float(np.prod(counts, dtype=np.float64))
    found = np.empty(len(charges), dtype=bool)
    if combinations > _MAX_VECTORISED:
        for i, row in enumerate(charges):
            options = [states[:count] for states, count in zip(row, counts, strict=True)]
            found[i] = _neutral_by_partial_sums(options, float(tolerance[i]))
        return found
    step = max(1, int(_BATCH_VALUES // combinations))
    for start in range(0, len(charges), step):
        batch = slice(start, start + step)
        sums = np.zeros((len(charges[batch]), 1))
        for j, count in enumerate(counts):
            sums = (sums[:, :, None] + charges[batch, None, j, :count]).reshape(len(sums), -1)
        found[batch] = (np.abs(sums) <= tolerance[batch, None]).any(axis=1)
    return found


def _neutral_by_partial_sums(options: list[NDArray[np.float64]], tolerance: float) -> bool:
    """One row: distinct partial sums, pruned to those that the remaining elements can still balance."""
    # the widest spans first: what is left to balance shrinks fastest, so most partial sums drop out early
    steps = sorted(
        (np.rint(option * _UNITS_PER_CHARGE).astype(np.int64) for option in options), key=np.ptp, reverse=True
    )
    lowest_left = [sum(int(s.min()) for s in steps[j + 1 :]) for j in range(len(steps))]
    highest_left = [sum(int(s.max()) for s in steps[j + 1 :]) for j in range(len(steps))]
    slack = round(tolerance * _UNITS_PER_CHARGE)
    grid = 1
    sums = np.zeros(1, dtype=np.int64)
    for step, low, high in zip(steps, lowest_left, highest_left, strict=True):
        sums = np.unique((sums[:, None] + step).ravel())
        while sums.size > _MAX_SUMS:
            grid *= 10
            slack += grid
            sums = np.unique(sums // grid * grid)
        sums = sums[(sums + low <= slack) & (sums + high >= -slack)]
        if sums.size == 0:
            return False
    return bool((np.abs(sums) <= slack).any())
