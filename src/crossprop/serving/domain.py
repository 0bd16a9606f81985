"""Whether a model may know: elements that it has never seen, and compositions far from all that it has."""

from __future__ import annotations

from typing import Final

import numpy as np

from crossprop.data.compositions import ELEMENTS
from crossprop.serving.neighbourhood import Neighbourhood

QUANTILE: Final = 0.98
"""Share of the training compositions that lie within the radius of another one."""
LEAST_COMPOSITIONS: Final = 50
"""Fewer cannot tell how far is far: unseen elements alone are then outside of the domain."""


def domain_radius(around: Neighbourhood, quantile: float = QUANTILE) -> float | None:
    """Distance within which 98 % of the training compositions have another one; ``None`` if there are few.

    Args:
        around: The training compositions.
        quantile: Share of them, if it is another.
    """
    if len(around.points) < LEAST_COMPOSITIONS:
        return None
    distances, _ = around.nearest_others(1)
    radius = float(np.quantile(distances[:, 0], quantile))
    return radius if radius > 0 else None


def unseen_elements_notes(fractions: np.ndarray, seen: frozenset[str]) -> list[str]:
    """For every row of fractions, shape (n, 86), the elements that were never seen, as a sentence, or nothing."""
    strange = (np.asarray(fractions) > 0) & np.array([element not in seen for element in ELEMENTS])
    notes = [""] * len(strange)
    for row in np.flatnonzero(strange.any(axis=1)):
        symbols = [ELEMENTS[i] for i in np.flatnonzero(strange[row])]
        verb = "was" if len(symbols) == 1 else "were"
        notes[row] = f"{', '.join(symbols)} {verb} never seen in training: do not rely on this value"
    return notes


def distance_note(nearest: str, quantile: float = QUANTILE, *, widened: bool = True) -> str:
    """Why a composition that is too far from all others lies outside of the domain.

    Args:
        nearest: Formula of the nearest training composition.
        quantile: Share of the training compositions that lie within the radius of another one.
        widened: The interval is wider for the distance.
    """
    then = "an extrapolation" if widened else "expect larger errors than the interval says"
    return (
        f"the nearest training composition, {nearest}, is farther away than {100 * quantile:.0f} % of the training "
        f"compositions are from their nearest one: {then}"
    )
