"""The pieces of work themselves, on a few rows: every method, the same twice, and what they leave behind."""

from __future__ import annotations

import numpy as np
import pytest
from made import files_of

from crossprop.experiments.grid import enumerate_cells
from crossprop.experiments.inputs import TargetInputs
from crossprop.experiments.tasks import FoldTask, ScreenTask, fit_fold, layer_of, run_task, screen
from crossprop.methods import Method
from crossprop.models.fitted import FittedModel
from crossprop.paths import StudyPaths

pytestmark = pytest.mark.usefixtures("tensorflow")
POINT = {
    Method.BASE: {},
    Method.PLAIN_BASELINE: {},
    Method.PLAIN_MEDIAN: {},
    Method.ML: {"algorithm": "ridge", "ridge.alpha": 0.1},
    Method.DL: {"learning_rate": 0.001},
    Method.ML_FEATEXTR: {"layer": "hidden_15", "algorithm": "extra_trees", "extra_trees.n_estimators": 10},
    Method.DL_FEATEXTR: {"layer": "hidden_16", "learning_rate": 0.001},
    Method.FINETUNE: {"learning_rate": 0.001},
    Method.MODFINETUNE: {"learning_rate": 0.001},
    Method.FREEZING: {"learning_rate": 0.001},
    Method.BOOST: {
        "algorithm": "hist_gradient_boosting",
        "hist_gradient_boosting.max_iter": 10,
        "hist_gradient_boosting.min_samples_leaf": 2,
    },
    Method.BOOST_SOURCES: {"algorithm": "svr", "svr.C": 2.0, "target_transform": "identity"},
    Method.RESNET: {"learning_rate": 0.001},
    Method.RESNET_FINETUNE: {"learning_rate": 0.001},
}
"""A point of every method that fits something: all but the blend."""
JOINT = {
    "joint": {"all_sources": ["formation_energy"]},
    "joint_pretrain": {"epochs": 1, "batch_size": 16, "learning_rate": 0.001},
}


@pytest.fixture
def files(tmp_path, write_study, pretrained_joint):
    write_study(tmp_path, n=40)
    network = StudyPaths("tiny", tmp_path).source_model("formation_energy") / "network.keras"
    joint = pretrained_joint / "network.keras"
    return files_of(tmp_path, ("formation_energy", network), ("all_sources", joint))


@pytest.fixture
def cells(tiny_params):
    """The cells of all methods by method; keywords change the study."""

    def build(**changes):
        study = {
            **JOINT,
            "methods": list(POINT),
            "budget": {"ml_trials": 6, "dl_trials": 5, "seconds": 600},
        } | changes
        digests = {"formation_energy": "f", "all_sources": "j"}
        found = enumerate_cells(tiny_params(**study), "slme", "%", "d", digests)
        return {cell.method: cell for cell in found}

    return build


@pytest.mark.parametrize("method", POINT)
def test_fold_of_every_method_is_fitted_saved_and_the_same_again(method, files, cells, tmp_path):
    cell = cells()[method]
    point = POINT[method]
    task = FoldTask(cell, files, point, 1, tmp_path / "model", always_save=True)
    report = fit_fold(task)
    inputs = TargetInputs(files, "published")
    _, rows = inputs.folds(2, cell.seed)[1]
    assert np.array_equal(report.val_rows, rows)
    assert report.val_mae == pytest.approx(np.abs(report.val_pred - inputs.values[rows]).mean())
    assert report.test_pred.shape == (8,)
    assert report.n_train == 32 - len(rows)
    features = inputs.features(cell, layer_of(cell, POINT[method]))
    saved = FittedModel.load(tmp_path / "model").predict(np.asarray(features[inputs.test]))
    assert saved == pytest.approx(report.test_pred, rel=1e-5)
    again = fit_fold(task)
    assert np.array_equal(again.test_pred, report.test_pred)
    assert again.val_mae == report.val_mae
    assert report.seconds > 0
    assert report.peak_memory > 2**24


def test_fold_is_fitted_without_being_saved_where_nobody_asks(files, cells, tmp_path):
    report = run_task(FoldTask(cells()[Method.BASE], files, {}, 0, None))
    inputs = TargetInputs(files, "published")
    train, _ = inputs.folds(2, cells()[Method.BASE].seed)[0]
    assert report.test_pred == pytest.approx(np.full(8, inputs.values[train].mean()))


def test_quick_regressors_are_saved_only_on_request_and_networks_at_once(files, cells, tmp_path):
    for method, saved in ((Method.ML, False), (Method.BASE, False), (Method.RESNET, True)):
        point = POINT[method]
        fit_fold(FoldTask(cells()[method], files, point, 0, tmp_path / method))
        assert (tmp_path / method / "member.json").is_file() == saved


def test_boosting_beside_the_sources_reads_their_predictions(files, cells):
    inputs = TargetInputs(files, "published")
    own, beside = (inputs.features(cells()[m], None) for m in (Method.BOOST, Method.BOOST_SOURCES))
    assert beside.shape == (40, 232)  # fractions, attributes, and one source
    assert np.array_equal(beside[:, :231], own)
    assert np.ptp(beside[:, 231]) > 0


def test_fine_tuned_residual_network_keeps_the_scaling_of_its_source(
    files, cells, tmp_path, pretrained_joint
):
    point = {"learning_rate": 0.001}
    for method in (Method.RESNET, Method.RESNET_FINETUNE):
        fit_fold(FoldTask(cells()[method], files, point, 0, tmp_path / method))
    scaling = np.load(pretrained_joint / "scaling.npy")
    assert np.array_equal(FittedModel.load(tmp_path / "resnet_finetune").scaling, scaling)
    assert not np.array_equal(FittedModel.load(tmp_path / "resnet").scaling, scaling)


def test_fine_tuned_residual_network_starts_from_the_joint_one_with_a_new_head(files, cells, monkeypatch):
    from crossprop.experiments import tasks
    from crossprop.models.transfer import load_network

    given = {}

    class Recording:
        def fit(self, *arguments, **options):
            network = tasks.NetworkTrainer().network(231, arguments[3], options["architecture"])
            given["weights"], given["names"] = arguments[4](network), [w.path for w in network.weights]
            raise InterruptedError

    monkeypatch.setattr(tasks, "trainer", Recording)
    with pytest.raises(InterruptedError):
        fit_fold(FoldTask(cells()[Method.RESNET_FINETUNE], files, {"learning_rate": 0.001}, 0))
    source = load_network(dict(files.networks)["all_sources"]).get_weights()
    same = [np.array_equal(a, b) for a, b in zip(given["weights"], source, strict=True)]
    differing = {name for name, equal in zip(given["names"], same, strict=True) if not equal}
    assert differing <= {"head/kernel", "head/bias"}
    assert "head/kernel" in differing


def test_base_is_screened_without_a_trial(files, cells):
    report = run_task(ScreenTask(cells()[Method.BASE], files, None))
    inputs = TargetInputs(files, "published")
    train, validation = inputs.screening(cells()[Method.BASE].seed)
    assert report.hyperparameters == {}
    assert len(report.trials) == 0
    expected = np.abs(inputs.values[validation] - inputs.values[train].mean()).mean()
    assert report.val_mae == pytest.approx(expected)


def test_screening_of_regressors_tries_the_defaults_first_and_reports_the_best(files, cells, tmp_path):
    cell = cells()[Method.ML]
    report = screen(ScreenTask(cell, files, tmp_path / "journal.log"))
    assert report.trials["params_algorithm"].tolist()[:2] == ["extra_trees", "ridge"]
    assert len(report.trials) == cell.n_trials == 3  # of six, boosting has the others
    complete = report.trials[report.trials["state"] == "COMPLETE"]
    assert report.val_mae == complete["value"].min()
    again = screen(ScreenTask(cell, files, tmp_path / "other.log"))
    assert again.hyperparameters == report.hyperparameters
    assert again.val_mae == report.val_mae


def test_screened_value_is_what_the_best_point_gives(files, cells, tmp_path):
    cell = cells()[Method.FINETUNE]
    report = screen(ScreenTask(cell, files, None))
    assert report.history["val_mae"].iloc[-1] == pytest.approx(report.val_mae, rel=1e-5)
    assert list(report.history.columns) == ["epoch", "loss", "val_mae"]
    assert 0.0005 <= report.hyperparameters["learning_rate"] <= 0.002


def test_screening_taken_up_from_a_finished_journal_does_no_fit(files, cells, tmp_path, monkeypatch):
    cell = cells()[Method.ML]
    first = screen(ScreenTask(cell, files, tmp_path / "journal.log"))

    def never(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr("crossprop.experiments.tasks.fit_regressor", never)
    again = screen(ScreenTask(cell, files, tmp_path / "journal.log"))
    assert (again.hyperparameters, again.val_mae) == (first.hyperparameters, first.val_mae)


def test_few_rows_get_as_many_epochs_as_the_least_number_of_steps_needs(files, cells, tmp_path):
    recipe = {"epochs": 1, "batch_size": 8, "min_steps": 7, "learning_rate": 0.001, "schedule": "constant"}
    cell = cells(scratch=recipe)[Method.FREEZING]
    report = fit_fold(FoldTask(cell, files, {"learning_rate": 0.001}, 0, None))
    # 16 rows to train on make 2 steps an epoch: 4 epochs for 7 steps
    assert report.history["epoch"].iloc[-1] == 4


def test_modified_fine_tuning_differs_from_plain_by_its_head(files, cells):
    by_method = cells()
    point = {"learning_rate": 0.001}
    plain, modified, scratch = (
        fit_fold(FoldTask(by_method[m], files, point, 0, None)).test_pred
        for m in (Method.FINETUNE, Method.MODFINETUNE, Method.DL)
    )
    assert not np.allclose(plain, modified)
    assert not np.allclose(plain, scratch)
