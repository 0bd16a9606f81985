"""Rows that a source network is trained on: merged, supplemented, and free of every target's compositions."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from crossprop.data.catalog import Catalog, PinnedFile, PropertyEntry, Supplement
from crossprop.data.cleaning import noted, read_table, refuse_unlearnable, report_frame
from crossprop.data.compositions import COLUMN, composition_keys, fraction_matrix
from crossprop.data.embedded import embedded_table
from crossprop.data.prepared import PreparedData
from crossprop.data.splits import source_validation
from crossprop.errors import DataError
from crossprop.methods import DEFAULT_SEED

_LEAST_RESIDUAL = 1e-4  # residual below which a row gains no more weight, in the property's unit
_LEAST_ROWS = 20  # compositions that determine a reference


def rounded_keys(keys: Iterable[str]) -> np.ndarray:
    """The keys that compositions have where a file states their fractions with four decimals, in the same order.

    Rounded fractions need not sum to 1: the key of ``Al0.1429F0.7143Fe0.1429`` is not that of ``AlFeF5``.
    """
    return composition_keys(fraction_matrix(key.replace(":", "").replace(" ", "") for key in keys))


def _among(keys: pd.Series, known: AbstractSet[str]) -> pd.Series:
    """Whether each composition, or its rounded fractions, is known."""
    return keys.isin(known) | pd.Series(rounded_keys(keys), keys.index).isin(known)


def merge_compositions(rows: pd.DataFrame, how: Literal["lowest", "median"]) -> pd.DataFrame:
    """One row per composition, sorted: columns ``formula`` (the first spelling), ``composition``, ``value``."""
    how_value = {"formula": "first", "value": "min" if how == "lowest" else "median"}
    merged = rows.groupby("composition", sort=True).agg(how_value).reset_index()
    return merged[["formula", "composition", "value"]]


def fitted_differences(
    fractions: np.ndarray,
    differences: np.ndarray,
    others: np.ndarray,
    corrected_elements: tuple[str, ...] = (),
    corrected_with: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Differences of two series as sums of elemental references: of other compositions, and absolute residuals.

    Fitted by least absolute deviations, so that a few rows of another kind do not shift the references, to
    ``fractions``, (n, 86), and ``differences`` (other series less this property), (n,), of the shared compositions.
    Those of ``others``, (m, 86), are NaN where the shared ones do not determine an element's reference.
    """
    design = _design(fractions, corrected_elements, corrected_with)
    if len(design) < design.shape[1]:
        raise DataError(
            f"Only {len(design)} compositions have both values; {design.shape[1]} elemental references "
            "cannot be fitted to them. Leave the supplement out of the catalogue's edition."
        )
    weights, coefficients = np.ones(len(design)), np.full(design.shape[1], np.inf)
    # iteratively reweighted least squares, by the normal equations; absent elements get 0
    for _ in range(51):
        former, weighted = coefficients, design * weights[:, None]
        coefficients = np.linalg.lstsq(weighted.T @ design, weighted.T @ differences, rcond=None)[0]
        if np.abs(coefficients - former).max() < 1e-7:
            break
        weights = 1 / np.maximum(np.abs(differences - design @ coefficients), _LEAST_RESIDUAL)
    residuals = np.abs(differences - design @ coefficients)
    undetermined = (design > 0).sum(axis=0) < _LEAST_ROWS
    wanted = _design(others, corrected_elements, corrected_with)
    return np.where((wanted[:, undetermined] > 0).any(axis=1), np.nan, wanted @ coefficients), residuals


def _design(fractions: np.ndarray, corrected_elements: tuple[str, ...], corrected_with: str | None) -> np.ndarray:
    """Fractions, and beside them those of the corrected elements where the correcting element is present."""
    if not corrected_elements or corrected_with is None:
        return np.asarray(fractions, dtype=np.float64)
    present = fractions[:, [COLUMN[corrected_with]]] > 0
    return np.hstack([fractions, fractions[:, [COLUMN[element] for element in corrected_elements]] * present])


def prepare_source(
    catalog: Catalog,
    key: str,
    raw_root: Path,
    excluded: AbstractSet[str] = frozenset(),
    edition: str | None = None,
    seed: int = DEFAULT_SEED,
) -> PreparedData:
    """Rows of a source property, one per composition, split 90:10 into ``train`` and ``validation``.

    Excluded compositions (keys of every target, hold-out included) leave before anything is computed, so that not even
    a fitted reference knows them, also where one of the two has rounded fractions. A supplement only adds compositions
    that are not there yet.
    """
    entry = catalog.property(key)
    chosen = entry.edition(edition)
    reports: list[pd.DataFrame] = []
    hiding = {*excluded, *rounded_keys(excluded)}

    def read(name: str, files: tuple[PinnedFile, ...]) -> pd.DataFrame:
        """All files' rows, less the excluded compositions, one per composition."""
        if entry.columns is None:
            tables = [embedded_table(catalog, entry)]
        else:
            names = entry.columns.formula, entry.columns.value
            tables = [read_table(raw_root / file.relative_path, *names) for file in files]
        rows = pd.concat([table.rows for table in tables], ignore_index=True)
        # What a single file repeats is noted below for all of them together.
        reports.extend(table.report[table.report["action"] != "noted"] for table in tables)
        hidden = _among(rows["composition"], hiding)
        merged = merge_compositions(rows[~hidden], entry.merge)
        notes = []
        if n := int(hidden.sum()):
            n_hidden = rows.loc[hidden, "composition"].nunique()
            notes.append(f"{n} rows ({n_hidden} compositions) belong to a target: left out")
        if n := int((~hidden).sum()) - len(merged):
            notes.append(f"{n} rows repeat a composition; one row per composition ({entry.merge} value)")
        reports.append(noted(name, [*notes, f"{len(merged)} compositions usable"]))
        return merged

    rows = read(entry.key, chosen.files)
    if rows.empty:
        raise DataError(f"Source {entry.key!r} has no row left once the targets' compositions are excluded.")
    for supplement in chosen.supplements:
        series = read(supplement.description, supplement.files)
        rows, account = _supplemented(rows, series, supplement, entry)
        reports.append(account)
    if entry.limits is not None:
        low, high = entry.limits.low, entry.limits.high
        possible = rows["value"].between(low, high)
        reason = f"beyond the limits {low:g} to {high:g} {entry.unit}: a failed calculation"
        beyond = rows.loc[~possible, ["formula", "value"]].itertuples(index=False)
        reports.append(report_frame((pd.NA, entry.key, formula, value, "dropped", reason) for formula, value in beyond))
        rows = rows[possible].reset_index(drop=True)
    refuse_unlearnable(rows["value"].to_numpy(), f"source {entry.key!r}")
    validates = source_validation(rows["composition"].to_numpy(), seed)
    frame = rows.assign(split=np.where(validates, "validation", "train"))
    assert not excluded & set(frame["composition"])  # the promise that everything else rests on
    return PreparedData(frame=frame, cleaning=pd.concat(reports, ignore_index=True))


def _supplemented(
    rows: pd.DataFrame, series: pd.DataFrame, supplement: Supplement, entry: PropertyEntry
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows with those of the series whose compositions are new, and a report on the series."""
    notes = []
    if supplement.relation == "elemental_references":
        shared = series.merge(rows, on="composition", suffixes=("", "_own"))
        predicted, residuals = fitted_differences(
            fraction_matrix(shared["formula"]),
            (shared["value"] - shared["value_own"]).to_numpy(),
            fraction_matrix(series["formula"]),
            supplement.corrected_elements,
            supplement.corrected_with,
        )
        series = series.assign(value=(series["value"] - predicted).round(6))  # the same on every number of threads
        undetermined = int(series["value"].isna().sum())
        series = series.dropna(subset="value")
        notes.append(
            f"elemental references fitted to {len(shared)} compositions: mean residual {residuals.mean():.5f}, median "
            f"{np.median(residuals):.7f} {entry.unit}, {100 * (residuals <= supplement.tolerance).mean():.2f} % within "
            f"{supplement.tolerance:g}"
        )
        if undetermined:
            notes.append(
                f"{undetermined} rows dropped: the shared compositions do not determine an element's reference"
            )
    shared = series.merge(rows, on="composition", suffixes=("", "_own"))
    difference = (shared["value"] - shared["value_own"]).abs()
    if len(shared):
        conflicting = int((difference > supplement.tolerance).sum())
        notes.append(
            f"{len(shared)} compositions are known already, the values differ by {difference.mean():.5f} {entry.unit} "
            f"on average, {conflicting} by more than {supplement.tolerance:g}; the values known before were kept"
        )
        if difference.median() > supplement.tolerance:
            raise DataError(
                f"{supplement.description}: on {len(shared)} shared compositions the values differ from "
                f"{entry.key!r} by {difference.median():.3g} {entry.unit} (median): another scale or another "
                "property. Leave the supplement out of the catalogue's edition."
            )
    known = {*rows["composition"], *rounded_keys(rows["composition"])}
    new = series[~_among(series["composition"], known)]
    account = noted(supplement.description, [*notes, f"{len(new)} compositions added"])
    merged = pd.concat([rows, new[["formula", "composition", "value"]]], ignore_index=True)
    return merged.sort_values("composition", kind="stable", ignore_index=True), account
