"""What the estimator takes for formulas beside texts, and what it refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_rows import rows_of

from crossprop import CrossPropertyRegressor


@pytest.fixture(scope="module")
def fitted():
    rows = rows_of(60)
    return CrossPropertyRegressor(methods=["ml"], trials=1, folds=2).fit(rows["formula"], rows["value"])


def test_what_maps_elements_to_amounts_is_a_formula(fitted):
    from pymatgen.core import Composition

    plain = fitted.predict(["Fe2O3", "LiF"])
    assert fitted.predict([Composition("Fe2O3"), {"Li": 1, "F": 1}]) == pytest.approx(plain)
    table = pd.DataFrame({"Fe": [2, 0], "O": [3, np.nan], "Li": [0, 0.5], "F": [None, 0.5]})
    assert fitted.predict(table) == pytest.approx(plain)
    assert fitted.predict(["Fe₂O₃", " LiF\u200b"]) == pytest.approx(plain)
    assert fitted.predict(formula for formula in ("Fe2O3", "LiF")) == pytest.approx(plain)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"Fe2O3", "LiF"}, "no order"),
        ({"a": "Fe2O3"}, "no order"),
        ([{"Fe": -1}], "amount of Fe is negative"),
        ([{"Xx": 1}], "no formulas"),
        ([{"Fe": "much"}], "no formulas"),
        (pd.DataFrame({"Fe": [1], "O": [-1]}), "amount of O is negative"),
        (pd.DataFrame({"Fe": [1], "O": ["x"]}), "more than numbers"),
        (pd.DataFrame({"Fe": [1], "Fe (at%)": [1]}), "several columns of one element"),
        (pd.DataFrame({"Fe": [1], "T": [1]}), "each named by its element"),
    ],
)
def test_what_gives_no_composition_is_refused_with_the_reason(fitted, given, reason):
    with pytest.raises(ValueError, match=reason):
        fitted.predict(given)
