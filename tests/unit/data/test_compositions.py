import re
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossprop.data import compositions
from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix, parse_formulas
from crossprop.errors import FormulaError, UnknownElementError

DECIMALS = st.decimals("0.01", "50", places=2).map(str)
AMOUNT = st.one_of(st.just(""), st.integers(1, 60).map(str), DECIMALS)
DOUBTFUL = ("MgCl2.6H2O", "Fe(CN).3H2O", "CuCl.2NH3", "Al2O3.2SiO2")
UNIT = st.tuples(st.sampled_from(ELEMENTS), AMOUNT)


def test_the_86_elements_stand_in_order_of_atomic_number():
    from pymatgen.core import Element

    left_out = {Element(s).Z for s in ("He", "Ne", "Ar", "Po", "At", "Rn", "Fr", "Ra")}
    assert [Element(symbol).Z for symbol in ELEMENTS] == [z for z in range(1, 95) if z not in left_out]


def test_what_is_no_formula_is_refused_with_a_reason():
    for text, part in (
        (float("nan"), "must be a text"),
        ("2H", "'2' at character 1"),
        ("Na+", "charge"),
        ("H0", "zero"),
        ("Nа", "U\\+0430"),  # Cyrillic a
        ("(Fe2O3", "open"),
        ("[Fe2O3)", "not opened"),
        ("Fe()", "empty brackets"),
        ("H" * 301, "301 characters"),
        ("Ti-48Al-2Cr-2Nb", "Where atomic percent is meant, give 'Ti48Al48Cr2Nb2' as it is"),
        ("Ti-6Al-4V wt%", "holds 'wt%', which is a unit.*of which kind"),
        *((f, r"which may be a dopant, a phase") for f in ("TiO2(B)", "PbTe(Na)", "BaTiO3 [C]", "BN(H)")),
        *((f, "abbreviation of an organic group") for f in ("Zn(OAc)2", "Cu(Ac)2", "Ti(OPr)4")),
        *((f, rf"'{re.escape(f.replace('.', '·'))}'; for a decimal amount") for f in DOUBTFUL),
        ("FeO.5NiO.5", "letter O before a point. Is it zero, as in 'Fe0.5Ni0.5'"),
        ("PbTeO.5SeO.5", "'PbTe0.5Se0.5'"),
    ):
        with pytest.raises(FormulaError, match=part) as caught:
            compositions.parse_formula(text)
        assert not isinstance(caught.value, UnknownElementError)


def test_a_doubtful_formula_is_read_with_a_warning():
    for formula, warning in (
        ("TiCI4", "was 'TiCl4' meant"),
        ("NaN", "stand for a missing formula"),
        ("S355", "the amount 355 of S"),
        ("Pb Te", "read as one composition"),
        ("SIO2", "was 'SiO2' meant"),
        ("NIO", "was 'NiO' meant"),
        ("KNN", "is it an abbreviation"),
        ("BSCF", "is it an abbreviation"),
        *((f, "an alloy by weight") for f in ("AlSi10Mg", "CuZn37", "NiCr20", "TiAl6V4", "CoCr28Mo6")),
        *((f, "an alloy by weight") for f in ("Fe12Cr6Ni", "Ni20Cr", "Fe9Cr1Mo", "Mg9Al1Zn", "W25Re")),
        *((f, "is large for a compound") for f in ("Ti64", "C45", "H13", "P91")),
    ):
        assert compositions.parse_formula(formula)
        assert warning in " ".join(compositions.formula_warnings(formula))


def test_usual_compounds_get_no_warning_and_brackets_of_atoms_are_read():
    capitals = "CO2 H2O HNO3 H2SO4 BN WC VO2 K2CO3 CO3 KHCO3 KOH KCN"
    metals = "LaNi5 CeCo5 NdFe12 BaFe12O19 YBa2Cu3O7 WCl6 UF6 Mg17Al12 C60 S8 B12 P4 NiTi2 Fe50Ni50"
    groups = "FeO(OH) Ca5(PO4)3(OH) Ca5(PO4)3(F) Fe2(O)3 Pt(Cl)2 [Fe]2(SO4)3 (Cu) (La)(Mn)O3 Ni.13O2."
    for formula in f"{capitals} {metals}".split():
        assert (formula, compositions.formula_warnings(formula)) == (formula, [])
    assert not parse_formulas(groups.split())[2]


@pytest.mark.parametrize("formula", ["Ti90Al6V4", "Ti-6Al-4V", "Ti6Al4V", "Ti0.9Al0.06V0.04"])
def test_weights_become_atoms_exactly(formula):
    moles = np.array([90 / 47.867, 6 / 26.9815385, 4 / 50.9415])
    row = fraction_matrix([formula], amounts="weight")[0, [compositions.COLUMN[s] for s in ("Ti", "Al", "V")]]
    np.testing.assert_allclose(row, moles / moles.sum(), rtol=1e-6)


def test_an_element_outside_the_86_and_an_unknown_symbol_are_named_with_the_row():
    cases = dict.fromkeys(("HeO", "NeF2", "ArH", "PoO2", "HAt", "RnF2", "FrCl", "RaO", "AmO2"), "none of the 86")
    for formula, part in (cases | {"D2O": "no element", "J2": "no element"}).items():
        with pytest.raises(UnknownElementError, match=part):
            compositions.parse_formula(formula)
    with pytest.raises(UnknownElementError, match=r"'XeF2Zz'.*row 1 of alloys\.csv"):
        fraction_matrix(["NaCl", "XeF2Zz"], where="alloys.csv")


def test_spellings_and_multiples_share_a_key():
    for spellings in (
        ["NaCl", "ClNa", "Na2Cl2", "Na0.500000Cl0.500000"],
        ["MoS2", "Mo0.333333S0.666667", "S4Mo2"],
        ["Mg(OH)2", "MgO2H2"],
        ["LiO31", "Li0.031250O0.968750", "Li2O62"],  # 1/32 = 0.03125: a tie of the rounding
        ["Li3O29", "Li0.093750O0.906251"],
    ):
        assert len(set(composition_keys(fraction_matrix(spellings)))) == 1
        assert len(set(composition_keys(fraction_matrix(["FeO", "Fe2O3", "Fe3O4", "Fe0.95O"])))) == 4


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
    fractions, good, _ = parse_formulas([text])
    assert (fractions.shape, len(good), len(composition_keys(fractions))) == ((0, 86), 0, 0)


def test_hydrates_decimals_and_brackets_are_read():
    for formula, same in (
        *((text, "CuSO9H10") for text in ("CuSO4·5H2O", "CuSO4 · 5 H2O", "CuSO4*5H2O", "CuSO4(H2O)5")),
        (" Bi2 Te3 ", "Bi2Te3"),
        ("Ti6Al4V1", "Ti12Al8V2"),
        ("NaN", "N2Na2"),
        ("CH3CH2OH", "C2H6O"),
        ("CaSO4·0.5H2O", "Ca2S2O9H2"),
        ("CuSO4.H2O", "CuSO5H2"),
        ("K2SO4·Al2(SO4)3·24H2O", "K2Al2S4O40H48"),
        ("Ni0.5H2O", "NiH4O2"),
        ("Li1.2Mn0.54Ni.13Co0.13O2.", "Li120Mn54Ni13Co13O200"),
        ("Ca(Al2[SiO4]2)", "CaAl2Si2O8"),
        ("(" * 10 + "H" + ")" * 9 + ")2O", "H2O"),
        (np.str_("NaCl"), "ClNa"),
    ):
        fractions, _, refused = parse_formulas([formula, same])
        assert not refused
        np.testing.assert_allclose(fractions[0], fractions[1], rtol=1e-14)


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
    assert all(len(str(items[i])) <= compositions.MAX_LENGTH + 100 for i in good)


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
    known = ("may be a hydrate", "characters long", "oxidation state", "designation", "may be a dopant")
    assert all(any(cause in str(e) for cause in known) for e in refused.values())
    return None if refused else fractions


@settings(max_examples=200)
@given(formulas())
def test_amounts_are_those_that_pymatgen_reads(formula):
    from pymatgen.core import Composition

    if read(formula) is not None:
        expected = Composition(formula).get_el_amt_dict()
        assert compositions.parse_formula(formula) == pytest.approx(expected, rel=1e-6, abs=1e-7)


@given(formulas(), st.integers(2, 12))
def test_multiples_are_the_same_composition(formula, times):
    fractions = read(formula, f"({formula}){times}")
    if fractions is not None:
        np.testing.assert_allclose(fractions[0], fractions[1], rtol=1e-12)
        assert len(set(composition_keys(fractions))) == 1
