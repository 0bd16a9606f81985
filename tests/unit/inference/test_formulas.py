import numpy as np
import pandas as pd
import pytest
from saved_shares import LinearEnsemble, served_share

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import FormulaError, ModelFormatError, UnknownElementError
from crossprop.inference.predictor import predict_formulas

BAD_ROWS = [None, float("nan"), "   ", 3.5, "water!", ["MgO"], pd.NA]


def oxygen_share():
    """Has seen nothing but magnesium and oxygen."""
    return served_share(LinearEnsemble("O", ("Mg", "O")), ["Mg", "O"])


def test_value_interval_and_domain_of_each_formula():
    got = predict_formulas(oxygen_share(), ["MgO", "Mg3O", "NaO", "NaClO2"])
    assert list(got["value"]) == [50.0, 25.0, 50.0, 50.0]
    assert list(got["lower"]) == [48.0, 23.0, 48.0, 48.0]
    assert list(got["upper"]) == [52.0, 27.0, 52.0, 52.0]
    assert list(got["in_domain"]) == [True, True, False, False]
    assert got["note"][0] == ""
    assert got["note"][3] == "Na, Cl were never seen in training: do not rely on this value"
    assert list(predict_formulas(oxygen_share(), ["NaN"])["value"]) == [0.0], "sodium nitride"


def test_predictions_of_a_filtered_table_stay_with_its_rows():
    table = pd.DataFrame({"formula": ["O2", "MgO", "Mg3O"]})[1:]
    table["value"] = predict_formulas(oxygen_share(), table["formula"])["value"]
    assert table["value"].tolist() == [50.0, 25.0]


def test_row_without_a_formula_is_named_and_gets_no_number():
    for formulas, error, message in (
        *((["MgO", bad], FormulaError, r"row 1 of the input") for bad in BAD_ROWS),
        (["ArO"], UnknownElementError, r"'Ar'.*row 0 of the input"),
        ([], FormulaError, "holds no rows"),
    ):
        with pytest.raises(error, match=message):
            predict_formulas(oxygen_share(), formulas)


def test_model_with_unusable_answers_or_other_elements_is_refused():
    for elements, values, message in (
        (list(ELEMENTS), [1.0, np.nan], "no number for row 1"),
        (["H", "He"], [1.0, 2.0], "knows 2 elements"),
    ):
        broken = oxygen_share()
        broken.info["elements"] = elements
        broken.predictor.predict = lambda fractions, values=values: np.array(values)
        with pytest.raises(ModelFormatError, match=message):
            predict_formulas(broken, ["MgO", "O2"])
