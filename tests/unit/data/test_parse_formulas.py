"""Many texts at once: each is a composition or gets an error of its own, whatever it is."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossprop.data.compositions import (
    ELEMENTS,
    MAX_LENGTH,
    composition_keys,
    fraction_matrix,
    parse_formula,
    parse_formulas,
)
from crossprop.errors import FormulaError, UnknownElementError

NONSENSE = [
    None, float("nan"), 3.5, 12, 10**5000, True, b"NaCl", ["NaCl"], {"a": 1}, object(), pd.NA, np.nan,
    "", "   ", "\t\n", "NaCl" * 2_500_000, "(" * 10_000_000, "H" * 301, "[" * 150 + "H" + "]" * 149,
    "(" * 11 + "H" + ")" * 11,
    "<script>alert(1)</script>", "../../etc/passwd", "/Fe/O", "C:\\Fe", "'; DROP TABLE", "{}", "()", "H()", "((H))]",
    "Fe2O3+", "SO4(2-)", "Fe^3+", "Na+Cl-", "Fe-2", "H0", "H0.0", "(OH)0", "H1e5", "Fe1..5", "Fe1.2.3", "1", ".", "..",
    "Nа", "Ｎa", "SO₄²⁻", "NaCl\x00", "\ud800", "🧪", "ﬁ", "H٣", "K\u0301",
    "nan", "null", "NULL", "None", "inf", "nacl", "NACL", "hello", "water", "2H2O", "H 2", "x",
    "CuSO4.5H2O", "CaCl2.2H2O", "Na2CO3.10H2O", "CoCl3.6NH3", "CuSO4·", "·5H2O", "CuSO4··5H2O", "CuSO4·5", "CuSO4·0H2O",
    "CuSO4·xH2O", "CuSO4·nH2O", "(CuSO4·5H2O)2", "CaSO4·½H2O", "HeO", "D2O", "XeF2Zz", "AmO2",
]  # fmt: skip


@pytest.mark.parametrize("which", range(len(NONSENSE)))
def test_nonsense_gets_an_error_of_its_own_in_no_time(which):
    text = NONSENSE[which]
    started = time.process_time()
    fractions, good, refused = parse_formulas(["NaCl", text, "MgO"])
    assert time.process_time() - started < 1.0
    assert good.tolist() == [0, 2]
    assert fractions.shape == (2, 86)
    assert list(refused) == [1]
    assert isinstance(refused[1], FormulaError)
    assert 20 < len(str(refused[1])) < 500


@pytest.mark.parametrize(
    ("formula", "same"),
    [
        ("CuSO4·5H2O", "CuSO9H10"),
        ("CuSO4 · 5 H2O", "CuSO9H10"),
        ("CuSO4*5H2O", "CuSO9H10"),
        ("CuSO4•5H2O", "CuSO9H10"),
        ("CuSO4⋅5H2O", "CuSO9H10"),
        ("CaSO4·0.5H2O", "Ca2S2O9H2"),
        ("2CaSO4·H2O", "Ca2S2O9H2"),
        ("CuSO4.H2O", "CuSO5H2"),
        ("K2SO4·Al2(SO4)3·24H2O", "K2Al2S4O40H48"),
        ("[Cu(NH3)4]SO4·H2O", "CuN4H14SO5"),
        ("Ni0.5H2O", "NiH4O2"),
        ("Li1.2Mn0.54Ni.13Co0.13O2.", "Li120Mn54Ni13Co13O200"),
        ("Ca(Al2[SiO4]2)", "CaAl2Si2O8"),
        ("{[(H)2]3}O", "H6O"),
        ("(" * 10 + "H" + ")" * 9 + ")2O", "H2O"),
        (np.str_("NaCl"), "ClNa"),
    ],
)
def test_hydrates_decimals_and_brackets_are_read(formula, same):
    fractions, _, refused = parse_formulas([formula, same])
    assert not refused
    np.testing.assert_allclose(fractions[0], fractions[1], rtol=1e-14)


@pytest.mark.parametrize(
    ("formula", "hydrate"),
    [
        ("MgCl2.6H2O", "MgCl2·6H2O"),
        ("LiBr.2H2O", "LiBr·2H2O"),
        ("Fe(CN).3H2O", "Fe(CN)·3H2O"),
        ("CuCl.2NH3", "CuCl·2NH3"),
    ],
)
def test_doubtful_dot_is_refused_with_both_readings(formula, hydrate):
    error = parse_formulas([formula])[2][0]
    assert repr(hydrate) in str(error)
    assert "decimal amount" in str(error)


def test_many_texts_are_the_rows_of_the_matrix():
    texts = ["Fe2O3", "", "NaCl", "Zz", "MoS2"]
    fractions, good, refused = parse_formulas(iter(texts))
    assert good.tolist() == [0, 2, 4]
    assert list(refused) == [1, 3]
    assert isinstance(refused[3], UnknownElementError)
    assert np.array_equal(fractions, fraction_matrix(["Fe2O3", "NaCl", "MoS2"]))


@pytest.mark.parametrize("texts", [[], ["", None]])
def test_nothing_good_gives_an_empty_matrix(texts):
    fractions, good, refused = parse_formulas(texts)
    assert fractions.shape == (0, 86)
    assert good.shape == (0,)
    assert len(refused) == len(texts)


def test_ten_thousand_nonsense_texts_take_no_time():
    texts = [f"{'(' * (i % 400)}{i}<b>" for i in range(10_000)]
    started = time.process_time()
    assert len(parse_formulas(texts)[2]) == 10_000
    assert time.process_time() - started < 20  # it takes a fifth of a second


ANYTHING = st.one_of(
    st.text(max_size=400),
    st.text(alphabet="HNaCleOF()[]{}0123456789.·* +-", max_size=60),
    st.none(), st.floats(), st.integers(), st.binary(), st.lists(st.text()),
)  # fmt: skip


@settings(max_examples=500)
@given(st.lists(ANYTHING, max_size=5))
def test_anything_is_a_composition_or_a_formula_error(items):
    fractions, good, refused = parse_formulas(items)
    assert sorted([*good.tolist(), *refused]) == list(range(len(items)))
    assert np.isfinite(fractions).all()
    assert (fractions >= 0).all()
    np.testing.assert_allclose(fractions.sum(axis=1), 1.0)
    assert all(isinstance(error, FormulaError) for error in refused.values())
    assert all(len(str(items[i])) <= MAX_LENGTH + 100 for i in good)


AMOUNT = st.one_of(
    st.just(""), st.integers(1, 60).map(str), st.decimals("0.01", "50", places=2).map(lambda d: f"{d}")
)
UNIT = st.tuples(st.sampled_from(ELEMENTS), AMOUNT)


@st.composite
def formulas(draw, depth=2):
    """A formula of a few units, some of them in brackets."""
    pieces = []
    for _ in range(draw(st.integers(1, 4))):
        if depth and draw(st.booleans()):
            pieces.append(f"({draw(formulas(depth=depth - 1))}){draw(AMOUNT)}")
        else:
            pieces.append("".join(draw(UNIT)))
    return "".join(pieces)


def read(*texts):
    """Fractions of texts that have to be formulas; of none if one of them is refused for its dot or its length."""
    fractions, _, refused = parse_formulas(texts)
    known = ("may be a hydrate", "characters long", "oxidation state", "designation")
    assert all(any(cause in str(e) for cause in known) for e in refused.values())
    return None if refused else fractions


@settings(max_examples=200)
@given(formulas())
def test_amounts_are_those_that_pymatgen_reads(formula):
    from pymatgen.core import Composition

    if read(formula) is not None:
        expected = Composition(formula).get_el_amt_dict()
        assert parse_formula(formula) == pytest.approx(expected, rel=1e-6, abs=1e-7)


@given(formulas(), st.integers(2, 12))
def test_multiples_are_the_same_composition(formula, times):
    fractions = read(formula, f"({formula}){times}")
    if fractions is not None:
        np.testing.assert_allclose(fractions[0], fractions[1], rtol=1e-12)
        assert len(set(composition_keys(fractions))) == 1


@given(st.lists(UNIT, min_size=1, max_size=6), st.randoms())
def test_order_of_the_elements_does_not_matter(units, random):
    mixed = random.sample(units, len(units))
    fractions = read("".join(map("".join, units)), "".join(map("".join, mixed)))
    if fractions is not None:
        np.testing.assert_allclose(fractions[0], fractions[1], rtol=1e-12)
