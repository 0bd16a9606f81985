"""Element data behind the physical attributes: Magpie's properties, electronegativities, oxidation states."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

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


ELEMENTS_FILE = "elements.npz"
"""The tables as a saved model keeps them."""


def element_tables() -> ElementTables:
    """The tables, read once from the data that matminer and pymatgen install with themselves.

    Raises:
        DataError: An element lacks a value.
    """
    return _restored[0] if _restored else installed_tables()


def keep_element_tables(path: Path) -> None:
    """Write the tables into an npz file from which :func:`restore_element_tables` has them back at once."""
    tables = element_tables()
    np.savez(
        path,
        origin=tables_origin(),
        magpie=tables.magpie,
        electronegativity=tables.electronegativity,
        states=np.concatenate([np.array(states) for states in tables.oxidation_states]),
        n_states=np.array([len(states) for states in tables.oxidation_states]),
    )


def restore_element_tables(path: Path) -> None:
    """Take the tables from a file, which spares a process the seconds and megabytes of importing matminer.

    Nothing happens where there is no such file, where it comes from other versions of matminer and pymatgen than
    those that are installed, or in a process that has tables already.

    Raises:
        DataError: The file is damaged or incomplete.
    """
    if _restored or installed_tables.cache_info().currsize or not path.is_file():
        return
    try:
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["origin"]) != tables_origin():
                return
            magpie, electronegativity = kept["magpie"], kept["electronegativity"]
            states = np.split(kept["states"], np.cumsum(kept["n_states"])[:-1])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} holds no element tables: {error}. Delete it; matminer's are used then."
        ) from error
    shapes = magpie.shape, electronegativity.shape, len(states)
    if shapes != ((len(ELEMENTS), len(MAGPIE_PROPERTIES)), (len(ELEMENTS),), len(ELEMENTS)):
        raise DataError(f"{path} holds tables of shapes {shapes}. Delete it; matminer's are used then.")
    magpie.setflags(write=False)
    electronegativity.setflags(write=False)
    _restored.append(ElementTables(magpie, electronegativity, tuple(tuple(map(float, s)) for s in states)))


def tables_origin() -> str:
    """The packages that the tables come from, with their versions, without importing them."""
    return " ".join(f"{name}=={version(name)}" for name in ("matminer", "pymatgen"))


_restored: list[ElementTables] = []


@cache
def installed_tables() -> ElementTables:
    """Read the tables from the installed packages.

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
