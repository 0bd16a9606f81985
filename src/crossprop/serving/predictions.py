"""From formulas to values with an interval, and a word on whether the model may know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd

from crossprop.data.compositions import ELEMENTS, fraction_matrix
from crossprop.errors import FormulaError, ModelFormatError

FORMULA_COLUMN = "formula"
OUTPUT_COLUMNS = ("value", "lower", "upper", "in_domain", "note")


class SavedEnsemble(Protocol):
    """What ``crossprop.models.saved.load_predictor`` returns, as far as it is needed here."""

    @property
    def info(self) -> Mapping[str, Any]:
        """Content of ``model.json``."""
        ...

    def predict(self, fractions: np.ndarray) -> np.ndarray:
        """Values for elemental fractions of shape (n, 86), shape (n,)."""
        ...


def predict_formulas(ensemble: SavedEnsemble, formulas: Iterable[object]) -> pd.DataFrame:
    """Predict a property of compositions.

    Args:
        ensemble: A saved model.
        formulas: Formulas, n of them, at least one.

    Returns:
        One row per formula, columns ``value, lower, upper`` (in the property's unit, the interval with the
        coverage that ``model.json`` states), ``in_domain`` (all elements were seen in training) and ``note``
        (why not, or an empty text).

    Raises:
        FormulaError: There is no formula, or one is none; the message names the row, counted from 0.
        ModelFormatError: The model knows other elements, or answers with something that is no number.
    """
    rows = list(formulas)
    if not rows:
        raise FormulaError("The input holds no rows. Give at least one formula, such as 'NaCl'.")
    info = ensemble.info
    target = info.get("target")
    if tuple(info["elements"]) != ELEMENTS:
        raise ModelFormatError(
            f"The model of {target!r} knows {len(info['elements'])} elements, not the {len(ELEMENTS)} of "
            "this version of crossprop in their order. Register it again with this version."
        )
    fractions = fraction_matrix(rows, where="the input")
    values = np.asarray(ensemble.predict(fractions), dtype=np.float64)
    if values.shape != (len(rows),):
        raise ModelFormatError(
            f"The model of {target!r} gave shape {values.shape} for {len(rows)} rows. Do not use it."
        )
    if len(bad := np.flatnonzero(~np.isfinite(values))):
        raise ModelFormatError(
            f"The model of {target!r} gave no number for {rows[bad[0]]!r} (row {bad[0]}). Do not use this "
            "version of it."
        )
    half_width = float(info["interval"]["half_width"])
    notes = [_domain_note(row, frozenset(info["seen_elements"])) for row in fractions]
    return pd.DataFrame(
        {
            "value": values,
            "lower": values - half_width,
            "upper": values + half_width,
            "in_domain": [not note for note in notes],
            "note": notes,
        }
    )


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


def _domain_note(fractions: np.ndarray, seen: frozenset[str]) -> str:
    strange = [
        symbol for symbol, share in zip(ELEMENTS, fractions, strict=True) if share > 0 and symbol not in seen
    ]
    if not strange:
        return ""
    verb = "was" if len(strange) == 1 else "were"
    return f"{', '.join(strange)} {verb} never seen in training: do not rely on this value"
