"""What may be handed to the estimator as formulas and values, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from crossprop.data.compositions import composition_keys, fraction_matrix, parse_formulas
from crossprop.errors import EstimatorInputError

FORMULA_COLUMN = "formula"
_EXAMPLES = 3


def formulas_in(given: Any) -> list[Any]:
    """The formulas in a list, series, array of shape (n,) or (n, 1), or a table with one column or one named 'formula'.

    Raises:
        EstimatorInputError: It is something else, or empty.
    """
    if isinstance(given, pd.DataFrame):
        if FORMULA_COLUMN in given.columns:
            given = given[FORMULA_COLUMN]
        elif given.shape[1] == 1:
            given = given.iloc[:, 0]
        else:
            raise EstimatorInputError(
                f"The table has the columns {list(map(str, given.columns[:8]))}. Give the column of formulas alone, or "
                f"name it {FORMULA_COLUMN!r}."
            )
    if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
        raise EstimatorInputError(
            f"Expected a list of formulas, got {type(given).__name__} {str(given)[:40]!r}. Reshape your data: for a "
            "single formula give ['NaCl']."
        )
    if hasattr(given, "toarray") or type(given).__module__.startswith("scipy.sparse"):
        raise EstimatorInputError("Sparse data hold no formulas. Give a list of texts such as ['NaCl'].")
    array = given if isinstance(given, list) else np.asarray(given, dtype=object)
    if isinstance(array, np.ndarray):
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1:
            raise EstimatorInputError(
                f"Expected one column of formulas, got an array of shape {array.shape}. Give shape (n,) or (n, 1)."
            )
        array = array.tolist()
    rows = [row[0] if isinstance(row, (list, tuple)) and len(row) == 1 else row for row in array]
    if not rows:
        raise EstimatorInputError("Found array with 0 sample(s) while a minimum of 1 is required.")
    return rows


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


def learning_rows(formulas: list[Any], values: np.ndarray) -> pd.DataFrame:
    """Columns ``formula``, ``composition`` (key) and ``value``.

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
    return pd.DataFrame({"formula": [str(f) for f in formulas], "composition": keys, "value": values})


def composition_groups(formulas: Iterable[str]) -> np.ndarray:
    """A number for every composition, shape (n,), for ``GroupKFold``: spellings and multiples share one.

    ``cross_val_score(model, formulas, y, cv=GroupKFold(5), groups=composition_groups(formulas))`` keeps the rows of a
    composition together, as crossprop does within a fit.

    Raises:
        FormulaError: A row is no formula.
    """
    codes, _ = pd.factorize(composition_keys(fraction_matrix(formulas)))
    return np.asarray(codes)
