"""Who wins, by hand-made results."""

from __future__ import annotations

import pytest

from crossprop.experiments.grid import enumerate_cells
from crossprop.experiments.results import CellResult
from crossprop.experiments.selection import best_of_method, choose_winners
from crossprop.methods import Method, Representation


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


def test_failed_cells_have_no_say(cells):
    best = best_of_method(cells, maes(cells, 9.0, None, 2.0, None, None, None))
    assert best == {Method.BASE: cells[0], Method.ML: cells[2]}


def test_each_side_is_chosen_by_the_mean_over_the_folds():
    low_mean, low_fold = result("ml", (3.0, 3.0)), result("dl", (1.0, 6.0))  # means 3 and 3.5
    transfer = result("finetune", (4.0, 4.0))
    winners = choose_winners([result("base", (9.0, 9.0)), low_fold, transfer, low_mean])
    assert winners.best_sc is low_mean
    assert winners.best_tl is transfer
    assert winners.winner is low_mean


def test_hold_out_has_no_say():
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


def test_best_of_the_sides_are_the_papers_and_the_winner_may_be_ours():
    ml, finetune = result("ml", (3.0, 3.0)), result("finetune", (4.0, 4.0))
    boost, resnet = result("boost", (1.0, 1.0)), result("resnet_finetune", (2.0, 2.0))
    winners = choose_winners([ml, finetune, boost, resnet])
    assert (winners.best_sc, winners.best_tl) == (ml, finetune)
    assert winners.best_extension is winners.winner is boost


def test_blend_is_one_of_ours():
    ml, blend = result("ml", (3.0, 3.0)), result("blend", (2.0, 2.0))
    winners = choose_winners([ml, blend])
    assert (winners.best_sc, winners.best_tl, winners.winner) == (ml, None, blend)
    alone = choose_winners([blend])
    assert (alone.best_sc, alone.best_tl, alone.winner) == (None, None, blend)


def test_paper_wins_a_tie_with_ours():
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
    raced = result(
        "boost", None, rung_mae=(1.5,), stopped="after fold 1 of 3: 12.0 % behind resnet", strict_n_train=4,
        strict_test_mae=0.25,
    )  # fmt: skip
    assert CellResult.from_dict(json.loads(json.dumps(raced.as_dict()))) == raced
    assert screened.label == "dl_featextr(band_gap, hidden_03)"
