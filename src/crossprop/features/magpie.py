"""The 145 physical attributes of a composition as matrix work over its elemental fractions."""

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
from crossprop.errors import DataError, ShapeMismatchError

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


def element_tables() -> ElementTables:
    """The tables, read once from the data that matminer and pymatgen install with themselves.

    Raises:
        DataError: An element lacks a value.
    """
    return _restored[0] if _restored else installed_tables()


def keep_element_tables(path: Path) -> None:
    """Write the tables into a file (npz) from which :func:`restore_element_tables` has them back at once."""
    tables = element_tables()
    np.savez(
        path,
        magpie=tables.magpie,
        electronegativity=tables.electronegativity,
        states=np.concatenate([np.array(states) for states in tables.oxidation_states]),
        n_states=np.array([len(states) for states in tables.oxidation_states]),
    )


def restore_element_tables(path: Path) -> None:
    """Take the tables from a file, which spares a process the seconds and megabytes of importing matminer.

    The file has to come from the installed versions of matminer and pymatgen; see :func:`tables_origin`. Nothing
    happens in a process that has tables already.

    Raises:
        DataError: The file is missing, damaged or incomplete.
    """
    if _restored or installed_tables.cache_info().currsize:
        return
    try:
        with np.load(path, allow_pickle=False) as kept:
            magpie, electronegativity = kept["magpie"], kept["electronegativity"]
            states = np.split(kept["states"], np.cumsum(kept["n_states"])[:-1])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} holds no element tables: {error}. Delete it; it is written anew.") from error
    shapes = magpie.shape, electronegativity.shape, len(states)
    if shapes != ((len(ELEMENTS), len(MAGPIE_PROPERTIES)), (len(ELEMENTS),), len(ELEMENTS)):
        raise DataError(f"{path} holds tables of shapes {shapes}. Delete it; it is written anew.")
    magpie.setflags(write=False)
    electronegativity.setflags(write=False)
    tables = ElementTables(magpie, electronegativity, tuple(tuple(map(float, s)) for s in states))
    _restored.append(tables)


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


_TOLERANCE = 1e-8
"""Charge per atom that counts as none: what ``np.isclose(charge, 0)`` allows in matminer."""

_SINGLE_PRECISION_TOLERANCE = 1e-6
"""The same where fractions went through float32, whose rounding alone leaves 4e-7 charges per atom."""

_MAX_VECTORISED = 4096
"""Combinations of oxidation states up to which rows are handled in one array."""

_BATCH_VALUES = 1 << 20
"""Sums held at once in the vectorised search (8 MiB of float64)."""

_UNITS_PER_CHARGE = 10**12
"""Resolution of the exact integer sums of the search for many combinations."""

_MAX_SUMS = 100_000
"""Distinct partial sums above which the integer search coarsens its grid."""


@dataclass(frozen=True)
class _StateTable:
    """Oxidation states arranged for matrix work.

    lowest, highest: shape (86,). only: shape (86,), the state of elements that have a single one, else 0.
    choosers: column numbers of the elements with several states, by number of states.
    counts: states of each chooser. states: shape (len(choosers), max count), padded with 0.
    """

    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    only: NDArray[np.float64]
    choosers: NDArray[np.intp]
    counts: NDArray[np.intp]
    states: NDArray[np.float64]


@cache
def _state_table() -> _StateTable:
    per_element = element_tables().oxidation_states
    n_states = np.array([len(states) for states in per_element])
    choosers = np.array([i for i in np.argsort(n_states, kind="stable") if n_states[i] > 1])
    padded = np.zeros((choosers.size, n_states.max()))
    for row, element in enumerate(choosers):
        padded[row, : n_states[element]] = per_element[element]
    return _StateTable(
        lowest=np.array([min(states) for states in per_element]),
        highest=np.array([max(states) for states in per_element]),
        only=np.array([states[0] if len(states) == 1 else 0.0 for states in per_element]),
        choosers=choosers,
        counts=n_states[choosers],
        states=padded,
    )


def neutral_compound_possible(fractions: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell for each composition whether one oxidation state per element can add up to no charge.

    The answer is that of matminer's ``IonProperty(fast=True)`` for the composition written as
    fractions of one atom, so no integer formula has to be recovered: a charge per atom within 1e-8
    counts as none. Rows whose values are all representable in single precision are judged within
    1e-6 instead, so that fractions stored as float32 give the answer of the formula they came from.
    A composition of one element always counts as possible, as in matminer.

    Rows with more than 4,096 combinations of states are searched by exact integer partial sums.
    Only if those exceed 100,000 distinct values (dozens of multivalent elements in incommensurate
    fractions, which no real formula has) the sums are merged on a coarser grid and the tolerance
    grows with it.

    Args:
        fractions: Elemental fractions, shape (n, 86), valid rows that sum to 1.

    Returns:
        Shape (n,), bool.

    Source: Ward et al. 2016, doi:10.1038/npjcompumats.2016.28 ("can form a neutral ionic compound").
    """
    table = _state_table()
    in_single = (fractions.astype(np.float32) == fractions).all(axis=1)
    tolerance = np.where(in_single, _SINGLE_PRECISION_TOLERANCE, _TOLERANCE)
    fractions = np.asarray(fractions, dtype=np.float64)
    possible = (fractions > 0).sum(axis=1) == 1
    within_reach = (fractions @ table.lowest <= tolerance) & (fractions @ table.highest >= -tolerance)
    open_rows = np.flatnonzero(within_reach & ~possible)
    fixed = fractions[open_rows] @ table.only
    chosen = fractions[open_rows][:, table.choosers]
    # Columns are ordered by number of states, so rows with as many present elements of each number
    # of states share one shape of the product of states.
    sizes = np.unique(table.counts)
    per_size = np.stack([(chosen[:, table.counts == size] > 0).sum(axis=1) for size in sizes], axis=1)
    patterns, members = np.unique(per_size, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        rows = np.flatnonzero(members.ravel() == number)
        present = np.nonzero(chosen[rows])[1].reshape(rows.size, -1)
        amounts = np.take_along_axis(chosen[rows], present, axis=1)
        counts = np.repeat(sizes, pattern)
        charges = table.states[present] * amounts[:, :, None]
        where = open_rows[rows]
        if np.prod(counts.astype(np.float64)) <= _MAX_VECTORISED:
            possible[where] = _any_neutral(fixed[rows], charges, counts, tolerance[where])
        else:
            for i, row in enumerate(where):
                options = [charges[i, j, :count] for j, count in enumerate(counts)]
                possible[row] = _neutral_by_partial_sums(
                    float(fixed[rows[i]]), options, float(tolerance[row])
                )
    return possible


def _any_neutral(
    fixed: NDArray[np.float64],
    charges: NDArray[np.float64],
    counts: NDArray[np.intp],
    tolerance: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """All combinations of rows that share ``counts``; ``charges`` has shape (rows, elements, states)."""
    found = np.empty(fixed.size, dtype=bool)
    step = max(1, _BATCH_VALUES // int(np.prod(counts, initial=1)))
    for start in range(0, fixed.size, step):
        batch = slice(start, start + step)
        sums = fixed[batch, None]
        for j, count in enumerate(counts):
            sums = (sums[:, :, None] + charges[batch, None, j, :count]).reshape(sums.shape[0], -1)
        found[batch] = (np.abs(sums) <= tolerance[batch, None]).any(axis=1)
    return found


def _neutral_by_partial_sums(
    fixed: float, options: list[NDArray[np.float64]], tolerance: float, max_sums: int = _MAX_SUMS
) -> bool:
    """One row: distinct partial sums, pruned to those that the remaining elements can still balance."""
    # the widest spans first: what is left to balance shrinks fastest, so most partial sums drop out early
    steps = sorted(
        (np.rint(option * _UNITS_PER_CHARGE).astype(np.int64) for option in options), key=np.ptp, reverse=True
    )
    lowest_left = [sum(int(s.min()) for s in steps[j + 1 :]) for j in range(len(steps))]
    highest_left = [sum(int(s.max()) for s in steps[j + 1 :]) for j in range(len(steps))]
    slack = round(tolerance * _UNITS_PER_CHARGE)
    grid = 1
    sums = np.array([round(fixed * _UNITS_PER_CHARGE)], dtype=np.int64)
    for step, low, high in zip(steps, lowest_left, highest_left, strict=True):
        sums = np.unique((sums[:, None] + step).ravel())
        while sums.size > max_sums:
            grid *= 10
            slack += grid
            sums = np.unique(sums // grid * grid)
        sums = sums[(sums + low <= slack) & (sums + high >= -slack)]
        if sums.size == 0:
            return False
    return bool((np.abs(sums) <= slack).any())


_NORMS = (0, 2, 3, 5, 7, 10)
_STATISTICS = ("minimum", "maximum", "range", "mean", "avg_dev", "mode")
_ORBITALS = ("s", "p", "d", "f")
_VALENCE_COLUMNS = [MAGPIE_PROPERTIES.index(f"N{orbital}Valence") for orbital in _ORBITALS]
_N_STATISTICS = len(MAGPIE_PROPERTIES) * len(_STATISTICS)

ATTRIBUTE_NAMES: tuple[str, ...] = (
    *(f"{p}-norm" for p in _NORMS),
    *(f"MagpieData {statistic} {name}" for name in MAGPIE_PROPERTIES for statistic in _STATISTICS),
    *(f"avg {orbital} valence electrons" for orbital in _ORBITALS),
    "compound possible",
    "max ionic char",
    "avg ionic char",
)
"""matminer's labels of Stoichiometry, ElementProperty, ValenceOrbital and IonProperty, in its order."""


def physical_attributes(fractions: NDArray[np.floating], *, chunk_rows: int = 4096) -> NDArray[np.float64]:
    """Compute matminer's 145 attributes of Ward et al. 2016 for every row of a fraction matrix.

    Equal to matminer's ``Stoichiometry()``, ``ElementProperty.from_preset("magpie")``,
    ``ValenceOrbital(props=["avg"])`` and ``IonProperty(fast=True)``. The element tables have no gap
    for the 86 elements, so nothing is imputed and the result holds no NaN.

    Args:
        fractions: Elemental fractions, shape (n, 86), columns as in ``ELEMENTS``, rows summing to 1.
            Keep them in float64: fractions that went through float32 give attributes good to about 1e-6.
        chunk_rows: Rows worked on at once; memory beyond the result stays below about
            ``chunk_rows * k * 1`` KiB for compositions of k elements.

    Returns:
        Shape (n, 145), columns as in :data:`ATTRIBUTE_NAMES`, in Magpie's units.

    Raises:
        ShapeMismatchError: ``fractions`` is not (n, 86); the message gives its shape.
        DataError: A row holds NaN, infinity or a negative number, is all zero or does not sum to 1;
            the message gives the first such row. Or ``chunk_rows`` is less than 1.

    Source: Ward et al. 2016, doi:10.1038/npjcompumats.2016.28; Ward et al. 2018 (matminer),
        doi:10.1016/j.commatsci.2018.05.018.
    """
    fractions = _checked(fractions)
    if chunk_rows < 1:
        raise DataError(
            f"chunk_rows is {chunk_rows}, but at least one row has to be worked on. Give 1 or more."
        )
    attributes = np.empty((fractions.shape[0], len(ATTRIBUTE_NAMES)), dtype=np.float64)
    for start in range(0, fractions.shape[0], chunk_rows):
        chunk = fractions[start : start + chunk_rows]
        attributes[start : start + chunk_rows] = _attributes_of_chunk(chunk)
    return attributes


def _checked(fractions: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the matrix as floats, or refuse what is no set of compositions."""
    fractions = np.asarray(fractions)
    if fractions.ndim != 2 or fractions.shape[1] != len(ELEMENTS):
        raise ShapeMismatchError(
            f"Elemental fractions have shape {fractions.shape}; physical attributes need "
            f"(n, {len(ELEMENTS)}), one column per element. "
            "Make them with crossprop.data.compositions.fraction_matrix(formulas)."
        )
    if not np.issubdtype(fractions.dtype, np.floating):
        try:
            fractions = fractions.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"Elemental fractions hold {fractions.dtype} values that are no numbers ({error}). "
                "Make them with crossprop.data.compositions.fraction_matrix(formulas)."
            ) from error
    total = fractions.sum(axis=1, dtype=np.float64)
    complaints = (
        ("holds a NaN or an infinity", ~np.isfinite(fractions).all(axis=1)),
        ("holds a negative fraction", (fractions < 0).any(axis=1)),
        ("is all zero, so it has no composition", total == 0),
        ("does not sum to 1", np.abs(total - 1) > 1e-4),
    )
    for complaint, bad in complaints:
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(
                f"Row {row} of the elemental fractions {complaint} (sum {total[row]:.6g}; "
                f"{int(bad.sum())} such row(s)). Physical attributes need fractions of at least one "
                "of the 86 elements; mend or drop the row."
            )
    return fractions


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
        attributes[rows, :-1] = _attributes_of_block(
            elements, np.take_along_axis(weights[rows], elements, axis=1)
        )
    electronegativity = element_tables().electronegativity
    ionic = 1.0 - np.exp(-0.25 * (electronegativity[:, None] - electronegativity[None, :]) ** 2)
    attributes[:, -1] = 0.5 * np.einsum("ne,ne->n", weights @ ionic, weights)
    attributes[:, -3] = possible
    return attributes


def _attributes_of_block(elements: NDArray[np.intp], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """All but the last attribute of rows with equally many elements; "compound possible" stays 0.

    Args:
        elements: Column numbers of the present elements, shape (rows, count).
        weights: Their fractions, same shape.
    """
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
            np.zeros(weights.shape[0]),
            1.0 - np.exp(-0.25 * spread**2),
        ]
    )
