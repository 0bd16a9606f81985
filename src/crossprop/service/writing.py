"""The JSON of predictions, written piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic_core import to_json

from crossprop.data.compositions import parse_formulas
from crossprop.errors import FormulaError
from crossprop.serving.served import Neighbour, Predictions

SHOWN = 200
"""Characters of what a caller sent that are repeated in an answer."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """Some items of a request, read.

    Attributes:
        items: As they were sent, n of them.
        fractions: Of those that are formulas, shape (m, 86).
        good: Their places among the n.
        errors: What is wrong with the others, by place.
    """

    items: Sequence[object]
    fractions: np.ndarray
    good: Sequence[int]
    errors: Mapping[int, FormulaError]

    @classmethod
    def of(cls, items: Sequence[object]) -> Reading:
        """Read items that may be anything."""
        fractions, good, errors = parse_formulas(items)
        return cls(items, fractions, [int(i) for i in good], errors)


def prediction_rows(got: Predictions, near: Sequence[Sequence[Neighbour]] | None) -> list[Row]:
    """The predictions of one property as they stand in an answer, one for every row that was predicted."""
    rows: list[Row] = [
        {"value": value, "lower": lower, "upper": upper, "in_domain": inside, "note": note, "nearest": []}
        for value, lower, upper, inside, note in _columns(got)
    ]
    for row, found in zip(rows, near or (), strict=False):
        row["nearest"] = [{"formula": n.formula, "value": n.y_true, "distance": n.distance} for n in found]
    return rows


def write_results(reading: Reading, predicted: Mapping[str, Sequence[Row]]) -> bytes:
    """The results of some items as JSON, without brackets around them; what is no finite number becomes null.

    Args:
        reading: The items.
        predicted: Rows by property, as many as there are formulas among the items.
    """
    results: list[Row] = [
        {"formula": shown(item), "error": None, "predictions": {}} for item in reading.items
    ]
    for place, error in reading.errors.items():
        results[place]["error"] = {"type": type(error).__name__, "message": str(error)}
    for name, rows in predicted.items():
        for place, row in zip(reading.good, rows, strict=True):
            results[place]["predictions"][name] = row
    return to_json(results, inf_nan_mode="null")[1:-1]


def shown(item: object) -> str:
    """An item as it is repeated in the answer: a text itself, anything else as JSON; cut where it is long."""
    text = item if isinstance(item, str) else to_json(item, inf_nan_mode="strings").decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _columns(got: Predictions) -> Iterator[tuple[float, float, float, bool, str]]:
    assert got.lower is not None
    assert got.upper is not None
    assert got.in_domain is not None
    assert got.note is not None
    arrays = (got.value, got.lower, got.upper, got.in_domain)
    return zip(*(array.tolist() for array in arrays), got.note, strict=True)
