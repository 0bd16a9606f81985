"""The state machine of one target with made-up results: pruning, and failures at every stage."""

import pytest

FIDELITY = {"rows": 50, "steps": 5, "after_screening": 2, "after_first_fold": 2, "margin": 0.25}
STUDY = {
    "methods": ["base", "ml", "dl", "finetune", "modfinetune", "freezing"],
    "folds": 3,
    "budget": {"ml_trials": 6, "dl_trials": 8, "seconds": 60},
}
ERRORS = {
    "base": [9.0, 9.0, 9.0, 9.0],
    "ml(EF)": [2.0, 2.0, 2.0, 2.0],
    "dl(EF)": [3.0, 4.0, 1.0, 1.0],
    "finetune(formation_energy)": [1.0, 2.2, 2.2, 2.2],
    "modfinetune(formation_energy)": [1.5, 2.0, 2.1, 2.1],
    "freezing(formation_energy)": [1.2, 9.0, 9.0, 9.0],
}
FINETUNE, MODFINETUNE, FREEZING = (f"{m}(formation_energy)" for m in ("finetune", "modfinetune", "freezing"))


def test_other_folds_wait_for_the_last_first_fold_of_the_best_methods(rehearsal):
    made = rehearsal(fidelity=FIDELITY).start().answer(6)
    assert made.waiting() == [
        "base fold_00", "ml(EF) fold_00", "dl(EF) fold_00", f"{FINETUNE} fold_00", f"{FREEZING} fold_00",
    ]  # fmt: skip
    made.answer(4)
    assert len(made.waiting()) == 1
    made.answer(1)
    assert made.waiting() == [f"{label} fold_0{k}" for label in ("base", "ml(EF)", FINETUNE) for k in (1, 2)]


def test_stopped_cells_say_why_and_what_they_had(rehearsal):
    made = rehearsal(fidelity=FIDELITY)
    outcome = made.finish()
    results = made.results(outcome)
    late, pruned = results["dl(EF)"], results[MODFINETUNE]
    # on the first fold dl is twice as far off as ml, though it would have won
    assert late.stopped == "after fold 1 of 3: 100.0 % behind ml(EF)"
    assert late.rung_mae == pytest.approx((4.0,))
    assert (late.cv_mae, late.test_mae, late.val_mae) == (None, None, 3.0)
    assert pruned.stopped == f"after screening: 50.0 % behind {FINETUNE}"
    assert pruned.rung_mae is None
    assert results[FREEZING].stopped == f"after fold 1 of 3: 309.1 % behind {FINETUNE}"
    assert results["ml(EF)"].stopped is results["ml(EF)"].rung_mae is None
    assert outcome.winners.best_sc == results["ml(EF)"]
    # ml wins, and three of its folds are for the model
    assert made.folds() == {"base": 3, "ml(EF)": 6, "dl(EF)": 1, FINETUNE: 3, FREEZING: 1}
    spent = {o.result.method: o.cost.fit_seconds for o in outcome.outcomes}
    assert (spent["dl"], spent["modfinetune"]) == (0.5, 0.0)


def test_extension_methods_are_compared_among_themselves(rehearsal):
    errors = ERRORS | {"boost(EF+PA)": [8.0, 8.0, 8.0, 8.0], "resnet(EF+PA)": [9.0, 9.0, 9.0, 9.0]}
    methods = ["base", "ml", "dl", "boost", "resnet"]
    made = rehearsal(errors, fidelity=FIDELITY | {"after_screening": 1}, methods=methods)
    results = made.results(made.finish())
    # far behind ml, which is the paper's, but within a quarter of each other
    assert results["boost(EF+PA)"].cv_mae == pytest.approx((8.0, 8.0, 8.0))
    assert results["resnet(EF+PA)"].cv_mae == pytest.approx((9.0, 9.0, 9.0))


@pytest.mark.parametrize("fidelity", [None, FIDELITY])
def test_failed_later_fold_ends_the_cell_with_what_its_screening_found(rehearsal, fidelity):
    made = rehearsal(fidelity=fidelity)
    made.failing = {("ml(EF)", "fold_02"), (FREEZING, "screening")}
    outcome = made.finish()
    result = made.results(outcome)["ml(EF)"]
    assert made.results(outcome)[FREEZING].failure == f"DivergedError: screening of {FREEZING}"
    assert FREEZING not in made.folds()
    assert result.failure == "DivergedError: fold_02 of ml(EF)"
    assert (result.val_mae, result.cv_mae, result.best_fold, result.test_mae) == (2.0, None, None, None)
    assert result.hyperparameters == {"learning_rate": 0.001}
    assert outcome.winners.best_sc != result
    assert len({o.result.cell for o in made.recorded}) == len(made.recorded) == 6
    again = rehearsal(fidelity=fidelity).start()  # the next run tries again
    assert not [o for o in again.answer().run.conclude().outcomes if o.result.failure]
    assert {"ml(EF) fold_02", f"{FREEZING} screening"} <= set(again.log)


def test_lost_refits_leave_the_cell_without_its_figure_and_a_gap_in_the_curve(rehearsal):
    made = rehearsal(learning_curve={"targets": ["slme"], "shares": [0.25, 0.5]})
    made.failing = {(cell.label, f"fold_0{k}.strict") for cell in made.cells for k in range(3)}
    made.failing |= {("ml(EF)", "fold_00.share_0.25")}
    outcome = made.finish()
    assert outcome.winners.best_tl.method == "modfinetune"  # 2.07 against 2.2
    for chosen in (outcome.winners.best_sc, outcome.winners.best_tl):
        assert (chosen.strict_test_mae, chosen.strict_n_train, chosen.failure) == (None, None, None)
    assert [line for line in made.lines if f"FAILED {MODFINETUNE}: DivergedError: fold_00.strict" in line]
    assert outcome.curve.groupby("side")["share"].apply(list).to_dict() == {
        "scratch": [0.5, 1.0], "transfer": [0.25, 0.5, 1.0],
    }  # fmt: skip


@pytest.mark.parametrize("fidelity", [None, FIDELITY])
@pytest.mark.parametrize("stage", ["screening", "fold_00"])
def test_target_without_a_single_success_ends_too(rehearsal, fidelity, stage):
    made = rehearsal(fidelity=fidelity, methods=["base", "ml", "finetune", "blend"])
    made.failing = {(cell.label, stage) for cell in made.cells}
    outcome = made.finish()
    assert (outcome.winners.winner, outcome.parts, len(outcome.curve)) == (None, (), 0)
    *others, blend = outcome.outcomes
    assert all(stage in o.result.failure for o in others)
    assert blend.result.stopped == "0 cell(s) were cross-validated; a blend needs two"
