import time

import numpy as np

from crossprop.data.compositions import ELEMENTS, fraction_matrix
from crossprop.features import charge_neutrality
from crossprop.features.charge_neutrality import neutral_compound_possible
from crossprop.features.element_tables import element_tables


def test_neutrality_of_hand_checked_formulas():
    for formula, possible in (
        ("NaCl", True),  # +1 -1
        ("Na2Cl", False),
        ("Fe2O3", True),  # 2(+3) 3(-2)
        ("Fe3O4", False),  # would need Fe(II) and Fe(III) at once
        ("Ca5P3O13H", True),  # apatite: 10 + 15 - 26 + 1
        ("Ni3Al", False),  # metals only
        ("Fe", True),  # an element counts as possible
        ("AlO1.5", True),
        ("Al0.3333O0.5", False),  # 0.0001 charges short, as written
    ):
        assert neutral_compound_possible(fraction_matrix([formula]))[0] == possible


def test_batches_and_the_long_search_give_the_same_answer(monkeypatch):
    rng = np.random.default_rng(7)
    pools = ["C", "N", "S", "Cl", "Mn", "Fe", "Na", "O", "P", "H"]
    formulas = [
        "".join(f"{symbol}{rng.integers(1, 7)}" for symbol in rng.choice(pools, rng.integers(2, 5), replace=False))
        for _ in range(300)
    ]
    fractions = fraction_matrix(formulas)
    vectorised = neutral_compound_possible(fractions)
    assert 30 < vectorised.sum() < 300
    for name, value in (("_BATCH_VALUES", 1), ("_MAX_VECTORISED", 0)):
        monkeypatch.setattr(charge_neutrality, name, value)
        assert (neutral_compound_possible(fractions) == vectorised).all()


def test_twenty_multivalent_elements_in_incommensurate_fractions_get_an_answer_in_bounded_time():
    states = element_tables().oxidation_states
    rng = np.random.default_rng(20)
    amounts = rng.dirichlet(np.ones(20))
    multivalent = rng.permutation([i for i, options in enumerate(states) if len(options) > 1])[:20]
    fractions = np.zeros((1, len(ELEMENTS)))
    fractions[0, multivalent] = amounts
    fractions[0, ELEMENTS.index("O")] = 0.3
    fractions /= fractions.sum()
    assert np.prod([len(states[i]) for i in multivalent], dtype=float) > 1e8  # beyond any plain enumeration
    started = time.process_time()
    assert neutral_compound_possible(fractions)[0]
    assert time.process_time() - started < 60
