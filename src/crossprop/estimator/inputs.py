"""What the estimator takes for formulas and groups, as fractions and as rows to learn from."""

import re
import warnings
from collections.abc import Iterable, Mapping, Set
from typing import Any, Final

import numpy as np
import pandas as pd
from sklearn.utils.validation import column_or_1d

from crossprop.data.compositions import (
    composition_keys,
    formula_warnings,
    fraction_matrix,
    parse_formulas,
    plain_formula,
    refuse_capitals,
)
from crossprop.data.splits import GROUP_COLUMN, linked_groups
from crossprop.data.user_columns import amounts_said, element_columns
from crossprop.data.user_formulas import formulas_of
from crossprop.errors import DataError, EstimatorInputError

FORMULA_COLUMN: Final = "formula"
_EXAMPLES: Final = 3


def formulas_in(given: Any) -> list[Any]:
    """The formulas in a list, series, array of shape (n,) or (n, 1), or a table with one column or one named 'formula'.

    A mapping of elements to amounts becomes a formula, and so does a row of a table of columns named by elements.
    """
    if isinstance(given, pd.DataFrame):
        if FORMULA_COLUMN in given:
            given = given[FORMULA_COLUMN]
        elif given.shape[1] == 1:
            given = given.iloc[:, 0]
        else:
            return _from_amounts(given)
    if isinstance(given, (Mapping, Set)):
        raise EstimatorInputError(f"The items of a {type(given).__name__} have no order. Give a list.")
    if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
        raise EstimatorInputError(
            f"Expected a list of formulas, got {str(given)[:40]!r}. Reshape your data: for one formula give ['NaCl']."
        )
    if hasattr(given, "__array__"):
        given = np.asarray(given, dtype=object)
        if given.ndim != 1 and given.shape[1:] != (1,):
            raise EstimatorInputError(f"Formulas of shape {given.shape} are refused. Give (n,) or (n, 1).")
    formulas = [
        _formula(row[0] if isinstance(row, (list, tuple, np.ndarray)) and len(row) == 1 else row) for row in given
    ]
    if not formulas:
        raise EstimatorInputError("Found array with 0 sample(s) while a minimum of 1 is required.")
    return formulas


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
    if wrong := [key for key in amounts if not re.fullmatch("[A-Z][a-z]?", key)]:
        raise EstimatorInputError(f"{dict(row)!r}: {wrong[0]!r} is no element. Give elements, as {{'Fe': 2, 'O': 3}}.")
    formulas, reasons = formulas_of(list(amounts), [list(amounts.values())], any_sum=True)
    if reasons:
        raise EstimatorInputError(f"{dict(row)!r} is no composition: {reasons[0]}.")
    return formulas[0]


def _from_amounts(table: pd.DataFrame) -> list[Any]:
    """Formulas from a table of amounts, of atoms unless the names say weights; an empty cell is none of the element."""
    names = list(map(str, table.columns))
    symbols = list(element_columns(names).values())
    kinds = {kind for name in names if (kind := amounts_said(name))}
    if len(set(symbols)) < len(names) or len(kinds) > 1:
        raise EstimatorInputError(
            f"The table has the columns {names[:8]}. Give the column of formulas alone, name it {FORMULA_COLUMN!r}, or "
            "give columns of amounts of one kind, each named by its element, one of each."
        )
    try:
        amounts = table.to_numpy(dtype=np.float64, na_value=0.0)
    except (TypeError, ValueError) as error:
        raise EstimatorInputError(f"The columns of elements hold more than numbers: {error}.") from None
    rows = np.nan_to_num(amounts, posinf=np.inf).tolist()
    formulas, reasons = formulas_of(symbols, rows, *kinds)
    _refuse(reasons, len(formulas), "compositions")
    return list(formulas)


def fractions_of(formulas: list[Any]) -> np.ndarray:
    """Elemental fractions, shape (n, 86); doubtful formulas, such as ``Fe203``, are told as a warning."""
    fractions, _, refused = parse_formulas(formulas)
    _refuse(refused, len(formulas), "formulas")
    if doubts := {row: found[0] for row, text in enumerate(formulas) if (found := formula_warnings(text))}:
        shown = "; ".join(f"row {row}: {doubt}" for row, doubt in list(doubts.items())[:_EXAMPLES])
        warnings.warn(f"{len(doubts)} doubtful formulas: {shown}", UserWarning, stacklevel=3)
    return fractions


def _refuse(reasons: Mapping[int, object], rows: int, what: str) -> None:
    if reasons:
        examples = "; ".join(f"row {row}: {reason}" for row, reason in list(reasons.items())[:_EXAMPLES])
        raise EstimatorInputError(f"{len(reasons)} of {rows} rows are no {what}: {examples}")


def learning_rows(formulas: list[Any], values: np.ndarray, groups: Any = None) -> pd.DataFrame:
    """Columns ``formula``, ``composition`` (key) and ``value``, and ``group`` where rows have groups."""
    if len(formulas) != len(values):
        raise EstimatorInputError(
            f"Found input variables with inconsistent numbers of samples: {[len(formulas), len(values)]}"
        )
    if len(formulas) < 2:
        raise EstimatorInputError(f"n_samples={len(formulas)}: one sample is too few to learn from.")
    keys = composition_keys(fractions_of(formulas))
    if hidden := refuse_capitals(formulas):
        raise EstimatorInputError(f"Of the formulas, {hidden}")
    rows = pd.DataFrame({"formula": list(map(str, formulas)), "composition": keys, "value": values})
    if groups is not None:
        try:
            rows[GROUP_COLUMN] = linked_groups(keys, column_or_1d(np.asarray(groups, dtype=object)))
        except (DataError, ValueError) as error:
            raise EstimatorInputError(f"groups: {error}") from error
    return rows


def composition_groups(formulas: Iterable[str]) -> np.ndarray:
    """A number for every composition, shape (n,), for ``GroupKFold``: spellings and multiples share one.

    A row that is no formula is a FormulaError.
    """
    codes, _ = pd.factorize(composition_keys(fraction_matrix(formulas)))
    return np.asarray(codes)
