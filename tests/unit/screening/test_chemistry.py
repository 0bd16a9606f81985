"""Charge balance: what smact says, for many compositions at once."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from smact import Element
from smact.screening import smact_filter, smact_validity

from crossprop.data.compositions import ELEMENTS
from crossprop.screening.chemistry import ChargeBalance, mixed_valence_possible
from crossprop.screening.pipeline import count_possible
from crossprop.screening.request import resolve_elements
from crossprop.screening.space import Compositions, ElementSpace


@pytest.mark.filterwarnings("ignore:This set of oxidation states")
@pytest.mark.parametrize("states", ["icsd24", "icsd16", "smact14", "pymatgen_sp", "wiki"])
@pytest.mark.parametrize("pauling", [True, False])
def test_judges_as_smact_does(states, pauling):
    space = ElementSpace(ELEMENTS, min_elements=1, max_elements=4, max_atoms=9)
    positions = np.random.default_rng(5).integers(0, space.total, 60)
    # a third of the draw from the elements and binaries at the beginning, where most is possible
    positions[:20] = np.random.default_rng(6).integers(0, 50_000, 20)
    blocks = [space.block(int(p), int(p) + 1) for p in positions]
    for alloys in (True, False):
        rules = ChargeBalance(states, pauling, alloys)
        ours = [bool(rules.keep(block)[0]) for block in blocks]
        theirs = [
            smact_validity(
                block.formulas()[0],
                use_pauling_test=pauling,
                include_alloys=alloys,
                oxidation_states_set=states,
            )
            for block in blocks
        ]
        assert ours == theirs
        assert 0 < sum(ours) < len(ours)


def test_enumerates_what_smact_enumerates():
    elements = ("Li", "O", "Ti", "Mn", "Sr", "S")
    space = ElementSpace(
        resolve_elements(elements), min_elements=2, max_elements=3, max_atoms=15, max_amount=5
    )
    block = space.block(0, space.total)
    kept = block[ChargeBalance().keep(block)]
    ours = {
        frozenset((ELEMENTS[e], int(a)) for e, a in zip(es, amounts, strict=True) if a)
        for es, amounts in zip(kept.elements, kept.amounts, strict=True)
    }
    theirs = {
        frozenset(zip(symbols, amounts, strict=True))
        for k in (2, 3)
        for system in combinations(elements, k)
        for symbols, _, amounts in smact_filter([Element(e) for e in system], threshold=5)
    }
    assert ours == theirs


@pytest.mark.parametrize("formula", ["Fe3O4", "Mn3O4", "CuFe5O8", "NaCl", "Fe3N7", "SnFe2S9", "TiFe2O9"])
@pytest.mark.parametrize("pauling", [True, False])
def test_mixed_valence_as_smact_has_it(formula, pauling):
    from crossprop.data.compositions import parse_formula

    amounts = parse_formula(formula)
    row = Compositions(
        np.array([0]),
        np.array([[ELEMENTS.index(e) for e in amounts]], dtype=np.int16),
        np.array([list(amounts.values())], dtype=np.int32),
    )
    theirs = smact_validity(
        formula,
        use_pauling_test=pauling,
        oxidation_states_set="icsd24",
        mixed_valence=True,
        include_alloys=False,
    )
    assert bool(ChargeBalance(pauling=pauling, mixed_valence=True).keep(row)[0]) == theirs


def test_magnetite_needs_two_states_of_iron():
    amounts = np.array([[3, 4]])
    states = ((2, 3), (-2,))
    assert mixed_valence_possible(amounts, states, [True, False], [1.83, 3.44]).tolist() == [True]
    assert mixed_valence_possible(amounts, states, [False, False], [1.83, 3.44]).tolist() == [False]
    assert mixed_valence_possible(amounts, states, [True, False], [3.5, 3.44]).tolist() == [False]


def test_decimal_amounts_are_judged_by_their_charge():
    row = Compositions(
        np.array([0, 1]),
        np.array([[ELEMENTS.index("O"), ELEMENTS.index("Mg")]] * 2, dtype=np.int16),
        np.array([[0.3, 0.3], [0.3, 0.2]]),
    )
    assert ChargeBalance().keep(row).tolist() == [True, False]


def test_count_is_exact_in_time_and_an_estimate_beyond():
    space = ElementSpace(resolve_elements("O,S,3d-metals,alkali-metals"), max_elements=3, max_atoms=8)
    rules = ChargeBalance()
    exact = count_possible(space, rules)
    assert exact.exact
    assert exact.compositions == int(rules.keep(space.block(0, space.total)).sum())
    assert count_possible(space, None).compositions == space.total

    large = ElementSpace(ELEMENTS, max_elements=3, max_atoms=8)
    estimate = count_possible(large, rules, patience=0.0)
    assert not estimate.exact
    assert 0.05 * large.total < estimate.compositions < 0.9 * large.total
