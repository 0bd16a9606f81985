import numpy as np
import pytest

from crossprop.errors import FormulaError, UnknownElementError
from crossprop.features.matrices import FRACTION_NAMES, elemental_fractions


def test_columns_are_the_86_elements_by_atomic_number():
    assert len(FRACTION_NAMES) == 86
    assert FRACTION_NAMES[:3] == ("H", "Li", "Be")
    assert FRACTION_NAMES[-1] == "Pu"
    assert not set(FRACTION_NAMES) & {"He", "Ne", "Ar", "Po", "At", "Rn", "Fr", "Ra"}


def test_fractions_of_hand_checked_formulas():
    fractions = elemental_fractions(["H2O", "Fe"])
    assert fractions.dtype == np.float32
    assert fractions.shape == (2, 86)
    assert fractions[0, FRACTION_NAMES.index("H")] == pytest.approx(2 / 3)
    assert fractions[0, FRACTION_NAMES.index("O")] == pytest.approx(1 / 3)
    assert fractions[1, FRACTION_NAMES.index("Fe")] == 1
    np.testing.assert_allclose(fractions.sum(axis=1), 1, rtol=1e-6)


def test_any_iterable_of_formulas_is_taken():
    assert elemental_fractions(iter(["NaCl", "MgO"])).shape == (2, 86)


def test_what_is_no_formula_is_refused_with_its_place():
    with pytest.raises(FormulaError, match=r"row 1 of alloys\.csv"):
        elemental_fractions(["NaCl", "2-Feb"], where="alloys.csv")


def test_element_outside_the_86_is_refused():
    with pytest.raises(UnknownElementError, match="Ar"):
        elemental_fractions(["ArF2"])
