"""Who goes on, and who wins: by hand-made validation errors."""

from __future__ import annotations

import pytest
from made import make_cell

from crossprop.config import Fidelity
from crossprop.experiments.grid import enumerate_cells
from crossprop.experiments.results import CellResult
from crossprop.experiments.selection import (
    after_first_fold,
    after_screening,
    best_of_method,
    category_of,
    choose_winners,
    first_fold_bracket,
    screening_bracket,
)
from crossprop.methods import Family, Method, Representation, Side

ML, DL = make_cell("ml", representation="physical_attributes"), make_cell("dl")
FIRST, SECOND, THIRD, FOURTH = (make_cell(m) for m in ("finetune", "modfinetune", "freezing", "dl_featextr"))


def fidelity(**changes):
    given = {"rows": 50, "steps": 1, "after_screening": 2, "after_first_fold": 2, "margin": 0.1}
    return Fidelity(**(given | changes))


def errors(**by_id):
    return by_id


FOUR = [FIRST, SECOND, THIRD, FOURTH]
MAES = errors(finetune=4.0, modfinetune=2.0, freezing=3.0, dl_featextr=2.5)


def test_the_best_of_a_bracket_go_on_in_the_order_given():
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


def test_empty_bracket_is_settled():
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
    ("method", "screening", "first_fold"),
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
def test_extension_methods_are_compared_apart_from_the_papers(method, screening, first_fold):
    cell = make_cell(Method(method))
    assert screening_bracket(cell) == screening
    assert first_fold_bracket(cell) == first_fold


def test_scratch_methods_of_the_paper_are_a_category_by_representation():
    made = [make_cell("ml", representation=r) for r in ("elemental_fractions", "physical_attributes")]
    assert len({category_of(cell) for cell in made}) == 2


@pytest.mark.parametrize("method", ["finetune", "ml_featextr", "boost", "resnet_finetune", "base"])
def test_other_methods_are_one_category(method):
    cells = [make_cell(method, source=source) for source in ("formation_energy", "band_gap")]
    assert {category_of(cell) for cell in cells} == {(Method(method), None)}


def result(method, cv_mae, cell=None, **fields):
    return CellResult(
        cell=cell or f"{method}{cv_mae}", study="s", protocol="published", target="t", unit="eV", source=None,
        method=Method(method), representation=None, n_train=9, n_test=1, cv_mae=cv_mae, **fields,
    )  # fmt: skip


@pytest.fixture
def cells(tiny_params):
    params = tiny_params(
        methods=["base", "ml", "finetune"],
        sources=["formation_energy", "band_gap", "stability"],
        representations=["elemental_fractions", "physical_attributes"],
        budget={"ml_trials": 2, "dl_trials": 3, "seconds": 1},
    )
    sources = {"formation_energy": "f", "band_gap": "b", "stability": "s"}
    return enumerate_cells(params, "slme", "%", "d", sources)  # base, ml x 2, finetune x 3


def maes(cells, *values):
    return {cell.id: value for cell, value in zip(cells, values, strict=True) if value is not None}


def test_best_of_a_method_has_the_least_validation_error(cells):
    best = best_of_method(cells, maes(cells, 9.0, 3.0, 2.0, 5.0, 4.0, 6.0))
    assert best == {Method.BASE: cells[0], Method.ML: cells[2], Method.FINETUNE: cells[4]}


def test_earlier_cell_wins_a_tie_whatever_the_order_of_the_results(cells):
    found = maes(cells, 9.0, 2.0, 2.0, 4.0, 4.0, 4.0)
    assert best_of_method(cells, found)[Method.ML] is cells[1]
    assert best_of_method(cells, dict(reversed(found.items())))[Method.FINETUNE] is cells[3]


def test_failed_cells_are_left_out(cells):
    best = best_of_method(cells, maes(cells, 9.0, None, 2.0, None, None, None))
    assert best == {Method.BASE: cells[0], Method.ML: cells[2]}


def test_each_side_is_chosen_by_the_mean_over_the_folds():
    low_mean, low_fold = result("ml", (3.0, 3.0)), result("dl", (1.0, 6.0))  # means 3 and 3.5
    transfer = result("finetune", (4.0, 4.0))
    winners = choose_winners([result("base", (9.0, 9.0)), low_fold, transfer, low_mean])
    assert winners.best_sc is low_mean
    assert winners.best_tl is transfer
    assert winners.winner is low_mean


def test_hold_out_does_not_choose():
    good_luck = result("ml", (3.0, 3.0), test_mae=0.1, val_mae=0.1)
    chosen = result("dl", (2.0, 2.0), test_mae=50.0, val_mae=50.0)
    assert choose_winners([good_luck, chosen]).best_sc is chosen


def test_cells_without_cross_validation_cannot_win():
    screened = result("ml", None, val_mae=0.001)
    assert choose_winners([screened, result("dl", (5.0, 5.0))]).best_sc.method is Method.DL
    assert choose_winners([screened]).winner is None


def test_base_never_wins():
    winners = choose_winners([result("base", (0.0, 0.0)), result("ml", (5.0, 5.0))])
    assert winners.winner.method is Method.ML
    assert choose_winners([result("base", (0.0, 0.0))]).winner is None


def test_best_of_the_sides_are_the_papers_and_the_winner_may_be_an_extension():
    ml, finetune = result("ml", (3.0, 3.0)), result("finetune", (4.0, 4.0))
    boost, resnet = result("boost", (1.0, 1.0)), result("resnet_finetune", (2.0, 2.0))
    winners = choose_winners([ml, finetune, boost, resnet])
    assert (winners.best_sc, winners.best_tl) == (ml, finetune)
    assert winners.best_extension is winners.winner is boost


def test_blend_is_an_extension_method():
    ml, blend = result("ml", (3.0, 3.0)), result("blend", (2.0, 2.0))
    winners = choose_winners([ml, blend])
    assert (winners.best_sc, winners.best_tl, winners.winner) == (ml, None, blend)
    alone = choose_winners([blend])
    assert (alone.best_sc, alone.best_tl, alone.winner) == (None, None, blend)


def test_paper_wins_a_tie_with_an_extension():
    transfer, boost = result("freezing", (2.0, 2.0)), result("boost", (1.0, 3.0))
    winners = choose_winners([boost, transfer])
    assert winners.winner is transfer
    assert winners.best_extension is boost


def test_cells_that_were_stopped_cannot_win():
    stopped = result("boost", None, stopped="after fold 1 of 2: 9.0 % behind resnet", rung_mae=(0.1,))
    dl = result("dl", (5.0, 5.0))
    assert choose_winners([stopped, dl]).winner is dl


def test_scratch_wins_a_tie_with_transfer_and_earlier_cells_a_tie_within_a_side():
    scratch, transfer = result("dl", (2.0, 4.0)), result("finetune", (3.0, 3.0))
    later = result("ml", (4.0, 2.0))
    winners = choose_winners([transfer, scratch, later])
    assert winners.winner is scratch
    assert winners.best_sc is scratch


def test_side_without_a_finished_cell_has_no_best():
    transfer = result("freezing", (1.0, 1.0))
    winners = choose_winners([transfer, result("ml", None, failure="no")])
    assert (winners.best_sc, winners.best_tl, winners.winner) == (None, transfer, transfer)


def test_mean_and_deviation_of_hand_made_folds():
    folded = result("ml", (1.0, 2.0, 6.0))
    assert folded.cv_mae_mean == 3.0
    assert folded.cv_mae_std == pytest.approx(7**0.5)  # (4 + 1 + 9) / 2
    assert result("ml", (2.0,)).cv_mae_std == 0.0
    assert result("ml", None).cv_mae_mean is None


def test_result_survives_json():
    import json

    given = result(
        "ml", (1.0, 2.0), hyperparameters={"algorithm": "ridge", "alpha": 0.5, "deep": None}, test_r2=0.5
    )
    assert CellResult.from_dict(json.loads(json.dumps(given.as_dict()))) == given
    screened = CellResult(
        cell="c", study="s", protocol="strict", target="t", unit="", source="band_gap", method=Method.DL_FEATEXTR,
        representation=Representation.ACTIVATIONS, layer="hidden_03", n_train=2, n_test=1, failure="diverged",
    )  # fmt: skip
    assert CellResult.from_dict(json.loads(json.dumps(screened.as_dict()))) == screened
    pruned = result(
        "boost", None, rung_mae=(1.5,), stopped="after fold 1 of 3: 12.0 % behind resnet", strict_n_train=4,
        strict_test_mae=0.25,
    )  # fmt: skip
    assert CellResult.from_dict(json.loads(json.dumps(pruned.as_dict()))) == pruned
    assert screened.label == "dl_featextr(band_gap, hidden_03)"
