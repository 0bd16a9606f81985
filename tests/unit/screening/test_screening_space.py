"""Enumeration: every reduced composition once, readable from any position."""

from itertools import combinations, pairwise, product
from math import comb, gcd

import numpy as np
import pytest

from crossprop.data.compositions import ELEMENTS, fraction_matrix
from crossprop.errors import ScreeningError
from crossprop.screening.request import GROUPS, resolve_elements
from crossprop.screening.space import ElementSpace, read_formulas


def brute_force(elements, fewest, most, max_atoms, max_amount, must=()):
    """Reduced formulas as sets of (symbol, amount), by trying everything."""
    found = set()
    for k in range(fewest, most + 1):
        for system in combinations(elements, k):
            if not set(must) <= set(system):
                continue
            for amounts in product(range(1, max_amount + 1), repeat=k):
                if sum(amounts) <= max_atoms and gcd(*amounts) == 1:
                    found.add(frozenset(zip(system, amounts, strict=True)))
    return found


def test_every_reduced_composition_is_there_once():
    for elements, fewest, most, max_atoms, max_amount, must in (
        (("Al", "Fe", "Co"), 2, 3, 10, 10, ()),
        (("H", "C", "N", "O", "Fe", "U"), 1, 5, 6, 6, ("C", "Fe")),
        (("Fe", "Co"), 1, 5, 8, 3, ()),
    ):
        space = ElementSpace(elements, must, fewest, most, max_atoms, max_amount)
        rows = space.block(0, space.total).amounts
        found = [frozenset((ELEMENTS[e], int(row[e])) for e in np.flatnonzero(row)) for row in rows]
        assert len(found) == len(set(found)) == space.total
        assert set(found) == brute_force(elements, fewest, min(most, len(elements)), max_atoms, max_amount, must)


def test_alloy_grid_holds_every_multiple_of_the_step():
    space = ElementSpace(("Al", "Fe", "Co"), min_elements=1, max_elements=3, parts=20)
    # 3 elements pure, 3 pairs x 19 shares, and 19 choose 2 ways to share 20 parts among three
    assert space.total == 3 + 3 * 19 + comb(19, 2)
    fractions = space.block(0, space.total).fractions()
    assert np.unique(np.round(fractions * 20)).tolist() == list(range(21))
    assert len(np.unique(np.round(fractions, 6), axis=0)) == space.total
    assert fractions.sum(axis=1) == pytest.approx(1)


def test_blocks_from_anywhere_join_to_the_whole():
    space = ElementSpace(resolve_elements("3d-metals,O"), min_elements=1, max_elements=4, max_atoms=6)
    whole = space.block(0, space.total)
    rng = np.random.default_rng(3)
    cuts = [0, *sorted(rng.integers(0, space.total, 40).tolist()), space.total]
    parts = [space.block(a, b) for a, b in pairwise(cuts)]
    for name in ("positions", "amounts"):
        assert np.array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))
    assert len(space.block(space.total, space.total + 5)) == 0


def test_a_vast_space_is_counted_at_once_and_read_at_its_end():
    space = ElementSpace(ELEMENTS, min_elements=2, max_elements=5, max_atoms=20)
    assert space.total > 10**11
    last = space.block(space.total - 3, space.total + 10)
    assert len(last) == 3
    assert {ELEMENTS[e] for e in np.flatnonzero(last.amounts[-1])} == {"Pa", "Th", "U", "Np", "Pu"}


def test_formulas_are_written_as_chemists_do_and_mean_the_same():
    for elements, written in (
        (("O", "Na", "Si", "Cl", "Fe"), {"NaCl", "Fe2O3", "SiO2", "Na2SiO3"}),
        (("Ti", "Al", "V"), {"Ti2Al3V1"}),  # without the 1 it is a designation in weight percent
    ):
        space = ElementSpace(elements, min_elements=1, max_elements=4)
        block = space.block(0, space.total)
        formulas = block.formulas()
        assert written <= set(formulas)
        assert np.allclose(fraction_matrix(formulas), block.fractions())
    small = ElementSpace(("Al", "Fe", "Co"), max_atoms=4).block(0, 4)
    assert small.formulas() == ["AlFe", "AlFe2", "Al2Fe", "AlFe3"]


def test_spaces_that_cannot_be_are_refused_with_advice():
    for options, part in (
        ({"elements": ("Fe",)}, "no composition"),
        ({"elements": ("Fe", "Co"), "must": ("O",)}, "must contain O"),
        ({"elements": ("Fe", "Co"), "min_elements": 4}, "cannot be enumerated"),
        ({"elements": ELEMENTS, "max_elements": 12, "max_atoms": 24}, "too many to screen"),
        # refused before the amounts fill the memory
        ({"elements": ELEMENTS[:8], "max_elements": 8, "max_atoms": 60, "max_amount": 60}, "--max-atoms"),
        ({"elements": ELEMENTS[:5], "max_elements": 5, "parts": 400}, "coarser --fractions"),
    ):
        with pytest.raises(ScreeningError, match=part):
            ElementSpace(**options)


def test_groups_symbols_and_exclusions():
    assert resolve_elements("Fe,Co , Al") == ("Al", "Fe", "Co")
    assert resolve_elements("halogens") == ("F", "Cl", "Br", "I")
    assert resolve_elements(["Transition_Metals", "O"])[0] == "O"
    assert len(resolve_elements("all")) == 86
    assert all(set(group) <= set(ELEMENTS) for group in GROUPS.values())
    with pytest.raises(ScreeningError, match="Did you mean lanthanides"):
        resolve_elements("Fe,lantanides")
    with pytest.raises(ScreeningError, match="'He' is neither"):
        resolve_elements("He")


def listed(tmp_path, content):
    path = tmp_path / "list.csv"
    path.write_text(content, encoding="utf-8")
    return read_formulas(path)


def test_formulas_of_a_file_are_kept_as_they_are_written(tmp_path):
    content = "name,Formula\na,Fe2O3\nb,Fe4O6\nc,water\nd,Al0.5Fe0.5\ne,AlFe\n,\nf,He2\n"
    space = listed(tmp_path, content)
    assert space.block(0, 10).formulas() == ["Fe2O3", "Al0.5Fe0.5"]
    assert (space.total, space.repeated, space.n_bad) == (2, 2, 2)
    assert space.bad[0].startswith("line 4: ")
    assert "He" in space.bad[1]
    (tmp_path / "two.csv").write_text("a,b\nFe2O3,NaCl\nFeO,KCl\n")
    assert read_formulas(tmp_path / "two.csv", "b").block(0, 9).formulas() == ["NaCl", "KCl"]
    (tmp_path / "alloys.csv").write_text("formula\nTi-6Al-4V\nTi90Al6V4\n")
    alloys = read_formulas(tmp_path / "alloys.csv", kind="weight")
    assert alloys.repeated == 1
    assert np.allclose(alloys.block(0, 9).fractions(), fraction_matrix(["Ti90Al6V4"], amounts="weight"))
    space = listed(tmp_path, "name,Formula\na,Fe2O3\ntable,Fe,NaCl\n")
    assert (space.total, space.n_bad) == (1, 1), "a row with a shifted cell"
    with pytest.raises(ScreeningError, match=r"No column of .* holds chemical formulas"):
        listed(tmp_path, "a,b\n1,2\n")
    with pytest.raises(ScreeningError, match="holds no formula in 1 row"):
        listed(tmp_path, "water\n")
    space = listed(tmp_path, "formula\nOsB2\nFe₂O₃\n(NH4)2SO4\nFe4O6\nB4Os2\n")
    assert space.block(0, 9).formulas() == ["OsB2", "Fe₂O₃", "(NH4)2SO4"]
    assert space.block(1, 3)[np.array([False, True])].formulas() == ["(NH4)2SO4"]
    assert space.repeated == 2
    assert listed(tmp_path, "formula\n2-Feb\nNaCl\n").block(0, 9).formulas() == ["FeB2", "NaCl"], "a date"
    assert np.allclose(space.block(0, 9).fractions(), fraction_matrix(["OsB2", "Fe2O3", "(NH4)2SO4"]))
