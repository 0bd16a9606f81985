"""The 145 physical attributes of a composition as matrix work over its elemental fractions."""

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import checked_fractions
from crossprop.features.charge_neutrality import neutral_compound_possible
from crossprop.features.element_tables import MAGPIE_PROPERTIES, element_tables

_NORMS = (0, 2, 3, 5, 7, 10)
_STATISTICS = ("minimum", "maximum", "range", "mean", "avg_dev", "mode")
_ORBITALS = ("s", "p", "d", "f")
_VALENCE_COLUMNS = [MAGPIE_PROPERTIES.index(f"N{orbital}Valence") for orbital in _ORBITALS]
_N_STATISTICS = len(MAGPIE_PROPERTIES) * len(_STATISTICS)
_CHUNK_ROWS = 4096  # worked on at once: 4 MiB times the elements of a composition

ATTRIBUTE_NAMES: tuple[str, ...] = (
    *(f"{p}-norm" for p in _NORMS),
    *(f"MagpieData {statistic} {name}" for name in MAGPIE_PROPERTIES for statistic in _STATISTICS),
    *(f"avg {orbital} valence electrons" for orbital in _ORBITALS),
    "compound possible",
    "max ionic char",
    "avg ionic char",
)
"""matminer's labels of Stoichiometry, ElementProperty, ValenceOrbital and IonProperty, in its order."""


def physical_attributes(fractions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute matminer's 145 attributes of Ward et al. 2016 for every row of a fraction matrix.

    Equal to matminer's featurizers, nothing imputed: float64, columns as in :data:`ATTRIBUTE_NAMES`, in Magpie's units.

    Raises:
        ShapeMismatchError: ``fractions`` is not (n, 86).
        DataError: A row is no composition.

    Source: Ward et al. 2016, doi:10.1038/npjcompumats.2016.28; Ward et al. 2018 (matminer),
        doi:10.1016/j.commatsci.2018.05.018.
    """
    fractions = checked_fractions(fractions)
    attributes = np.empty((fractions.shape[0], len(ATTRIBUTE_NAMES)), dtype=np.float64)
    for start in range(0, fractions.shape[0], _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        attributes[rows] = _attributes_of_chunk(fractions[rows])
    return attributes


def _attributes_of_chunk(fractions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Attributes of a few thousand valid rows, shape (n, 145)."""
    possible = neutral_compound_possible(fractions)
    weights = fractions.astype(np.float64)
    weights /= weights.sum(axis=1, keepdims=True)
    attributes = np.empty((weights.shape[0], len(ATTRIBUTE_NAMES)))
    n_elements = (weights > 0).sum(axis=1)
    # Rows of equally many elements share one dense block without padding: (rows, elements, properties).
    for count in np.unique(n_elements):
        rows = np.flatnonzero(n_elements == count)
        elements = np.nonzero(weights[rows])[1].reshape(rows.size, count)
        attributes[rows, :-1] = _attributes_of_block(elements, np.take_along_axis(weights[rows], elements, axis=1))
    electronegativity = element_tables().electronegativity
    ionic = 1.0 - np.exp(-0.25 * (electronegativity[:, None] - electronegativity[None, :]) ** 2)
    attributes[:, -1] = 0.5 * np.einsum("ne,ne->n", weights @ ionic, weights)
    attributes[:, -3] = possible
    return attributes


def _attributes_of_block(elements: NDArray[np.intp], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """All but the last attribute of rows; numbers and fractions of their present elements have shape (rows, count)."""
    tables = element_tables()
    values = tables.magpie[elements]
    statistics = np.empty((elements.shape[0], len(MAGPIE_PROPERTIES), len(_STATISTICS)))
    statistics[:, :, 0] = values.min(axis=1)
    statistics[:, :, 1] = values.max(axis=1)
    statistics[:, :, 2] = statistics[:, :, 1] - statistics[:, :, 0]
    mean = np.einsum("nk,nkp->np", weights, values)
    statistics[:, :, 3] = mean
    statistics[:, :, 4] = np.einsum("nk,nkp->np", weights, np.abs(values - mean[:, None, :]))
    most = weights.max(axis=1, keepdims=True)
    # matminer's mode: the least value among the most abundant elements, ties by np.isclose
    statistics[:, :, 5] = np.where(np.isclose(weights, most)[:, :, None], values, np.inf).min(axis=1)

    norms = [np.full(weights.shape[0], float(weights.shape[1]))]
    norms += [(weights**p).sum(axis=1) ** (1.0 / p) for p in _NORMS[1:]]
    spread = np.ptp(tables.electronegativity[elements], axis=1)
    return np.column_stack(
        [
            np.stack(norms, axis=1),
            statistics.reshape(elements.shape[0], _N_STATISTICS),
            mean[:, _VALENCE_COLUMNS],
            np.zeros(weights.shape[0]),  # "compound possible", which the caller fills in
            1.0 - np.exp(-0.25 * spread**2),
        ]
    )
