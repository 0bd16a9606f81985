"""What one element contributes to the physical attributes: tables over the 86 elements, from matminer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import DataError

MAGPIE_PROPERTIES = (
    "Number",
    "MendeleevNumber",
    "AtomicWeight",
    "MeltingT",
    "Column",
    "Row",
    "CovalentRadius",
    "Electronegativity",
    "NsValence",
    "NpValence",
    "NdValence",
    "NfValence",
    "NValence",
    "NsUnfilled",
    "NpUnfilled",
    "NdUnfilled",
    "NfUnfilled",
    "NUnfilled",
    "GSvolume_pa",
    "GSbandgap",
    "GSmagmom",
    "SpaceGroupNumber",
)
"""The element properties of matminer's ElementProperty preset "magpie", in its order."""


@dataclass(frozen=True)
class ElementTables:
    """Element data in the order of ``ELEMENTS``; the arrays are read-only.

    magpie: shape (86, 22), columns as in :data:`MAGPIE_PROPERTIES`, in Magpie's units.
    electronegativity: shape (86,), Pauling scale, as pymatgen has it (IonProperty uses these, not Magpie's).
    oxidation_states: per element its common oxidation states in units of the elementary charge.
    """

    magpie: NDArray[np.float64]
    electronegativity: NDArray[np.float64]
    oxidation_states: tuple[tuple[float, ...], ...]


@cache
def element_tables() -> ElementTables:
    """Read the tables once from the data that matminer and pymatgen install with themselves.

    ``impute_nan=False``: nothing is filled in. The tables are complete for the 86 elements, so
    matminer's imputation would change nothing; should another release have a gap, it is named here
    instead of being papered over with the mean of all elements.

    Raises:
        DataError: An element lacks a value.

    Source: Ward et al. 2016, doi:10.1038/npjcompumats.2016.28 (Magpie); pymatgen's periodic table.
    """
    from matminer.utils.data import MagpieData, PymatgenData
    from pymatgen.core import Element

    magpie_data, pymatgen_data = MagpieData(impute_nan=False), PymatgenData(impute_nan=False)
    elements = [Element(symbol) for symbol in ELEMENTS]
    magpie = np.array(
        [[magpie_data.get_elemental_property(e, name) for name in MAGPIE_PROPERTIES] for e in elements],
        dtype=np.float64,
    )
    electronegativity = np.array(
        [pymatgen_data.get_elemental_property(e, "X") for e in elements], dtype=np.float64
    )
    states = tuple(tuple(float(s) for s in pymatgen_data.get_oxidation_states(e)) for e in elements)
    _require_complete(magpie, MAGPIE_PROPERTIES)
    _require_complete(electronegativity[:, None], ("electronegativity",))
    _require_complete(np.array([[float(len(s)) or np.nan] for s in states]), ("oxidation states",))
    magpie.setflags(write=False)
    electronegativity.setflags(write=False)
    return ElementTables(magpie, electronegativity, states)


def _require_complete(values: NDArray[np.float64], names: Sequence[str]) -> None:
    """Refuse a table with a gap; ``values`` has one row per element and one column per name."""
    gaps = np.argwhere(~np.isfinite(values))
    if gaps.size:
        row, column = gaps[0]
        raise DataError(
            f"The installed matminer or pymatgen has no {names[column]!r} for {ELEMENTS[row]} "
            f"({len(gaps)} gap(s) in all): physical attributes would need invented values. "
            "Install the versions that the lock file pins."
        )
