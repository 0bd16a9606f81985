"""The state machine of one target with made-up results: what is asked for when, blends, and what comes of it."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from crossprop.experiments.executor import Failure
from crossprop.methods import Method

BOTH = ["elemental_fractions", "physical_attributes"]
STUDY = {
    "methods": ["base", "ml", "dl", "finetune"],
    "sources": ["formation_energy", "band_gap"],
    "representations": BOTH,
    "budget": {"ml_trials": 6, "dl_trials": 8, "seconds": 60},
    "folds": 3,
}
ERRORS = {
    "base": [9.0, 9.0, 9.0, 9.0],
    "ml(EF)": [1.0, 3.5, 3.5, 3.5],
    "ml(PA)": [2.0, 2.0, 4.0, 3.0],
    "dl(EF)": [5.0, 4.0, 4.0, 4.0],
    "dl(PA)": [6.0, 5.0, 5.0, 5.0],
    "finetune(formation_energy)": [4.0, 4.0, 4.0, 4.0],
    "finetune(band_gap)": [3.5, 3.0, 2.5, 1.25],
}
"""Validation MAE of the screening, then of every fold; the same on the hold-out. finetune(band_gap) wins."""
HALVED = {"rows": 50, "steps": 5, "after_screening": 2, "after_first_fold": 2, "margin": 9.0}
STUDIES = {
    "plain": {},
    "blend": {"methods": ["base", "ml", "dl", "finetune", "boost", "blend"]},
    "curve": {"learning_curve": {"targets": ["slme"], "shares": [0.25, 0.5]}},
    "fidelity": {"fidelity": HALVED | {"after_screening": 1, "after_first_fold": 1, "margin": 0.1}},
}
ON_FRACTIONS = {"representations": BOTH[:1], "sources": ["band_gap"]}
BLENDED = ON_FRACTIONS | {"methods": ["base", "ml", "dl", "finetune", "blend"]}
HALVES = {"base": [9.0] * 4, "ml(EF)": [2.0] * 4, "finetune(band_gap)": [6.0] * 4}
HALVES["dl(EF)"] = [2.0, -2.0, -2.0, -2.0]
"""ml is 2 too high, dl 2 too low, finetune 6 too high: half of ml and of dl is perfect."""
PLAIN = ON_FRACTIONS | {"sources": [], "methods": ["base", "plain_baseline", "plain_median", "ml", "blend"]}
PLAIN_ERRORS = {"plain baseline": [1.0, 2.0, 2.0, 2.0], "plain median": [1.0] * 4, "ml(EF)": [3.0] * 4}


def test_every_cell_is_screened_and_the_best_of_each_category_cross_validated(rehearsal):
    made = rehearsal().start()
    assert made.waiting() == [f"{cell.label} screening" for cell in made.cells]
    made.answer(3)  # base, ml(EF), ml(PA)
    started = ("base", "ml(EF)", "ml(PA)")
    assert made.waiting()[4:] == [f"{label} fold_0{k}" for label in started for k in range(3)]
    made.answer()
    folds = {line.split()[0] for line in made.log if re.search(r" fold_\d\d$", line)}
    # the paper's scratch methods by representation, its transfer methods from their best source
    assert folds == {"base", "ml(EF)", "ml(PA)", "dl(EF)", "dl(PA)", "finetune(band_gap)"}


def test_outcome_of_every_cell_follows_from_its_tasks_and_chosen_ones_are_refitted_strictly(rehearsal):
    made = rehearsal()
    outcome = made.finish()
    assert [o.result.cell for o in outcome.outcomes] == [cell.id for cell in made.cells]
    results = made.results(outcome)
    assert results["ml(PA)"].cv_mae == pytest.approx((2.0, 4.0, 3.0))
    assert results["ml(PA)"].best_fold == 0
    assert results["ml(PA)"].test_mae == pytest.approx(2.0)
    screened = results["finetune(formation_energy)"]
    assert screened.val_mae == 4.0
    assert (screened.cv_mae, screened.test_mae, screened.stopped, screened.failure) == (None,) * 4
    assert outcome.winners.best_sc == results["ml(PA)"]  # 3 against 3.5, though its screening was worse
    assert outcome.winners.best_tl == outcome.winners.winner == results["finetune(band_gap)"]
    recorded = {o.result.cell: o.result for o in made.recorded}
    assert len(made.recorded) == len(recorded) == len(made.cells)
    assert recorded == {o.result.cell: o.result for o in outcome.outcomes}
    # the rows that repeat the hold-out are left out
    assert [line for line in made.log if ".strict" in line] == [
        "ml(PA) fold_00.strict", "finetune(band_gap) fold_02.strict",
    ]  # fmt: skip
    assert results["finetune(band_gap)"].strict_test_mae == pytest.approx(2.5)  # twice 1.25: as it is made up
    assert results["finetune(band_gap)"].strict_n_train == 15  # 24 rows in three folds, one left out
    assert results["dl(EF)"].strict_test_mae is None
    made = rehearsal()
    made.run._inputs.repeated[:] = False  # the strict refit would be the same
    assert {o.result.strict_test_mae for o in made.finish().outcomes} == {None}
    made = rehearsal(protocol="strict")
    assert {o.result.strict_test_mae for o in made.finish().outcomes} == {None}
    assert not [line for line in made.log if ".strict" in line]


def test_of_equals_the_earlier_cell_is_chosen_whichever_was_finished_first(rehearsal):
    equal = {label: [1.0, 2.0, 2.0, 2.0] for label in ("ml(EF)", "dl(EF)")}
    made = rehearsal(equal, methods=["ml", "dl"], representations=BOTH[:1]).start()
    while made.asked:  # the last that is asked for is the first to be finished
        assert not made.run.finished
        made.asked.insert(0, made.asked.pop())
        made.answer(1)
    assert made.run.finished
    best = made.run.conclude().winners.best_sc
    assert best.method == "ml"
    assert best.strict_test_mae is not None


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_finished_run_asks_for_nothing_and_ends_the_same(rehearsal, study):
    whole_run = rehearsal(**study)
    whole = whole_run.finish()
    again = rehearsal(**study).start()
    assert again.log == []
    outcome = again.run.conclude()
    assert [o.result for o in outcome.outcomes] == [o.result for o in whole.outcomes]
    assert outcome.parts == whole.parts
    pairs = zip(outcome.outcomes, whole.outcomes, strict=True)
    assert all(one.cost == other.cost for one, other in pairs if one.result.method != "blend")
    assert re.fullmatch(r"tiny: (\d+) of \d+ tasks are finished already, going on", again.lines[-1])
    done, total = re.search(r"\[(\d+)/(\d+),", whole_run.lines[-1]).groups()
    assert done == total


def test_pruning_leaves_the_best_cell_of_every_column_of_the_papers_tables(rehearsal):
    results = rehearsal(**STUDIES["fidelity"]).finish().outcomes
    whole = {o.result.label for o in results if o.result.cv_mae is not None}
    assert whole == {"base", "ml(EF)", "ml(PA)", "finetune(formation_energy)", "finetune(band_gap)"}


def test_learning_curve_is_refitted_by_the_best_of_both_sides(rehearsal):
    made = rehearsal(
        methods=["base", "ml", "finetune", "boost"],
        errors={**ERRORS, "boost(EF+PA)": [1.0, 0.5, 0.5, 0.5]},
        learning_curve={"targets": ["slme"], "shares": [0.5, 0.25]},
    )
    outcome = made.finish()
    assert [line for line in made.log if "share" in line] == [
        "ml(PA) fold_00.share_0.5", "ml(PA) fold_00.share_0.25",
        "finetune(band_gap) fold_02.share_0.5", "finetune(band_gap) fold_02.share_0.25",
    ]  # fmt: skip
    assert outcome.winners.winner.method == "boost"
    curve = outcome.curve
    assert curve["side"].tolist() == ["scratch"] * 3 + ["transfer"] * 3
    assert curve["share"].tolist() == [0.25, 0.5, 1.0] * 2
    assert curve["n_train"].tolist() == [4, 8, 16] * 2  # 24 rows in three folds
    assert curve["test_mae"].to_numpy() == pytest.approx(np.array([3.5, 3.0, 2.0, 2.1875, 1.875, 1.25]))


def test_blend_of_the_cross_validated_cells_wins_and_is_made_of_their_models(rehearsal):
    made = rehearsal(HALVES, **BLENDED)
    outcome = made.finish()
    blend = made.results(outcome)["blend"]
    assert outcome.winners.winner == blend
    assert (outcome.winners.best_sc.method, outcome.winners.best_tl.method) == ("ml", "finetune")
    assert blend.cv_mae == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)
    assert blend.hyperparameters == {"ml(EF)": 0.5, "dl(EF)": 0.5}
    assert (blend.source, blend.representation, blend.strict_test_mae) == (None, None, None)
    assert [part.result.label for part in outcome.parts] == ["ml(EF)", "dl(EF)"]
    assert [part.weights for part in outcome.parts] == [(0.5, 0.5, 0.5)] * 2
    # those of ml were not saved
    assert made.folds() == {"base": 3, "ml(EF)": 6, "dl(EF)": 3, "finetune(band_gap)": 3}
    assert [(f / "member.json").is_file() for part in outcome.parts for f in part.folders] == [True] * 6
    made.run.drop_models(outcome.winners)
    assert made.kept_models() == {cell.id for cell in made.cells if cell.label in ("ml(EF)", "dl(EF)")}


def test_blend_leaves_failed_and_stopped_cells_and_the_base_out_and_needs_two(rehearsal):
    made = rehearsal(HALVES, **BLENDED, fidelity=HALVED | {"after_first_fold": 1})
    results = made.results(made.finish())
    assert results["dl(EF)"].stopped is not None
    assert set(results["blend"].hyperparameters) <= {"ml(EF)", "finetune(band_gap)"}
    made = rehearsal(HALVES, **(BLENDED | {"methods": ["base", "ml", "dl", "blend"]}))
    made.failing = {("dl(EF)", "fold_01")}
    outcome = made.finish()
    blend = made.results(outcome)["blend"]
    assert blend.stopped == "1 cell(s) were cross-validated; a blend needs two"
    assert (blend.cv_mae, blend.failure, blend.val_mae) == (None, None, None)
    assert outcome.winners.winner.method == "ml"
    assert [o.result.method for o in made.recorded].count("blend") == 1


def with_baseline(made):
    """The rehearsal, whose folds of the plain median bring those of the plain baseline, as in earnest."""
    fit = made._report
    baseline = next(cell for cell in made.cells if cell.method is Method.PLAIN_BASELINE)

    def report(task):
        found = fit(task)
        if task.cell.method is not Method.PLAIN_MEDIAN or isinstance(found, Failure):
            return found
        return replace(found, baseline=fit(replace(task, cell=baseline, folder=None)))

    made._report = report
    return made


@pytest.mark.parametrize("fidelity", [None, HALVED | {"after_first_fold": 1}])
def test_plain_models_come_first_untuned_and_whole_and_lost_folds_are_fitted_alone(rehearsal, fidelity):
    made = with_baseline(rehearsal(PLAIN_ERRORS, fidelity=fidelity, **PLAIN)).start()
    assert made.waiting()[:3] == [f"plain median fold_0{k}" for k in range(3)]
    made.answer()
    outcome = made.run.conclude()
    results = made.results(outcome)
    assert results["plain median"].cv_mae == (1.0,) * 3
    assert results["plain baseline"].cv_mae == (2.0,) * 3
    assert results["plain median"].n_trials == 0
    assert outcome.winners.winner.label == "plain median"
    assert not any(line.startswith("plain baseline") for line in made.log)  # it came with the median
    again = with_baseline(rehearsal(PLAIN_ERRORS, fidelity=fidelity, **PLAIN))
    shutil.rmtree(again.paths.cell(results["plain baseline"].cell) / "fold_02")
    again.finish()
    assert again.log == ["plain baseline fold_02"]


def test_failed_fold_of_the_plain_median_ends_both_and_the_others_go_on(rehearsal):
    made = with_baseline(rehearsal(PLAIN_ERRORS, **PLAIN))
    made.failing = {("plain median", "fold_01")}
    outcome = made.finish()
    results = made.results(outcome)
    assert results["plain median"].failure
    assert results["plain baseline"].failure
    assert outcome.winners.winner.method == "ml"
