"""The training compositions around a composition."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossprop.serving.space import CompositionSpace

_SAME = 1e-5
"""Distance below which two points are one: rounding of the stored points."""


@dataclass(frozen=True)
class Neighbourhood:
    """The different training compositions and where they lie.

    Attributes:
        space: Says where a composition lies.
        points: Where the training compositions lie, shape (n_compositions, d).
        compositions: One row for each, by composition key: ``formula``, ``value`` (median of its rows),
            ``residual`` (mean absolute out-of-fold residual), ``rows``.
    """

    space: CompositionSpace
    points: NDArray[np.float32]
    compositions: pd.DataFrame

    @cached_property
    def _tree(self) -> Any:
        from scipy.spatial import cKDTree

        return cKDTree(self.points, leafsize=64)  # twice as fast as with 16 in so many dimensions

    def nearest(self, fractions: np.ndarray, k: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Distances to the nearest training compositions and their positions, nearest first.

        Args:
            fractions: Elemental fractions, shape (n, 86).
            k: How many are wanted; never more than there are.

        Returns:
            Two arrays of shape (n, k).
        """
        k = min(k, len(self.points))
        distances, positions = self._tree.query(self.space.points(fractions), k=range(1, k + 1))
        return np.where(distances < _SAME, 0.0, distances), positions

    def nearest_others(self, k: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """The same for every training composition among all others, shapes (n_compositions, k)."""
        k = min(k, len(self.points) - 1)
        distances, positions = self._tree.query(self.points, k=range(1, k + 2))
        own = positions == np.arange(len(self.points))[:, None]
        own[~own.any(axis=1), -1] = True  # more than k others lie on the very same point
        shape = (len(self.points), k)
        return distances[~own].reshape(shape), positions[~own].reshape(shape)


def training_compositions(evidence: pd.DataFrame) -> pd.DataFrame:
    """One row for each composition that was learnt from, as :class:`Neighbourhood` needs it.

    Args:
        evidence: Columns formula, composition, split, y_true, y_pred.
    """
    rows = evidence[evidence["split"] == "train"]
    rows = rows.assign(residual=(rows["y_true"] - rows["y_pred"]).abs())
    return rows.groupby("composition", sort=True).agg(
        formula=("formula", "first"),
        value=("y_true", "median"),
        residual=("residual", "mean"),
        rows=("residual", "size"),
    )
