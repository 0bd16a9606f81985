"""Data sets that an installed package brings along; so far matminer's electronic transport database.

Source: Ricci et al. 2017, Sci. Data 4, 170085, doi:10.1038/sdata.2017.85: 47,737 materials at 300 K and 1e18
carriers/cm³; ``catalog.yaml`` has the units. The file does not say which of several polymorphs is stable, so a
composition's row is the median of its polymorphs (of their decadic logarithms where these are learnt).
"""

import importlib.util
import tarfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from crossprop.data.catalog import Catalog, EmbeddedColumn, EmbeddedPackage, PropertyEntry, Role
from crossprop.data.cleaning import CleanTable, clean_rows, report_frame
from crossprop.errors import DataError
from crossprop.io import file_digest
from crossprop.methods import DEFAULT_SEED


def embedded_archive(package: EmbeddedPackage) -> Path:
    """Path of the archive within the installed package; one that the catalogue does not pin is refused."""
    spec = importlib.util.find_spec(package.package)  # finds the package without importing it
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"The package {package.package!r} is not installed. Install the locked requirements.")
    path = Path(spec.submodule_search_locations[0], package.path)
    if not path.is_file() or file_digest(path) != package.sha256:
        raise DataError(
            f"{path} is missing or not the file that the catalogue pins (sha256 {package.sha256}). "
            f"Reinstall {package.package!r} at the locked version."
        )
    return path


def embedded_table(catalog: Catalog, entry: PropertyEntry) -> CleanTable:
    """All rows of an embedded property, polymorphs apart, with ``log10`` taken where the catalogue says so."""
    assert entry.embedded is not None  # the catalogue guarantees it where there are no columns
    return _table(catalog.packages[entry.embedded.package], entry.embedded)


def shared_draw(catalog: Catalog, package: str, seed: int = DEFAULT_SEED) -> tuple[frozenset[str], frozenset[str]]:
    """Keys of ``n_train`` compositions to learn from and ``n_test`` to hold out, disjoint, the same for every target.

    Drawn from the compositions that have all targets of the package: the targets that a study picks do not matter.
    """
    wanted = catalog.packages[package]
    targets = [e for e in catalog.entries(Role.TARGET) if e.embedded and e.embedded.package == package]
    held = [set(embedded_table(catalog, entry).rows["composition"]) for entry in targets]
    common = sorted(set.intersection(*held)) if held else []
    if len(common) < wanted.n_train + wanted.n_test:
        raise DataError(
            f"{len(common)} compositions of {package!r} have all targets; {wanted.n_train} + {wanted.n_test} "
            "are to be drawn. Lower n_train or n_test in the catalogue."
        )
    drawn = np.random.default_rng(seed).permutation(len(common))[: wanted.n_train + wanted.n_test]
    keys = [common[i] for i in drawn]
    return frozenset(keys[: wanted.n_train]), frozenset(keys[wanted.n_train :])


@lru_cache(maxsize=16)
def _table(package: EmbeddedPackage, embedded: EmbeddedColumn) -> CleanTable:
    """The cleaned column; read once a process, never changed by those who use it."""
    columns = _read(package)
    for name in (package.formula_column, embedded.column):
        if name not in columns:
            raise DataError(f"{package.member} has no column {name!r}; it has {list(columns)}. Correct the catalogue.")
    formulas, values = columns[package.formula_column], columns[embedded.column]
    table = clean_rows(package.member, range(2, len(columns) + 2), formulas, values)
    if embedded.transform == "none":
        return table
    positive = table.rows["value"] > 0
    reason = "a value of zero or less has no logarithm"
    lost = table.rows.loc[~positive, ["line", "formula", "value"]].itertuples(index=False)
    dropped = report_frame((line, package.member, f, value, "dropped", reason) for line, f, value in lost)
    rows = table.rows[positive].reset_index(drop=True)
    rows["value"] = np.log10(rows["value"])
    return CleanTable(rows, pd.concat([table.report, dropped], ignore_index=True))


@lru_cache(maxsize=2)
def _read(package: EmbeddedPackage) -> pd.DataFrame:
    """The archive's table, all cells as texts."""
    path = embedded_archive(package)
    try:
        with tarfile.open(path, "r:*") as archive:
            member = archive.extractfile(package.member)
            if member is None:
                raise KeyError(package.member)
            return pd.read_csv(member, dtype=str, na_filter=False)
    except (tarfile.TarError, KeyError, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}. Reinstall {package.package!r}.") from None
