"""Who goes on after the screening and after the first fold, with hand-made numbers."""

from __future__ import annotations

import pytest
from made import make_cell

from crossprop.config import Fidelity
from crossprop.experiments.selection import (
    after_first_fold,
    after_screening,
    category_of,
    first_fold_bracket,
    screening_bracket,
)
from crossprop.methods import Family, Method, Side

ML, DL = make_cell("ml", representation="physical_attributes"), make_cell("dl")
FIRST, SECOND, THIRD, FOURTH = (make_cell(m) for m in ("finetune", "modfinetune", "freezing", "dl_featextr"))


def fidelity(**changes):
    given = {"rows": 50, "steps": 1, "after_screening": 2, "after_first_fold": 2, "margin": 0.1}
    return Fidelity(**(given | changes))


def errors(**by_id):
    return by_id


FOUR = [FIRST, SECOND, THIRD, FOURTH]
MAES = errors(finetune=4.0, modfinetune=2.0, freezing=3.0, dl_featextr=2.5)


def test_the_best_of_a_heat_go_on_in_the_order_given():
    going, stopped = after_screening(FOUR, MAES, fidelity())
    assert going == [SECOND, FOURTH]
    assert stopped == {
        "finetune": "after screening: 100.0 % behind modfinetune",
        "freezing": "after screening: 50.0 % behind modfinetune",
    }


def test_all_go_on_where_there_are_as_many_places():
    assert after_screening(FOUR, MAES, fidelity(after_screening=4)) == (FOUR, {})
    assert after_screening(FOUR, MAES, fidelity(after_screening=9)) == (FOUR, {})


def test_all_go_on_without_rules():
    assert after_screening(FOUR, MAES, None) == (FOUR, {})


def test_earlier_of_equals_goes_on():
    tied = errors(finetune=3.0, modfinetune=3.0, freezing=3.0, dl_featextr=3.0)
    going, stopped = after_screening(FOUR, tied, fidelity())
    assert going == [FIRST, SECOND]
    assert stopped["freezing"] == "after screening: 0.0 % behind finetune"


def test_screening_bracket_nobody_is_settled():
    assert after_screening([], {}, fidelity()) == ([], {})
    assert after_first_fold([], {}, fidelity()) == ([], {})


def test_reason_names_the_best_cell_by_its_label():
    _, stopped = after_screening([DL, ML], errors(dl=2.2, ml=2.0), fidelity(after_screening=1))
    assert stopped == {"dl": "after screening: 10.0 % behind ml(PA)"}


def test_perfect_best_is_no_division_by_zero():
    _, stopped = after_screening([DL, ML], errors(dl=0.25, ml=0.0), fidelity(after_screening=1))
    assert stopped == {"dl": "after screening: 0.25 behind ml(PA)"}


def test_first_fold_stops_who_is_further_behind_than_the_margin():
    first = errors(finetune=2.0, modfinetune=2.25)
    going, stopped = after_first_fold([FIRST, SECOND], first, fidelity(margin=0.1))
    assert going == [FIRST]
    assert stopped == {"modfinetune": "after fold 1 of 5: 12.5 % behind finetune"}


def test_who_is_behind_by_just_the_margin_goes_on():
    first = errors(finetune=2.0, modfinetune=2.5)
    assert after_first_fold([FIRST, SECOND], first, fidelity(margin=0.25)) == ([FIRST, SECOND], {})


def test_first_fold_stops_whoever_has_no_place_though_it_is_close():
    first = errors(finetune=2.0, modfinetune=2.02, freezing=2.01, dl_featextr=2.03)
    going, stopped = after_first_fold(FOUR, first, fidelity(after_first_fold=2))
    assert going == [FIRST, THIRD]
    assert stopped == {
        "modfinetune": "after fold 1 of 5: 1.0 % behind finetune",
        "dl_featextr": "after fold 1 of 5: 1.5 % behind finetune",
    }


def test_earlier_of_equals_has_the_place_after_the_first_fold():
    tied = errors(finetune=2.0, modfinetune=2.0, freezing=2.0, dl_featextr=1.9)
    assert after_first_fold(FOUR, tied, fidelity())[0] == [FIRST, FOURTH]


def test_the_best_always_goes_on():
    assert after_first_fold([ML], errors(ml=1e9), fidelity(after_first_fold=1)) == ([ML], {})
    assert after_first_fold([ML, DL], errors(ml=0.0, dl=0.0), fidelity()) == ([ML, DL], {})


@pytest.mark.parametrize(
    ("method", "heat", "race"),
    [
        ("ml", (Side.SCRATCH, Family.REGRESSOR, False), (Side.SCRATCH, False)),
        ("boost", (Side.SCRATCH, Family.REGRESSOR, True), (Side.SCRATCH, True)),
        ("dl", (Side.SCRATCH, Family.NETWORK, False), (Side.SCRATCH, False)),
        ("resnet", (Side.SCRATCH, Family.NETWORK, True), (Side.SCRATCH, True)),
        ("freezing", (Side.TRANSFER, Family.NETWORK, False), (Side.TRANSFER, False)),
        ("resnet_finetune", (Side.TRANSFER, Family.NETWORK, True), (Side.TRANSFER, True)),
        ("boost_sources", (Side.TRANSFER, Family.REGRESSOR, True), (Side.TRANSFER, True)),
        ("base", (Side.BASE, Family.BASE, False), (Side.BASE, False)),
    ],
)
def test_methods_of_ours_run_apart_from_the_papers(method, heat, race):
    cell = make_cell(Method(method))
    assert screening_bracket(cell) == heat
    assert first_fold_bracket(cell) == race


def test_scratch_methods_of_the_paper_are_a_category_by_representation():
    made = [make_cell("ml", representation=r) for r in ("elemental_fractions", "physical_attributes")]
    assert len({category_of(cell) for cell in made}) == 2


@pytest.mark.parametrize("method", ["finetune", "ml_featextr", "boost", "resnet_finetune", "base"])
def test_other_methods_are_one_category(method):
    cells = [make_cell(method, source=source) for source in ("formation_energy", "band_gap")]
    assert {category_of(cell) for cell in cells} == {(Method(method), None)}
