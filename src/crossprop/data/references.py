"""Values that another series implies: the two differ by a linear function of the composition.

A formation energy is the energy of a compound less those of its elements. Where only the energy is public,
the elements' references follow from the compounds that have both. OQMD computes oxides of some elements with
DFT+U and gives these elements a second reference there (Kirklin et al. 2015,
doi:10.1038/npjcompumats.2015.10).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import DataError, ShapeMismatchError

_LEAST_RESIDUAL = 1e-4
"""Residual below which a row gains no more weight, in the property's unit."""


@dataclass(frozen=True)
class ElementalReferences:
    """Fitted difference between two series.

    Attributes:
        coefficients: One per element, then one per corrected element, shape (86 + n_corrected,).
        corrected_elements: Elements with a second reference beside ``corrected_with``.
        corrected_with: The element beside which they have it.
        determined: Which coefficients the shared compositions fix, same shape.
        mean_residual: Mean absolute residual on the shared compositions.
        median_residual: Median of the same.
        share_within: Share of the shared compositions whose residual stays within the tolerance.
    """

    coefficients: np.ndarray
    corrected_elements: tuple[str, ...]
    corrected_with: str | None
    determined: np.ndarray
    mean_residual: float
    median_residual: float
    share_within: float

    def predict(self, fractions: np.ndarray) -> np.ndarray:
        """Difference for compositions, shape (n,); NaN where an element's reference is not determined."""
        design = _design(fractions, self.corrected_elements, self.corrected_with)
        values = design @ self.coefficients
        values[(design[:, ~self.determined] > 0).any(axis=1)] = np.nan
        return np.asarray(values)


def fit_references(
    fractions: np.ndarray,
    differences: np.ndarray,
    corrected_elements: tuple[str, ...] = (),
    corrected_with: str | None = None,
    tolerance: float = 0.01,
    min_rows: int = 20,
) -> ElementalReferences:
    """Fit least absolute deviations, so that a few rows of another kind do not shift the references.

    Args:
        fractions: Elemental fractions of the compositions that both series have, shape (n, 86).
        differences: Other series less this property, shape (n,).
        corrected_elements: Elements with a second reference in compounds that hold ``corrected_with``.
        corrected_with: The element beside which they have it.
        tolerance: For :attr:`ElementalReferences.share_within`.
        min_rows: Shared compositions that a reference needs to count as determined.

    Raises:
        DataError: The shared compositions are fewer than the coefficients.
        ShapeMismatchError: The two arrays differ in length.
    """
    if len(fractions) != len(differences):
        raise ShapeMismatchError(f"{len(fractions)} compositions, but {len(differences)} differences.")
    design = _design(fractions, corrected_elements, corrected_with)
    if len(design) < design.shape[1]:
        raise DataError(
            f"Only {len(design)} compositions have both values; {design.shape[1]} elemental references "
            "cannot be fitted to them. Leave the supplement out of the catalogue's edition."
        )
    coefficients = _least_squares(design, differences, np.ones(len(design)))
    for _ in range(50):  # iteratively reweighted least squares
        weights = 1 / np.maximum(np.abs(differences - design @ coefficients), _LEAST_RESIDUAL)
        updated = _least_squares(design, differences, weights)
        shift = np.abs(updated - coefficients).max()
        coefficients = updated
        if shift < 1e-7:
            break
    residuals = np.abs(differences - design @ coefficients)
    return ElementalReferences(
        coefficients=coefficients,
        corrected_elements=corrected_elements,
        corrected_with=corrected_with,
        determined=(design > 0).sum(axis=0) >= min_rows,
        mean_residual=float(residuals.mean()),
        median_residual=float(np.median(residuals)),
        share_within=float((residuals <= tolerance).mean()),
    )


def _least_squares(design: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted least squares by the normal equations: few coefficients, many rows; absent elements get 0."""
    weighted = design * weights[:, None]
    return np.asarray(np.linalg.lstsq(weighted.T @ design, weighted.T @ values, rcond=None)[0])


def _design(
    fractions: np.ndarray, corrected_elements: tuple[str, ...], corrected_with: str | None
) -> np.ndarray:
    """Fractions, and beside them those of the corrected elements where the correcting element is present."""
    if not corrected_elements or corrected_with is None:
        return np.asarray(fractions, dtype=np.float64)
    columns = [ELEMENTS.index(element) for element in corrected_elements]
    present = fractions[:, [ELEMENTS.index(corrected_with)]] > 0
    return np.hstack([fractions, fractions[:, columns] * present])
