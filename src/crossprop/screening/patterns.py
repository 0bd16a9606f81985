"""Which amounts the elements of a system may have."""

from __future__ import annotations

from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import NDArray

from crossprop.errors import ScreeningError

MAX_PATTERNS = 5_000_000
"""Sets of amounts of one system; more would mean an alloy grid too fine to be screened."""


@lru_cache(maxsize=64)
def reduced_patterns(n_elements: int, max_atoms: int, max_amount: int) -> NDArray[np.int32]:
    """All reduced formulas' amounts: whole numbers from 1 without a common divisor.

    Args:
        n_elements: Elements of the system.
        max_atoms: Largest sum of the amounts.
        max_amount: Largest amount of one element.

    Returns:
        Shape (n_patterns, n_elements), read-only, ordered by their sum and then by the amounts.

    Raises:
        ScreeningError: There are more than :data:`MAX_PATTERNS`.
    """
    patterns = _bounded(n_elements, max_atoms, max_amount)
    patterns = patterns[np.gcd.reduce(patterns, axis=1) == 1] if len(patterns) else patterns
    order = np.lexsort((*patterns.T[::-1], patterns.sum(axis=1)))
    return _frozen(patterns[order])


@lru_cache(maxsize=64)
def count_reduced_patterns(n_elements: int, max_atoms: int, max_amount: int) -> int:
    """Number of :func:`reduced_patterns`, without making them: all amounts, less the multiples of smaller ones."""
    most = max_atoms // n_elements
    free = [True] * (most + 1)  # of squares
    factors = [0] * (most + 1)
    for p in range(2, most + 1):
        if factors[p] == 0:
            for multiple in range(p, most + 1, p):
                factors[multiple] += 1
                free[multiple] &= multiple // p % p != 0
    return sum(
        (-1) ** factors[d] * _count_bounded(n_elements, max_atoms // d, max_amount // d)
        for d in range(1, most + 1)
        if free[d]
    )


def count_grid_patterns(n_elements: int, parts: int) -> int:
    """Number of :func:`grid_patterns`, without making them."""
    return comb(parts - 1, n_elements - 1)


def _count_bounded(n_elements: int, max_atoms: int, max_amount: int) -> int:
    """Rows of whole numbers from 1 to ``max_amount`` whose sum is at most ``max_atoms``."""
    # By inclusion and exclusion over the elements that exceed the largest amount.
    return sum(
        (-1) ** j * comb(n_elements, j) * comb(max_atoms - j * max_amount, n_elements)
        for j in range(n_elements + 1)
        if max_atoms - j * max_amount >= n_elements
    )


@lru_cache(maxsize=64)
def grid_patterns(n_elements: int, parts: int) -> NDArray[np.int32]:
    """Amounts of an alloy grid: whole numbers from 1 that sum to ``parts``, shape (n_patterns, n_elements).

    Each is a composition of its own, since fractions are multiples of 1/parts; read-only, in lexicographic order.

    Raises:
        ScreeningError: There are more than :data:`MAX_PATTERNS`.
    """
    if n_elements > parts:
        return _frozen(np.zeros((0, n_elements), np.int32))
    if n_elements == 1:
        return _frozen(np.array([[parts]], np.int32))
    heads = _bounded(n_elements - 1, parts - 1, parts)
    patterns = np.column_stack([heads, parts - heads.sum(axis=1)]).astype(np.int32)
    return _frozen(patterns[np.lexsort(patterns.T[::-1])])


def _bounded(n_elements: int, max_atoms: int, max_amount: int) -> NDArray[np.int32]:
    """All rows of whole numbers from 1 to ``max_amount`` whose sum is at most ``max_atoms``."""
    rows = np.zeros((1, 0), np.int32)
    room = np.array([max_atoms - n_elements])  # what a row may still give out beyond 1 for everybody
    if _count_bounded(n_elements, max_atoms, max_amount) > MAX_PATTERNS:
        raise ScreeningError(
            f"{n_elements} elements with up to {max_atoms} atoms give more than {MAX_PATTERNS:,} sets of "
            "amounts per system. Lower --max-atoms or --max-elements, or take a coarser --fractions."
        )
    for _ in range(n_elements):
        choices = np.clip(room + 1, 0, max_amount)
        parent = np.repeat(np.arange(len(rows)), choices)
        amounts = np.arange(len(parent)) - np.repeat(np.cumsum(choices) - choices, choices) + 1
        rows = np.column_stack([rows[parent], amounts]).astype(np.int32)
        room = room[parent] - amounts + 1
    return rows


def _frozen(patterns: NDArray[np.int32]) -> NDArray[np.int32]:
    patterns.setflags(write=False)
    return patterns
