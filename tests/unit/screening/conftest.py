"""Models for screenings that answer at once, in memory."""

import pandas as pd
import pytest
from saved_shares import LinearEnsemble

from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix
from crossprop.inference.predictor import ServedModel
from crossprop.screening.properties import PropertyModel


@pytest.fixture
def linear():
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
