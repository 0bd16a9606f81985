"""Folds of one cell as one piece of work: the same as one by one, each with its own fate."""

from __future__ import annotations

import numpy as np
import pytest

from crossprop.errors import DivergedError
from crossprop.experiments import tasks as together
from crossprop.experiments.executor import Failure
from crossprop.experiments.grid import enumerate_cells
from crossprop.experiments.inputs import TargetFiles, TargetInputs
from crossprop.experiments.tasks import FoldTask, ScreenTask, TogetherTask, fit_fold, fit_folds, run_work
from crossprop.models.fitted import FittedModel
from crossprop.paths import StudyPaths

pytestmark = pytest.mark.usefixtures("tensorflow")
POINT = (("learning_rate", 0.001),)


@pytest.fixture
def cells(tiny_params):
    def build(wish="always", **recipe):
        given = {"epochs": 2, "batch_size": 8, "learning_rate": 0.001, **recipe}
        params = tiny_params(
            compute={"together": wish}, methods=["base", "ml", "dl", "resnet"], sources=[], scratch=given, folds=3,
            budget={"ml_trials": 1, "dl_trials": 2, "seconds": 1},
        )  # fmt: skip
        return {cell.label: cell for cell in enumerate_cells(params, "slme", "%", "d", {})}

    return build


@pytest.fixture
def files(tmp_path, write_target):
    write_target(tmp_path, n=40)
    paths = StudyPaths("tiny", tmp_path)
    return TargetFiles(paths.prepared("slme"), paths.features("slme"), (), paths.activations("slme"))


def test_only_networks_without_early_stopping_and_dropout_are_trained_together(cells):
    assert [cell.together for cell in cells().values()] == [False, False, True, True]
    for odd in ({"patience": 3}, {"dropout": 0.1}):
        assert not any(cell.together for cell in cells(**odd).values())
    assert not any(cell.together for cell in cells("never").values())


def test_training_together_is_part_of_the_identity_of_networks_alone(cells):
    always, never = cells("always"), cells("never")
    assert [label for label in always if always[label].id != never[label].id] == ["dl(EF)", "resnet(EF+PA)"]


def test_folds_fitted_together_are_those_fitted_one_by_one(cells, files, tmp_path):
    cell = cells()["resnet(EF+PA)"]
    tasks = [FoldTask(cell, files, POINT, k, tmp_path / f"together_{k}") for k in range(3)]
    reports = run_work(TogetherTask(tuple(tasks)))
    inputs = TargetInputs(files, "published")
    features = np.asarray(inputs.features(cell, None)[inputs.test])
    for k, report in enumerate(reports):
        alone = fit_fold(FoldTask(cell, files, POINT, k))
        assert np.array_equal(report.val_rows, alone.val_rows)
        assert report.n_train == alone.n_train
        assert report.val_pred == pytest.approx(alone.val_pred, rel=1e-3, abs=1e-3)
        assert report.test_pred == pytest.approx(alone.test_pred, rel=1e-3, abs=1e-3)
        assert report.val_mae == pytest.approx(alone.val_mae, rel=1e-3)
        assert list(report.history.columns) == ["epoch", "loss", "val_mae"]
        assert report.seconds > 0
        # every fold has a model of its own
        saved = FittedModel.load(tmp_path / f"together_{k}").predict(features)
        assert saved == pytest.approx(report.test_pred, rel=1e-4, abs=1e-5)
    assert not np.allclose(reports[0].test_pred, reports[1].test_pred)


def test_fold_that_diverges_leaves_the_others_alone(cells, files, monkeypatch):
    given = together.fit_together

    def second_diverges(jobs):
        first, _, third = given(jobs)
        return [first, DivergedError("the loss is nan after epoch 1."), third]

    monkeypatch.setattr(together, "fit_together", second_diverges)
    cell = cells()["resnet(EF+PA)"]
    reports = fit_folds(TogetherTask(tuple(FoldTask(cell, files, POINT, k) for k in range(3))))
    assert reports[1] == Failure("DivergedError: the loss is nan after epoch 1.")
    assert [np.isfinite(report.val_mae) for report in (reports[0], reports[2])] == [True, True]


def test_other_work_is_done_as_ever(cells, files):
    base = cells()["base"]
    assert run_work(ScreenTask(base, files, None)).val_mae > 0
    assert run_work(FoldTask(base, files, (), 0)).n_train > 0
