"""The tasks themselves, on a few rows: every method, the same twice, and what they leave behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made import files_of

from crossprop.experiments import tasks
from crossprop.experiments.grid import enumerate_cells
from crossprop.experiments.inputs import TargetInputs
from crossprop.experiments.tasks import FoldTask, ScreenTask, fit_fold, layer_of, run_task
from crossprop.methods import Family, Method
from crossprop.models.fitted import FittedModel
from crossprop.models.transfer import load_network
from crossprop.paths import StudyPaths

pytestmark = pytest.mark.usefixtures("tensorflow")
RATE = {"learning_rate": 0.001}
POINT = {
    Method.BASE: {},
    Method.PLAIN_BASELINE: {},
    Method.PLAIN_MEDIAN: {},
    Method.ML: {"algorithm": "ridge", "ridge.alpha": 0.1},
    Method.DL: RATE,
    Method.ML_FEATEXTR: {"layer": "hidden_15", "algorithm": "extra_trees", "extra_trees.n_estimators": 10},
    Method.DL_FEATEXTR: {"layer": "hidden_16", **RATE},
    Method.FINETUNE: RATE,
    Method.MODFINETUNE: RATE,
    Method.FREEZING: RATE,
    Method.BOOST: {"algorithm": "hist_gradient_boosting", "hist_gradient_boosting.max_iter": 10},
    Method.BOOST_SOURCES: {"algorithm": "svr", "svr.C": 2.0, "target_transform": "identity"},
    Method.RESNET: RATE,
    Method.RESNET_FINETUNE: RATE,
}
"""A point of every method that fits something: all but the blend."""
STUDY = {
    "joint": {"all_sources": ["formation_energy"]},
    "joint_pretrain": {"epochs": 1, "batch_size": 16, **RATE},
    "methods": list(POINT),
    "budget": {"ml_trials": 6, "dl_trials": 5, "seconds": 600},
    # 16 rows to train on make 2 steps an epoch: 4 epochs for 7 steps
    "scratch": {"epochs": 1, "batch_size": 8, "min_steps": 7, **RATE, "schedule": "constant"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_study, pretrained_joint):
    root = tmp_path_factory.mktemp("tasks")
    write_study(root, n=40)
    network = StudyPaths("tiny", root).source_model("formation_energy") / "network.keras"
    joint = pretrained_joint / "network.keras"
    return files_of(root, ("formation_energy", network), ("all_sources", joint))


@pytest.fixture(scope="module")
def inputs(files):
    return TargetInputs(files, "published")


@pytest.fixture(scope="module")
def cells(tiny_params):
    """The cells of all methods by method."""
    digests = {"formation_energy": "f", "all_sources": "j"}
    return {cell.method: cell for cell in enumerate_cells(tiny_params(**STUDY), "slme", "%", "d", digests)}


@pytest.mark.parametrize("method", POINT)
def test_fold_of_every_method_is_fitted_saved_and_the_same_again(method, files, inputs, cells, tmp_path):
    cell = cells[method]
    task = FoldTask(cell, files, POINT[method], 1, tmp_path / "model", always_save=True)
    report = run_task(task)
    train, rows = inputs.folds(2, cell.seed)[1]
    assert np.array_equal(report.val_rows, rows)
    assert report.val_mae == pytest.approx(np.abs(report.val_pred - inputs.values[rows]).mean())
    assert report.test_pred.shape == (8,)
    assert report.n_train == len(train)
    if method is Method.BASE:
        assert report.test_pred == pytest.approx(np.full(8, inputs.values[train].mean()))
    if method is Method.FREEZING:
        assert report.history["epoch"].iloc[-1] == 4
    features = inputs.features(cell, layer_of(cell, POINT[method]))
    saved = FittedModel.load(tmp_path / "model").predict(np.asarray(features[inputs.test]))
    assert saved == pytest.approx(report.test_pred, rel=1e-4, abs=1e-4)
    again = fit_fold(replace(task, folder=tmp_path / "other", always_save=False))
    assert np.array_equal(again.test_pred, report.test_pred)
    assert again.val_mae == report.val_mae
    assert report.seconds > 0
    assert report.peak_memory > 2**24
    # quick regressors are saved only on request, networks and the plain median at once
    at_once = method.family is Family.NETWORK or method is Method.PLAIN_MEDIAN
    assert (tmp_path / "other" / "member.json").is_file() == at_once


@pytest.mark.parametrize(
    ("method", "source", "renewed"),
    [
        (Method.FINETUNE, "formation_energy", set()),
        (Method.MODFINETUNE, "formation_energy", {"head/kernel", "head/bias"}),
        (Method.RESNET_FINETUNE, "all_sources", {"head/kernel", "head/bias"}),
    ],
)
def test_fine_tuning_starts_from_the_source_and_only_modified_fine_tuning_renews_the_head(
    files, cells, monkeypatch, method, source, renewed
):
    given = {}

    class Recording:
        def fit(self, features, *arguments, **options):
            network = tasks.NetworkTrainer().network(features.shape[1], arguments[2], options["architecture"])
            given.update(weights=arguments[3](network), names=[w.path for w in network.weights], **options)
            raise InterruptedError

    monkeypatch.setattr(tasks, "trainer", Recording)
    with pytest.raises(InterruptedError):
        fit_fold(FoldTask(cells[method], files, RATE, 0))
    network = dict(files.networks)[source]
    pairs = zip(given["names"], given["weights"], load_network(network).get_weights(), strict=True)
    differing = {name for name, ours, theirs in pairs if not np.array_equal(ours, theirs)}
    assert differing | {"head/bias"} == renewed | {"head/bias"}
    if method is Method.RESNET_FINETUNE:
        assert np.array_equal(given["scaling"], np.load(network.with_name("scaling.npy")))
    else:
        assert given["scaling"] is None


def test_screening_of_the_base_needs_no_trial_and_that_of_a_network_keeps_the_history_of_the_best(
    files, inputs, cells
):
    report = run_task(ScreenTask(cells[Method.BASE], files, None))
    train, validation = inputs.screening(cells[Method.BASE].seed)
    assert (report.hyperparameters, len(report.trials)) == ({}, 0)
    expected = np.abs(inputs.values[validation] - inputs.values[train].mean()).mean()
    assert report.val_mae == pytest.approx(expected)
    report = run_task(ScreenTask(cells[Method.FINETUNE], files, None))
    assert report.history["val_mae"].iloc[-1] == pytest.approx(report.val_mae, rel=1e-5)
    assert 0.0005 <= report.hyperparameters["learning_rate"] <= 0.002


def test_screening_tries_the_defaults_first_reports_the_best_and_goes_on_from_its_journal(
    files, cells, tmp_path, monkeypatch
):
    task = ScreenTask(cells[Method.ML], files, tmp_path / "journal.log")
    report, again = run_task(task), run_task(ScreenTask(cells[Method.ML], files, tmp_path / "other.log"))
    assert report.trials["params_algorithm"].tolist()[:2] == ["extra_trees", "ridge"]
    assert len(report.trials) == cells[Method.ML].n_trials == 3  # of six, boosting has the others
    assert report.val_mae == report.trials[report.trials["state"] == "COMPLETE"]["value"].min()
    monkeypatch.setattr(tasks, "fit_regressor", lambda *args: pytest.fail("fitted again"))
    for other in (again, run_task(task)):
        assert (other.hyperparameters, other.val_mae) == (report.hyperparameters, report.val_mae)
