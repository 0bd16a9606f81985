"""The state machine of one target with made-up results: blends of its cross-validated cells."""

from __future__ import annotations

import pytest

FIDELITY = {"rows": 50, "steps": 5, "after_screening": 2, "after_first_fold": 1, "margin": 5.0}
FINETUNE = "finetune(formation_energy)"
STUDY = {
    "methods": ["base", "ml", "dl", "finetune", "blend"],
    "folds": 3,
    "budget": {"ml_trials": 6, "dl_trials": 8, "seconds": 60},
}


ERRORS = {
    "base": [9.0, 9.0, 9.0, 9.0],
    "ml(EF)": [2.0, 2.0, 2.0, 2.0],
    "dl(EF)": [2.0, -2.0, -2.0, -2.0],
    FINETUNE: [6.0, 6.0, 6.0, 6.0],
}
"""ml is 2 too high, dl 2 too low, finetune 6 too high: half of ml and of dl is perfect."""


def test_blend_of_the_cross_validated_cells_wins_and_is_made_of_their_models(rehearsal):
    made = rehearsal()
    outcome = made.finish()
    blend = made.results(outcome)["blend"]
    assert outcome.winners.winner == blend
    assert (outcome.winners.best_sc.method, outcome.winners.best_tl.method) == ("ml", "finetune")
    assert blend.cv_mae == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)
    assert blend.hyperparameters == {"ml(EF)": 0.5, "dl(EF)": 0.5}
    assert (blend.source, blend.representation, blend.strict_test_mae) == (None, None, None)
    assert [part.result.label for part in outcome.parts] == ["ml(EF)", "dl(EF)"]
    assert [part.weights for part in outcome.parts] == [(0.5, 0.5, 0.5)] * 2
    assert made.folds() == {"base": 3, "ml(EF)": 6, "dl(EF)": 3, FINETUNE: 3}  # ml's models were not saved
    made.run.drop_models(outcome.winners)
    assert made.kept_models() == {cell.id for cell in made.cells if cell.label in ("ml(EF)", "dl(EF)")}


def test_blend_that_does_not_win_leaves_the_winner_alone(rehearsal):
    made = rehearsal({"ml(EF)": [1.0, 1.0, 1.0, 1.0], "dl(EF)": [3.0, 3.0, 3.0, 3.0]})
    outcome = made.finish()
    blend = made.results(outcome)["blend"]
    assert blend.cv_mae == pytest.approx((1.0, 1.0, 1.0))  # nothing but ml: a tie, which the paper's wins
    assert outcome.winners.winner.method == "ml"


def test_blend_leaves_failed_and_stopped_cells_and_the_base_out(rehearsal):
    made = rehearsal(fidelity=FIDELITY)
    results = made.results(made.finish())
    assert results["dl(EF)"].stopped is not None
    assert set(results["blend"].hyperparameters) <= {"ml(EF)", FINETUNE}
    made = rehearsal()
    made.failing = {("dl(EF)", "fold_01")}
    results = made.results(made.finish())
    assert set(results["blend"].hyperparameters) <= {"ml(EF)", FINETUNE}


def test_one_cross_validated_cell_is_nothing_to_blend(rehearsal):
    made = rehearsal(methods=["base", "ml", "dl", "blend"])
    made.failing = {("dl(EF)", "fold_01")}
    outcome = made.finish()
    blend = made.results(outcome)["blend"]
    assert blend.stopped == "1 cell(s) were cross-validated; a blend needs two"
    assert (blend.cv_mae, blend.failure, blend.val_mae) == (None, None, None)
    assert outcome.winners.winner.method == "ml"
    assert [o.result.method for o in made.recorded].count("blend") == 1
