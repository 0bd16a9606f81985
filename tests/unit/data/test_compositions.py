from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix, parse_formula
from crossprop.errors import FormulaError, UnknownElementError


def test_the_86_elements_stand_in_order_of_atomic_number():
    from pymatgen.core import Element

    numbers = [Element(symbol).Z for symbol in ELEMENTS]
    left_out = {Element(s).Z for s in ("He", "Ne", "Ar", "Po", "At", "Rn", "Fr", "Ra")}
    assert numbers == [z for z in range(1, 95) if z not in left_out]
    assert len(ELEMENTS) == 86


@pytest.mark.parametrize(
    ("formula", "amounts"),
    [
        ("NaCl", {"Na": 1, "Cl": 1}),
        ("NaN", {"Na": 1, "N": 1}),
        ("Fe0.5Ni.25O2.", {"Fe": 0.5, "Ni": 0.25, "O": 2}),
        ("Ca(Al2[SiO4]2)", {"Ca": 1, "Al": 2, "Si": 2, "O": 8}),
        ("CuSO4(H2O)5", {"Cu": 1, "S": 1, "O": 9, "H": 10}),
        (" H2 O ", {"H": 2, "O": 1}),
        ("CH3CH2OH", {"C": 2, "H": 6, "O": 1}),
    ],
)
def test_amounts_of_a_formula(formula, amounts):
    assert parse_formula(formula) == amounts


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("   ", "empty"),
        (float("nan"), "must be a text"),
        (None, "must be a text"),
        (12, "must be a text"),
        ("hello", "'h' at character 1"),
        ("2H", "'2' at character 1"),
        ("Na+", "charge"),
        ("Fe-2", "negative"),
        ("H0", "zero"),
        ("(OH)0", "zero"),
        ("H²O", "U\\+00B2"),
        ("Nа", "U\\+0430"),  # Cyrillic a
        ("Fe2O3)", "not opened"),
        ("(Fe2O3", "open"),
        ("[Fe2O3)", "not opened"),
        ("Fe()", "empty brackets"),
        ("H1e5", "exponent"),
        ("H 2", "' '"),
        ("H" * 301, "301 characters"),
        ("NaCl\x00", "character 5"),
    ],
)
def test_what_is_no_formula_is_refused_with_a_reason(text, part):
    with pytest.raises(FormulaError, match=part) as caught:
        parse_formula(text)
    assert not isinstance(caught.value, UnknownElementError)


@pytest.mark.parametrize("formula", ["HeO", "NeF2", "ArH", "PoO2", "HAt", "RnF2", "FrCl", "RaO", "AmO2"])
def test_an_element_outside_the_86_is_named(formula):
    with pytest.raises(UnknownElementError, match="none of the 86"):
        parse_formula(formula)


@pytest.mark.parametrize("formula", ["XeF2Zz", "D2O", "J2"])
def test_a_symbol_that_is_no_element_is_named(formula):
    with pytest.raises(UnknownElementError, match="no element"):
        parse_formula(formula)


@given(st.text(max_size=30))
def test_any_text_is_a_formula_or_a_formula_error(text):
    try:
        amounts = parse_formula(text)
    except FormulaError:
        return
    assert amounts
    assert all(v > 0 for v in amounts.values())


def test_a_long_text_of_digits_is_refused_at_once():
    with pytest.raises(FormulaError):
        parse_formula("H" + "1" * 998 + "!")


def test_fractions_sum_to_one_and_stand_in_their_columns():
    matrix = fraction_matrix(["Fe2O3", "NaCl"])
    assert matrix.shape == (2, 86)
    assert matrix[0, ELEMENTS.index("Fe")] == pytest.approx(0.4)
    assert matrix[0, ELEMENTS.index("O")] == pytest.approx(0.6)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0)


def test_a_bad_formula_in_a_table_is_named_with_its_row():
    with pytest.raises(UnknownElementError, match=r"'XeF2Zz'.*row 1 of alloys\.csv"):
        fraction_matrix(["NaCl", "XeF2Zz"], where="alloys.csv")


def test_no_formulas_give_an_empty_matrix():
    assert fraction_matrix([]).shape == (0, 86)
    assert len(composition_keys(np.zeros((0, 86)))) == 0


def test_the_key_is_alphabetical_and_rounded_to_four_decimals():
    assert composition_keys(fraction_matrix(["NaCl", "Fe2O3", "Li3N"])).tolist() == [
        "Cl:0.5000 Na:0.5000",
        "Fe:0.4000 O:0.6000",
        "Li:0.7500 N:0.2500",
    ]


@pytest.mark.parametrize(
    "spellings",
    [
        ["NaCl", "ClNa", "Na2Cl2", "Na0.500000Cl0.500000"],
        ["MoS2", "Mo0.333333S0.666667", "S4Mo2"],
        ["Mg(OH)2", "MgO2H2"],
        ["LiO31", "Li0.031250O0.968750", "Li2O62"],  # 1/32 = 0.03125: a tie of the rounding
        ["Li3O29", "Li0.093750O0.906251"],
    ],
)
def test_spellings_and_multiples_share_a_key(spellings):
    assert len(set(composition_keys(fraction_matrix(spellings)))) == 1


def test_different_compositions_have_different_keys():
    keys = composition_keys(fraction_matrix(["FeO", "Fe2O3", "Fe3O4", "Fe0.95O"]))
    assert len(set(keys)) == 4
