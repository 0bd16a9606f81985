"""From the roots of packed trees to the leaves that rows reach: many trees and rows at once, by NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

FEATURE_BITS = 11
MAX_FEATURES = (1 << FEATURE_BITS) - 1
BLOCK = 32_768
"""Pairs of tree and row that are walked at once: their few arrays stay in a core's cache."""

_COMPACT_EVERY = 4
"""Levels after which pairs that have reached a leaf are set aside."""

_HALF = np.uint64(32)


@dataclass(frozen=True)
class Columns:
    """Features column by column: near the roots many rows compare few columns, which then stay in a core's cache.

    A leaf compares a further column that is below everything: who is there stays there.

    Attributes:
        values: The columns one after the other, each ``1 << bits`` long.
        rows: Rows that are filled.
        bits: Says how long a column is.
    """

    values: NDArray[np.float32]
    rows: int
    bits: int

    @classmethod
    def of(cls, features: np.ndarray) -> Self:
        """Arrange features of shape (n, n_features), n at least 1."""
        rows, width = features.shape
        bits = (rows - 1).bit_length()
        columns = np.full((width + 1, 1 << bits), -np.inf, dtype=np.float32)
        columns[:-1, :rows] = features.T
        return cls(columns.ravel(), rows, bits)


def leaves_reached(
    nodes: NDArray[np.uint64], roots: NDArray[np.int64], columns: Columns
) -> NDArray[np.uint32]:
    """Number of the leaf that each row reaches in each tree.

    Args:
        nodes: As ``crossprop.models.packed_trees.PackedTrees`` has them.
        roots: Number of each tree's root, and its depth, shape (n_trees, 2).
        columns: The rows.

    Returns:
        Shape (n_trees, n_rows).
    """
    places = np.repeat(roots[:, 0], columns.rows)
    row = np.tile(np.arange(columns.rows), len(roots))
    reached = np.empty(len(places), dtype=np.uint32)
    pairs: NDArray[np.intp] | None = None  # all of them, in order
    for level in range(int(roots[:, 1].max()) + 1):
        # "clip" checks nothing twice; every number is within bounds
        words = nodes.take(places, mode="clip")
        high = (words >> _HALF).view(np.int64)
        at = high & MAX_FEATURES
        at <<= columns.bits
        at += row
        right = columns.values.take(at, mode="clip") > words.view(np.float32)[::2]
        high >>= FEATURE_BITS  # the distance to the left child; 0 for a leaf
        if level % _COMPACT_EVERY == _COMPACT_EVERY - 1:
            walking = np.flatnonzero(high)
            if len(walking) < 0.8 * len(places):
                resting = np.flatnonzero(high == 0)
                low = words.view(np.uint32)[::2]
                reached[resting if pairs is None else pairs[resting]] = low[resting]
                pairs = walking if pairs is None else pairs[walking]
                places, row, high, right = places[walking], row[walking], high[walking], right[walking]
        places += high
        places += right
        if not len(places):
            return reached.reshape(len(roots), columns.rows)
    low = nodes.take(places).view(np.uint32)[::2]
    reached[slice(None) if pairs is None else pairs] = low
    return reached.reshape(len(roots), columns.rows)
