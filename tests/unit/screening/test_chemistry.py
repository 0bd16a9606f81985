"""Charge balance: smact's answers, for many compositions at once."""

import numpy as np
import pytest
from smact.screening import smact_validity

from crossprop.data.compositions import ELEMENTS
from crossprop.features import charge_neutrality
from crossprop.screening.chemistry import ChargeBalance
from crossprop.screening.space import ElementSpace, ListedSpace


def kept(rules: ChargeBalance, *formulas: str) -> list[bool]:
    return rules.keep(ListedSpace(formulas).block(0, len(formulas))).tolist()


@pytest.mark.filterwarnings("ignore:This set of oxidation states")
@pytest.mark.parametrize("states", ["icsd24", "icsd16", "smact14", "pymatgen_sp", "wiki"])
@pytest.mark.parametrize("pauling", [True, False])
@pytest.mark.parametrize("alloys", [True, False])
def test_judges_as_smact_does(states, pauling, alloys):
    space = ElementSpace(ELEMENTS, min_elements=1, max_elements=4, max_atoms=9)
    positions = np.random.default_rng(5).integers(0, space.total, 60)
    # a third of the draw from the elements and binaries at the beginning, where most is possible
    positions[:20] = np.random.default_rng(6).integers(0, 50_000, 20)
    rules = ChargeBalance(states, pauling, alloys)
    blocks = [space.block(int(p), int(p) + 1) for p in positions]
    got = [bool(rules.keep(block)[0]) for block in blocks]
    options = {"use_pauling_test": pauling, "include_alloys": alloys, "oxidation_states_set": states}
    assert got == [smact_validity(block.formulas()[0], **options) for block in blocks]
    assert 0 < sum(got) < len(got)


@pytest.mark.parametrize("formula", ["Fe3O4", "CuFe5O8", "NaCl", "Fe3N7", "TiFe2O9"])
@pytest.mark.parametrize("pauling", [True, False])
def test_mixed_valence_as_smact_has_it_and_decimal_amounts_by_their_charge(formula, pauling):
    options = {"use_pauling_test": pauling, "mixed_valence": True, "include_alloys": False}
    expected = smact_validity(formula, oxidation_states_set="icsd24", **options)
    assert kept(ChargeBalance(pauling=pauling, mixed_valence=True), formula) == [expected]
    assert kept(ChargeBalance(), "Mg0.3O0.3", "Mg0.3O0.2", "Ti0.333333O0.666667") == [True, False, True]
    rounded = ("Ti0.333O0.667", "Al0.4O0.6", "La0.567Li0.3TiO3", "Ti0.3O0.7", "Ti0.343O0.657", "Ti0.3336O0.6664")
    assert kept(ChargeBalance(), *rounded) == [True, True, True, False, False, False]
    same = ("Fe3O4", "Fe6O8", "Fe0.75O", "Fe0.428571O0.571429", "Fe0.429O0.571", "Fe0.5F4.5")
    assert kept(ChargeBalance(mixed_valence=True), *same) == [True, True, True, True, True, False]


def test_many_elements_are_judged_one_by_one_as_few_are_together(monkeypatch):
    formulas = ["NaCl", "Fe2O3", "Fe3O7", "MgAl2O4", "Bi2Sb2Te3Se2S", "CuCl5", "Na3Cl"]
    for pauling in (True, False):
        together = kept(ChargeBalance(pauling=pauling), *formulas)
        with monkeypatch.context() as patch:
            patch.setattr(charge_neutrality, "_MAX_VECTORISED", 0)
            assert kept(ChargeBalance(pauling=pauling), *formulas) == together
        assert len(set(together)) == 2
    oxide, steel = "La2Nd2Sm2Gd2Y2Mn2Fe2Co2Ni2Cr2O30", "Fe70Cr18Ni8Mn1Si1C0.1Mo1N0.1Cu0.3V0.1Nb0.1Al0.1P0.02S0.01"
    assert kept(ChargeBalance(pauling=False), oxide, steel) == [True, False]  # of far too many combinations
