"""From formulas to values with an interval, and a word on whether the model may know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from crossprop.data.compositions import fraction_matrix
from crossprop.errors import FormulaError
from crossprop.serving.served import ServedModel

FORMULA_COLUMN = "formula"
OUTPUT_COLUMNS = ("value", "lower", "upper", "in_domain", "note")


def predict_formulas(model: ServedModel, formulas: Iterable[object]) -> pd.DataFrame:
    """Predict a property of compositions.

    Args:
        model: A loaded model.
        formulas: Formulas, n of them, at least one.

    Returns:
        One row per formula, columns ``value, lower, upper`` (in the property's unit, the interval with the
        coverage that ``model.json`` states), ``in_domain`` and ``note`` (why the composition lies outside the
        training domain, and whether the value lies beyond all known ones; or an empty text).

    Raises:
        FormulaError: There is no formula, or one is none; the message names the row, counted from 0.
        ModelFormatError: The model knows other elements, or answers with something that is no number.
    """
    rows = list(formulas)
    if not rows:
        raise FormulaError("The input holds no rows. Give at least one formula, such as 'NaCl'.")
    predicted = model.predict(fraction_matrix(rows, where="the input"))
    return pd.DataFrame({column: getattr(predicted, column) for column in OUTPUT_COLUMNS})


def formulas_of(model_input: object) -> list[object]:
    """The formulas in whatever a caller sends: a table with a column ``formula``, a list, a series, one text.

    Raises:
        FormulaError: The table has no such column, or the input is of another kind.
    """
    if isinstance(model_input, str):
        return [model_input]
    if isinstance(model_input, pd.DataFrame):
        if FORMULA_COLUMN not in model_input.columns:
            columns = ", ".join(repr(str(c)) for c in model_input.columns[:10]) or "none"
            raise FormulaError(
                f"The input has no column {FORMULA_COLUMN!r} (its columns: {columns}). Rename or add it."
            )
        return list(model_input[FORMULA_COLUMN])
    if isinstance(model_input, Mapping) and FORMULA_COLUMN in model_input:
        return formulas_of(model_input[FORMULA_COLUMN])
    if isinstance(model_input, list | tuple | pd.Series | np.ndarray):
        return list(model_input)
    raise FormulaError(
        f"The input is of type {type(model_input).__name__}. Give a table with a column {FORMULA_COLUMN!r} "
        "or a list of formulas."
    )
