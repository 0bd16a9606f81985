"""Models for screenings that answer at once, in memory."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix
from crossprop.inference.predictor import ServedModel
from crossprop.screening.properties import PropertyModel


class LinearEnsemble:
    """Predicts 100 times the share of one element; notes the rows and the range that it was asked for."""

    def __init__(self, element: str, seen: tuple[str, ...]) -> None:
        self.column, self.rows = ELEMENTS.index(element), 0
        self.info = {
            "target": element.lower(),
            "elements": list(ELEMENTS),
            "interval": {"coverage": 0.9, "half_width": 2.0},
            "seen_elements": list(seen),
        }

    def predict(self, fractions: np.ndarray) -> np.ndarray:
        self.rows += len(fractions)
        return 100.0 * fractions[:, self.column]

    def predict_within(self, fractions: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        self.asked, values = (low, high), self.predict(fractions)
        left = np.flatnonzero((values >= low) & (values <= high))
        return left, values[left]


@pytest.fixture
def linear() -> Callable[..., tuple[PropertyModel, ServedModel]]:
    """Makes a property of this name whose value is 100 times the share of an element."""

    def make(name: str, element: str, data: list[str] | None = None, seen: tuple[str, ...] = ELEMENTS):
        evidence = None
        if data is not None:
            fractions = fraction_matrix(data)
            y_true = 100.0 * fractions[:, ELEMENTS.index(element)]
            columns = {"formula": data, "composition": composition_keys(fractions), "split": "test"}
            evidence = pd.DataFrame({**columns, "y_true": y_true, "y_pred": y_true + 3.0})
        described = PropertyModel(name, f"/{name}", name, "", element, "GPa", 0.9, name)
        return described, ServedModel(LinearEnsemble(element, seen), None, evidence)

    return make
