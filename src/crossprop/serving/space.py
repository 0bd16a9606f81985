"""A space in which compositions of similar elements in similar amounts lie near each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from crossprop.errors import ModelFormatError

DIMENSIONS: Final = 16
"""Principal axes that are kept."""
_ELEMENTS_FILE = "element_vectors.npy"
_AXES_FILE = "axes.npy"


@dataclass(frozen=True)
class CompositionSpace:
    """Principal axes of the mean and the deviation of element properties over a composition, standardised.

    It is matrix work alone, a hundred times cheaper than all physical attributes, and tells as much about where a
    model errs. What it needs is stored with the model, so that no table of elements is read to predict.

    Attributes:
        element_vectors: Element properties with mean 0 and deviation 1 over the elements, shape (n_elements, m).
        axes: Principal axes of (mean, deviation) in columns, and in the last row the centre along each, shape
            (2 m + 1, d).
    """

    element_vectors: NDArray[np.float64]
    axes: NDArray[np.float64]

    @classmethod
    def fit(cls, fractions: np.ndarray, dimensions: int = DIMENSIONS) -> Self:
        """Find the axes along which these compositions differ most.

        Args:
            fractions: Elemental fractions of different compositions, shape (n, 86).
            dimensions: Axes to keep.
        """
        from crossprop.features.element_tables import element_tables

        table = element_tables().magpie
        vectors = (table - table.mean(axis=0)) / table.std(axis=0)
        moments = _moments(fractions, vectors)
        centre, spread = moments.mean(axis=0), moments.std(axis=0)
        scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-9)
        standard = (moments - centre) * scale
        _, directions = np.linalg.eigh(standard.T @ standard)
        directions = directions[:, ::-1][:, :dimensions]
        strongest = np.abs(directions).argmax(axis=0)
        directions = directions * np.sign(directions[strongest, np.arange(directions.shape[1])])
        axes = scale[:, None] * directions
        return cls(vectors, np.vstack([axes, centre @ axes]))

    def points(self, fractions: np.ndarray) -> NDArray[np.float32]:
        """Where compositions lie: for fractions of shape (n, 86) points of shape (n, d)."""
        moments = _moments(fractions, self.element_vectors)
        return (moments @ self.axes[:-1] - self.axes[-1]).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write the two arrays into a folder."""
        np.save(folder / _ELEMENTS_FILE, self.element_vectors, allow_pickle=False)
        np.save(folder / _AXES_FILE, self.axes, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            ModelFormatError: The arrays do not fit together.
            OSError: A file is missing or cannot be read.
            ValueError: A file is no array.
        """
        vectors = np.load(folder / _ELEMENTS_FILE, allow_pickle=False)
        axes = np.load(folder / _AXES_FILE, allow_pickle=False)
        if vectors.ndim != 2 or axes.ndim != 2 or len(axes) != 2 * vectors.shape[1] + 1:
            raise ModelFormatError(
                f"{folder}: element vectors of shape {vectors.shape} and axes of shape {axes.shape} do not fit "
                "together. Register or pull the model again."
            )
        return cls(vectors, axes)


def _moments(fractions: np.ndarray, vectors: np.ndarray) -> NDArray[np.float64]:
    """Mean and standard deviation of element properties over every composition, shape (n, 2 m)."""
    fractions = np.asarray(fractions, dtype=np.float64)
    mean = fractions @ vectors
    variance = fractions @ vectors**2 - mean**2
    deviation = np.sqrt(np.where(variance > 1e-12, variance, 0.0))
    moments: NDArray[np.float64] = np.concatenate([mean, deviation], axis=1)
    return moments
