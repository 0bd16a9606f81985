"""Element data behind the physical attributes: Magpie's properties, electronegativities, oxidation states."""

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import DataError

MAGPIE_PROPERTIES = (
    *("Number", "MendeleevNumber", "AtomicWeight", "MeltingT", "Column", "Row", "CovalentRadius"),
    *("Electronegativity", "NsValence", "NpValence", "NdValence", "NfValence", "NValence"),
    *("NsUnfilled", "NpUnfilled", "NdUnfilled", "NfUnfilled", "NUnfilled"),
    *("GSvolume_pa", "GSbandgap", "GSmagmom", "SpaceGroupNumber"),
)
"""The element properties of matminer's ElementProperty preset "magpie", in its order."""


@dataclass(frozen=True)
class ElementTables:
    """Element data in the order of ``ELEMENTS``; the arrays are read-only."""

    magpie: NDArray[np.float64]  # shape (86, 22), columns as in :data:`MAGPIE_PROPERTIES`
    electronegativity: NDArray[np.float64]  # pymatgen's on the Pauling scale, as IonProperty uses
    oxidation_states: tuple[tuple[float, ...], ...]  # the common ones of each element


ELEMENTS_FILE = "elements.npz"


def element_tables() -> ElementTables:
    """The tables, read once from the data that matminer and pymatgen install with themselves."""
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
    """Take the tables from a model's file of the installed versions, since importing matminer takes seconds.

    A file of other versions has to hold the same tables: a DataError says that the model learnt from others.
    """
    if not path.is_file():
        return
    try:
        with np.load(path, allow_pickle=False) as kept:
            origin, magpie, electronegativity = str(kept["origin"]), kept["magpie"], kept["electronegativity"]
            states = np.split(kept["states"], np.cumsum(kept["n_states"])[:-1])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} holds no element tables: {error}. Delete it; matminer's are used then.") from error
    tables = _read_only(magpie, electronegativity, states)
    if origin == tables_origin():
        if not installed_tables.cache_info().currsize:
            _restored[:] = _restored or [tables]
    elif not _equal(tables, element_tables()):
        raise DataError(
            f"The model beside {path} learnt from the element tables of {origin}, which differ from those of "
            f"{tables_origin()}. Install those versions, or fit it again."
        )


def _equal(one: ElementTables, other: ElementTables) -> bool:
    same = (np.array_equal(getattr(one, n), getattr(other, n)) for n in ("magpie", "electronegativity"))
    return all(same) and one.oxidation_states == other.oxidation_states


def tables_origin() -> str:
    """The packages that the tables come from, with their versions, without importing them."""
    return " ".join(f"{name}=={version(name)}" for name in ("matminer", "pymatgen"))


_restored: list[ElementTables] = []


@cache
def installed_tables() -> ElementTables:
    """The tables of the installed packages (Magpie: Ward et al. 2016; pymatgen); a gap is refused, not imputed."""
    from matminer.utils.data import MagpieData, PymatgenData
    from pymatgen.core import Element

    magpie_data, pymatgen_data = MagpieData(impute_nan=False), PymatgenData(impute_nan=False)
    elements = [Element(symbol) for symbol in ELEMENTS]
    get = magpie_data.get_elemental_property
    magpie = np.array([[get(e, name) for name in MAGPIE_PROPERTIES] for e in elements], dtype=np.float64)
    electronegativity = np.array([pymatgen_data.get_elemental_property(e, "X") for e in elements], np.float64)
    states = [pymatgen_data.get_oxidation_states(element) for element in elements]
    has_state = np.array([1.0 if found else np.nan for found in states])
    names = (*MAGPIE_PROPERTIES, "electronegativity", "oxidation states")
    gaps = np.argwhere(~np.isfinite(np.column_stack([magpie, electronegativity, has_state])))
    if gaps.size:
        row, column = gaps[0]
        raise DataError(
            f"The installed matminer or pymatgen has no {names[column]!r} for {ELEMENTS[row]} ({len(gaps)} gap(s) in "
            "all). Install the versions that the lock file pins."
        )
    return _read_only(magpie, electronegativity, states)


def _read_only(
    magpie: NDArray[np.float64], electronegativity: NDArray[np.float64], states: Iterable[Iterable[float]]
) -> ElementTables:
    magpie.setflags(write=False)
    electronegativity.setflags(write=False)
    return ElementTables(magpie, electronegativity, tuple(tuple(map(float, one)) for one in states))
