"""The representation of elemental fractions: 86 numbers per formula."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS, fraction_matrix

FRACTION_NAMES: tuple[str, ...] = ELEMENTS
"""Names of the columns: H to Pu without He, Ne, Ar, Po, At, Rn, Fr and Ra, by atomic number."""


def elemental_fractions(formulas: Iterable[str], *, where: str | None = None) -> NDArray[np.float32]:
    """Compute the elemental fractions that the networks take.

    Physical attributes start from the float64 matrix of
    :func:`crossprop.data.compositions.fraction_matrix`, not from this one.

    Args:
        formulas: Chemical formulas, n of them.
        where: What the formulas come from, for error messages.

    Returns:
        Shape (n, 86), float32, rows summing to 1.

    Raises:
        FormulaError: A text is no formula.
        UnknownElementError: A formula holds an element outside the 86.

    Source: Jha et al. 2018 (ElemNet), doi:10.1038/s41598-018-35934-y.
    """
    return fraction_matrix(list(formulas), where=where).astype(np.float32)
