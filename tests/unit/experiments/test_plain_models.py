"""The plain baseline and the plain median: untuned, fitted together, first, and part of the choice."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from made import files_of
from sklearn.ensemble import ExtraTreesRegressor

from crossprop.experiments.executor import Failure
from crossprop.experiments.grid import enumerate_cells
from crossprop.experiments.inputs import TargetInputs
from crossprop.experiments.tasks import FoldTask, fit_fold
from crossprop.features.matrices import load_combined
from crossprop.methods import Method
from crossprop.models.fitted import FittedModel

STUDY = {"methods": ["base", "plain_baseline", "plain_median", "ml", "blend"], "folds": 3}
ERRORS = {"plain baseline": [1.0, 2.0, 2.0, 2.0], "plain median": [1.0, 1.0, 1.0, 1.0], "ml(EF)": [3.0] * 4}


def test_the_plain_models_are_scikit_learns_defaults_on_fractions_beside_attributes(
    tiny_params, tmp_path, write_study
):
    write_study(tmp_path, n=40)
    files = files_of(tmp_path)
    cells = enumerate_cells(tiny_params(**STUDY), "slme", "%", "d", {"formation_energy": "f"})
    baseline, cell = cells[1:3]
    report = fit_fold(FoldTask(cell, files, {}, 1, tmp_path / "model"))
    inputs, both = TargetInputs(files, cell.protocol), load_combined(files.features)
    train, validation = inputs.folds(cell.folds, cell.seed)[1]
    forest = ExtraTreesRegressor(300, random_state=cell.seed_for_target("plain", 1))
    forest.fit(both[train], inputs.values[train])
    trees = np.stack([tree.predict(both[validation]) for tree in forest.estimators_])
    assert report.val_pred == pytest.approx(np.median(trees, axis=0), rel=1e-6)
    assert report.baseline.val_pred == pytest.approx(trees.mean(axis=0), rel=1e-6)
    alone = fit_fold(FoldTask(baseline, files, {}, 1))
    np.testing.assert_array_equal(alone.val_pred, report.baseline.val_pred)
    saved = FittedModel.load(tmp_path / "model")
    np.testing.assert_array_equal(saved.predict(both[validation]), report.val_pred)


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


@pytest.mark.parametrize(
    "fidelity", [None, {"rows": 50, "steps": 5, "after_screening": 1, "after_first_fold": 1, "margin": 0.1}]
)
def test_plain_models_come_first_untuned_and_whole_and_lost_folds_are_fitted_alone(rehearsal, fidelity):
    made = with_baseline(rehearsal(fidelity=fidelity)).start()
    assert made.waiting()[:3] == [f"plain median fold_0{k}" for k in range(3)]
    made.answer()
    outcome = made.run.conclude()
    results = made.results(outcome)
    assert results["plain median"].cv_mae == (1.0,) * 3
    assert results["plain baseline"].cv_mae == (2.0,) * 3
    assert results["plain median"].n_trials == 0
    assert outcome.winners.winner.label == "plain median"
    assert not any(line.startswith("plain baseline") for line in made.log)  # it came with the median
    again = with_baseline(rehearsal(fidelity=fidelity))
    shutil.rmtree(again.paths.cell(results["plain baseline"].cell) / "fold_02")
    again.finish()
    assert again.log == ["plain baseline fold_02"]


def test_failed_fold_of_the_plain_median_ends_both_and_the_others_go_on(rehearsal):
    made = with_baseline(rehearsal())
    made.failing = {("plain median", "fold_01")}
    outcome = made.finish()
    results = made.results(outcome)
    assert results["plain median"].failure
    assert results["plain baseline"].failure
    assert outcome.winners.winner.method == "ml"
