"""The training compositions around a composition."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS
from crossprop.data.splits import GROUP_COLUMN
from crossprop.features.element_tables import element_tables

DIMENSIONS: Final = 16  # principal axes that are kept
SPACE_FILES: Final = ("element_vectors.npy", "axes.npy")
_LEAST_SPREAD: Final = 0.1  # of a moment over the compositions, relative to the median of all moments


@dataclass(frozen=True)
class CompositionSpace:
    """Principal axes of the mean and the deviation of element properties over a composition, standardised."""

    element_vectors: NDArray[np.float64]  # properties with mean 0 and deviation 1, shape (n_elements, m)
    axes: NDArray[np.float64]  # in columns, and in the last row the centre along each, shape (2 m + 1, d)

    @classmethod
    def fit(cls, fractions: np.ndarray) -> Self:
        """Find the axes along which these different compositions, shape (n, 86), differ most."""
        table = element_tables().magpie
        vectors = (table - table.mean(axis=0)) / table.std(axis=0)
        moments = _moments(fractions, vectors)
        centre, spread = moments.mean(axis=0), moments.std(axis=0)
        # A property that is nearly constant here, as the magnetic moment without Fe, Co and Ni, tells no two apart.
        spread = np.maximum(spread, _LEAST_SPREAD * np.median(spread))
        scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-9)
        standard = (moments - centre) * scale
        _, directions = np.linalg.eigh(standard.T @ standard)
        directions = directions[:, ::-1][:, :DIMENSIONS]
        strongest = np.abs(directions).argmax(axis=0)
        directions = directions * np.sign(directions[strongest, np.arange(directions.shape[1])])
        axes = scale[:, None] * directions
        return cls(vectors, np.vstack([axes, centre @ axes]))

    def points(self, fractions: np.ndarray) -> NDArray[np.float32]:
        """Coordinates of compositions: for fractions of shape (n, 86) points of shape (n, d)."""
        moments = _moments(fractions, self.element_vectors)
        return (moments @ self.axes[:-1] - self.axes[-1]).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write the two arrays into a folder."""
        for name, array in zip(SPACE_FILES, (self.element_vectors, self.axes), strict=True):
            np.save(folder / name, array, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        return cls(*(np.load(folder / name, allow_pickle=False) for name in SPACE_FILES))


def _moments(fractions: np.ndarray, vectors: np.ndarray) -> NDArray[np.float64]:
    """Mean and standard deviation of element properties over every composition, shape (n, 2 m)."""
    fractions = np.asarray(fractions, dtype=np.float64)
    mean = fractions @ vectors
    variance = fractions @ vectors**2 - mean**2
    deviation = np.sqrt(np.where(variance > 1e-12, variance, 0.0))
    return np.asarray(np.concatenate([mean, deviation], axis=1))


_SAME = 1e-5  # distance below which two points are one: rounding of the stored points
_LARGE = 32  # compositions from which a group has a tree of all others


def _tree_of(points: NDArray[np.float32]) -> Any:
    from scipy.spatial import cKDTree

    return cKDTree(points, leafsize=64)  # twice as fast as with 16 in so many dimensions


@dataclass(frozen=True)
class Neighbourhood:
    """The different training compositions as :func:`training_compositions` gives them, and their coordinates."""

    space: CompositionSpace
    points: NDArray[np.float32]  # shape (n_compositions, d)
    compositions: pd.DataFrame

    @cached_property
    def _tree(self) -> Any:
        return _tree_of(self.points)

    def nearest(self, fractions: np.ndarray, k: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Distances and positions of the k (or all) nearest training compositions, (n, k), of fractions (n, 86)."""
        k = min(k, len(self.points))
        distances, positions = self._tree.query(self.space.points(fractions), k=range(1, k + 1))
        return np.where(distances < _SAME, 0.0, distances), positions

    def nearest_others(self, k: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """The same for every training composition among all others, or those of other groups, (n_compositions, k)."""
        n = len(self.points)
        grouped = GROUP_COLUMN in self.compositions
        group = pd.factorize(self.compositions[GROUP_COLUMN])[0] if grouped else np.arange(n)
        sizes = np.bincount(group)
        k = min(k, n - int(sizes.max()))
        distances, positions = np.empty((n, k)), np.empty((n, k), dtype=np.intp)
        for large in np.flatnonzero(sizes > _LARGE):
            rows, rest = (np.flatnonzero((group == large) == own) for own in (True, False))
            tree = _tree_of(self.points[rest])
            distances[rows], found = tree.query(self.points[rows], k=range(1, k + 1))
            positions[rows] = rest[found]
        rows = np.flatnonzero(sizes[group] <= _LARGE)
        if len(rows):
            most = k + int(sizes[sizes <= _LARGE].max())
            around, found = self._tree.query(self.points[rows], k=range(1, most + 1))
            own = group[found] == group[rows][:, None]
            others = np.argsort(own, axis=1, kind="stable")[:, :k]
            distances[rows] = np.take_along_axis(around, others, axis=1)
            positions[rows] = np.take_along_axis(found, others, axis=1)
        return distances, positions


def training_compositions(evidence: pd.DataFrame) -> pd.DataFrame:
    """One row by composition key: formula, median value, mean absolute out-of-fold residual, number of these, group.

    Auxiliary rows have no residual: 0 of them, with mean 0.
    """
    rows = evidence[evidence["split"] != "test"]
    rows = rows.assign(residual=(rows["y_true"] - rows["y_pred"]).abs())
    table = rows.groupby("composition", sort=True).agg(
        formula=("formula", "first"),
        value=("y_true", "median"),
        residual=("residual", "mean"),
        rows=("residual", "count"),
        **({GROUP_COLUMN: (GROUP_COLUMN, "first")} if GROUP_COLUMN in rows else {}),
    )
    return table.fillna({"residual": 0.0})


QUANTILE: Final = 0.98  # share of the training compositions that lie within the radius of another one
# With fewer there is no radius: only unseen elements are outside of the domain.
LEAST_COMPOSITIONS: Final = 50


def domain_radius(around: Neighbourhood, quantile: float = QUANTILE) -> float | None:
    """Distance within which 98 % of the training compositions have another one; ``None`` with too few of them."""
    if len(around.points) < LEAST_COMPOSITIONS:
        return None
    distances, _ = around.nearest_others(1)
    return float(np.quantile(distances[:, 0], quantile)) or None


def unseen_elements_notes(fractions: np.ndarray, seen: frozenset[str]) -> list[str]:
    """For every row of fractions, shape (n, 86), a sentence that names its unseen elements, or an empty text."""
    strange = (np.asarray(fractions) > 0) & np.array([element not in seen for element in ELEMENTS])
    notes = [""] * len(strange)
    for row in np.flatnonzero(strange.any(axis=1)):
        symbols = [ELEMENTS[i] for i in np.flatnonzero(strange[row])]
        verb = "was" if len(symbols) == 1 else "were"
        notes[row] = f"{', '.join(symbols)} {verb} never seen in training: do not rely on this value"
    return notes
