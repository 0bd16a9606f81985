"""What may be handed to the estimator as formulas and values, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import column_or_1d

from crossprop.data.compositions import composition_keys, fraction_matrix, parse_formulas
from crossprop.data.grouping import linked_groups
from crossprop.data.own_columns import plain_formula
from crossprop.data.own_elements import ElementColumns, element_columns, formulas_of
from crossprop.data.prepared import GROUP_COLUMN
from crossprop.errors import DataError, EstimatorInputError

FORMULA_COLUMN = "formula"
_EXAMPLES = 3


def formulas_in(given: Any) -> list[Any]:
    """The formulas in a list, series, array of shape (n,) or (n, 1), or a table with one column or one named 'formula'.

    What maps elements to amounts (a dict, pymatgen's ``Composition``) becomes a formula, and so does a row of a table
    whose columns are all named by elements and hold atomic amounts.

    Raises:
        EstimatorInputError: It is something else, or empty.
    """
    if isinstance(given, pd.DataFrame):
        if FORMULA_COLUMN in given.columns:
            given = given[FORMULA_COLUMN]
        elif given.shape[1] == 1:
            given = given.iloc[:, 0]
        elif len(element_columns(list(map(str, given.columns)))) == given.shape[1]:
            return list(_composed(given))
        else:
            raise EstimatorInputError(
                f"The table has the columns {list(map(str, given.columns[:8]))}. Give the column of formulas alone, "
                f"name it {FORMULA_COLUMN!r}, or give columns of atomic amounts, each named by its element."
            )
    if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
        raise EstimatorInputError(
            f"Expected a list of formulas, got {type(given).__name__} {str(given)[:40]!r}. Reshape your data: for a "
            "single formula give ['NaCl']."
        )
    if hasattr(given, "toarray") or type(given).__module__.startswith("scipy.sparse"):
        raise EstimatorInputError("Sparse data hold no formulas. Give a list of texts such as ['NaCl'].")
    if isinstance(given, (Mapping, Set)):
        raise EstimatorInputError(
            f"Expected a list of formulas, got a {type(given).__name__}, whose items have no order. Give a list."
        )
    if not isinstance(given, (list, np.ndarray)) and not hasattr(given, "__len__"):
        given = list(given)  # a generator
    array = given if isinstance(given, list) else np.asarray(given, dtype=object)
    if isinstance(array, np.ndarray):
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1:
            raise EstimatorInputError(
                f"Expected one column of formulas, got an array of shape {array.shape}. Give shape (n,) or (n, 1)."
            )
        array = array.tolist()
    rows = [_formula(row[0] if isinstance(row, (list, tuple)) and len(row) == 1 else row) for row in array]
    if not rows:
        raise EstimatorInputError("Found array with 0 sample(s) while a minimum of 1 is required.")
    return rows


def _formula(row: Any) -> Any:
    """A row as a formula, where it is a text or maps elements to amounts; anything else as it is."""
    if isinstance(row, str):
        return plain_formula(row)
    if not isinstance(row, Mapping):
        return row
    try:
        amounts = {str(element): float(amount) for element, amount in row.items()}
    except (TypeError, ValueError):
        return row
    formulas, _ = formulas_of(list(amounts), [list(amounts.values())], ElementColumns.ATOMIC)
    return formulas[0]


def _composed(table: pd.DataFrame) -> list[str]:
    """Formulas from a table of atomic amounts; an empty cell is none of the element."""
    symbols = list(element_columns(list(map(str, table.columns))).values())
    if len(set(symbols)) < len(symbols):
        raise EstimatorInputError(
            f"The table has several columns of one element: {symbols}. Leave one of each."
        )
    try:
        amounts = table.to_numpy(dtype=np.float64, na_value=0.0)
    except (TypeError, ValueError) as error:
        raise EstimatorInputError(f"The columns of elements hold more than numbers: {error}.") from None
    formulas, reasons = formulas_of(
        symbols, np.nan_to_num(amounts, posinf=np.inf).tolist(), ElementColumns.ATOMIC
    )
    if reasons:
        examples = "; ".join(f"row {row}: {reason}" for row, reason in list(reasons.items())[:_EXAMPLES])
        raise EstimatorInputError(f"{len(reasons)} of {len(formulas)} rows are no compositions: {examples}")
    return formulas


def fractions_of(formulas: list[Any]) -> np.ndarray:
    """Elemental fractions, shape (n, 86).

    Raises:
        EstimatorInputError: A row is no formula; the message names the first such rows, counted from 0.
    """
    fractions, _, refused = parse_formulas(formulas)
    if refused:
        examples = "; ".join(f"row {row}: {error}" for row, error in list(refused.items())[:_EXAMPLES])
        raise EstimatorInputError(f"{len(refused)} of {len(formulas)} rows are no formulas: {examples}")
    return fractions


def learning_rows(formulas: list[Any], values: np.ndarray, groups: Any = None) -> pd.DataFrame:
    """Columns ``formula``, ``composition`` (key) and ``value``, and ``group`` where rows have groups.

    Raises:
        EstimatorInputError: A row is no formula, or the lengths differ.
    """
    if len(formulas) != len(values):
        raise EstimatorInputError(
            f"Found input variables with inconsistent numbers of samples: {[len(formulas), len(values)]}"
        )
    if len(formulas) < 2:
        raise EstimatorInputError(f"n_samples={len(formulas)}: one sample is too few to learn from.")
    keys = composition_keys(fractions_of(formulas))
    rows = pd.DataFrame({"formula": [str(f) for f in formulas], "composition": keys, "value": values})
    if groups is not None:
        try:
            rows[GROUP_COLUMN] = linked_groups(keys, column_or_1d(np.asarray(groups, dtype=object)))
        except (DataError, ValueError) as error:
            raise EstimatorInputError(f"groups: {error}") from error
    return rows


def composition_groups(formulas: Iterable[str]) -> np.ndarray:
    """A number for every composition, shape (n,), for ``GroupKFold``: spellings and multiples share one.

    ``cross_val_score(model, formulas, y, cv=GroupKFold(5), groups=composition_groups(formulas))`` keeps the rows of a
    composition together, as crossprop does within a fit.

    Raises:
        FormulaError: A row is no formula.
    """
    codes, _ = pd.factorize(composition_keys(fraction_matrix(formulas)))
    return np.asarray(codes)
