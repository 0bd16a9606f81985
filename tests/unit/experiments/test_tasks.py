"""The tasks, on a few rows: which rows and steps they get, every method, the same twice, and what they leave behind."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made import files_of
from sklearn.ensemble import ExtraTreesRegressor

from crossprop.experiments import tasks
from crossprop.experiments.grid import enumerate_cells
from crossprop.experiments.inputs import TargetInputs
from crossprop.experiments.tasks import FoldTask, ScreenTask, fit_fold, fold_rows, run_task
from crossprop.features.matrices import load_combined
from crossprop.methods import Family, Method
from crossprop.models.fitted import FittedModel
from crossprop.models.target_transform import TargetTransform
from crossprop.models.transfer import load_network
from crossprop.paths import StudyPaths
from crossprop.training.trainer import fit_base

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
    # 43 rows to train on make 5 steps an epoch: 4 epochs for 17 steps
    "scratch": {"epochs": 1, "batch_size": 8, "min_steps": 17, **RATE, "schedule": "constant"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_study, pretrained_joint):
    """Eighty rows to learn from, six more that repeat the hold-out of twenty."""
    root = tmp_path_factory.mktemp("tasks")
    write_study(root, n=100, repeated=6)
    network = StudyPaths("tiny", root).source_model("formation_energy") / "network.keras"
    joint = pretrained_joint / "network.keras"
    return files_of(root, ("formation_energy", network), ("all_sources", joint))


@pytest.fixture(scope="module")
def inputs(files):
    return TargetInputs(files, "published")


@pytest.fixture(scope="module")
def enumerated(tiny_params):
    """Makes the cells of all methods by method; keywords change the study."""

    def cells(**changes):
        digests = {"formation_energy": "f", "all_sources": "j"}
        found = enumerate_cells(tiny_params(**(STUDY | changes)), "slme", "%", "d", digests)
        return {cell.method: cell for cell in found}

    return cells


@pytest.fixture(scope="module")
def cells(enumerated):
    return enumerated()


def test_all_cells_are_screened_on_the_same_few_rows_and_steps(enumerated, cells, files, inputs, monkeypatch):
    seen = []

    def fake(cell, inputs, hyperparameters, train, validation, seed, on_epoch=None, most_steps=None):
        seen.append((list(train), most_steps))
        assert not set(train) & set(validation)
        return fit_base(inputs.values[train]), pd.DataFrame(columns=tasks.HISTORY)

    def screened(cell):
        """Rows and most steps of every fit of a screening."""
        seen.clear()
        tasks.screen(ScreenTask(cell, files, None))
        return list(zip(*seen, strict=True))

    monkeypatch.setattr(tasks, "_fit", fake)
    fidelity = {"rows": 50, "steps": 7, "after_screening": 1, "after_first_fold": 1, "margin": 0.1}
    limited = enumerated(fidelity=fidelity)
    few = {method: screened(limited[method]) for method in POINT if method.tuned}
    largest = [max(rows, key=len) for rows, _ in few.values()]
    assert {tuple(rows) for rows in largest} == {tuple(largest[0])}
    whole, _ = inputs.screening(1234567)
    assert len(largest[0]) == 50
    assert set(largest[0]) < set(whole)
    assert largest[0] == sorted(largest[0])
    # regressors are judged on a third of those rows first
    first, second, *_ = few[Method.ML][0]
    assert (len(first), len(second)) == (17, 50)
    assert set(first) < set(second)
    # the steps of a screening are limited, those of a fold are not
    assert set(few[Method.DL][1]) == {7}
    fit_fold(FoldTask(limited[Method.DL], files, RATE, 0))
    assert seen[-1][1] is None
    # without a limit below them all rows are seen, and for the base anyway
    generous = enumerated(fidelity=fidelity | {"rows": 5000})[Method.DL]
    for cell in (cells[Method.ML], generous, limited[Method.BASE]):
        assert max(screened(cell)[0], key=len) == list(whole)


def test_strict_fold_leaves_out_the_rows_that_repeat_the_hold_out_and_no_others(files, inputs, cells):
    held_out = set(inputs.frame["composition"].iloc[inputs.test])
    n_dropped = 0
    for fold in range(2):
        task = FoldTask(cells[Method.DL], files, {}, fold)
        plain, validation = fold_rows(task, inputs)
        strict, same = fold_rows(replace(task, strict=True), inputs)
        assert np.array_equal(validation, same)
        dropped = set(plain) - set(strict)
        assert set(strict) <= set(plain)
        assert not set(inputs.frame["composition"].iloc[strict]) & held_out
        assert set(inputs.frame["composition"].iloc[sorted(dropped)]) <= held_out
        n_dropped += len(dropped)
    assert n_dropped == 6  # each in the training rows of one of the two folds


def test_share_is_that_part_of_the_folds_training_rows_and_the_same_for_all_cells(files, inputs, cells):
    whole, validation = fold_rows(FoldTask(cells[Method.DL], files, {}, 1), inputs)
    smaller: set[int] = set()
    for share in (0.1, 0.25, 0.6):
        parts = [fold_rows(FoldTask(cell, files, {}, 1, share=share), inputs) for cell in cells.values()]
        assert len({tuple(part) for part, _ in parts}) == 1
        part, same = parts[0]
        assert len(part) == round(share * len(whole))
        assert smaller < set(part) < set(whole)
        assert np.array_equal(validation, same)
        assert list(part) == sorted(part)
        smaller = set(part)
    report = fit_fold(FoldTask(cells[Method.BASE], files, {}, 1, share=1e-6))
    assert report.n_train == 2


@pytest.mark.parametrize("method", POINT)
def test_fold_of_every_method_is_saved_and_repeated(method, files, inputs, cells, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "SAVED_FROM_SECONDS", 1e6)  # on a busy machine, too
    cell = cells[method]
    task = FoldTask(cell, files, POINT[method], 1, tmp_path / "model", always_save=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "member.json").write_text("half of an earlier try")
    report = run_task(task)
    train, rows = inputs.folds(2, cell.seed)[1]
    assert np.array_equal(report.val_rows, rows)
    assert report.val_mae == pytest.approx(np.abs(report.val_pred - inputs.values[rows]).mean())
    assert report.test_pred.shape == (20,)
    assert report.n_train == len(train)
    if method is Method.BASE:
        assert report.test_pred == pytest.approx(np.full(20, inputs.values[train].mean()))
    if method is Method.FREEZING:
        assert report.history["epoch"].iloc[-1] == 4
    features = inputs.features(cell, tasks.layer_of(cell, POINT[method]))
    saved = FittedModel.load(tmp_path / "model").predict(np.asarray(features[inputs.test]))
    assert saved == pytest.approx(report.test_pred, rel=1e-4, abs=1e-4)
    again = fit_fold(replace(task, folder=tmp_path / "other", always_save=False))
    assert np.array_equal(again.test_pred, report.test_pred)
    assert again.val_mae == report.val_mae
    assert report.seconds > 0
    assert 2**24 < report.peak_memory < 2**38
    # quick regressors are saved only on request, networks and the plain median at once
    at_once = method.family is Family.NETWORK or method is Method.PLAIN_MEDIAN
    assert (tmp_path / "other" / "member.json").is_file() == at_once


def test_the_plain_models_are_scikit_learns_defaults_on_fractions_beside_attributes(files, inputs, cells):
    median, baseline = cells[Method.PLAIN_MEDIAN], cells[Method.PLAIN_BASELINE]
    report, alone = (fit_fold(FoldTask(cell, files, {}, 1)) for cell in (median, baseline))
    both = load_combined(files.features)
    train, validation = inputs.folds(median.folds, median.seed)[1]
    # of equal splits rounding decides: the same scale makes the same trees
    transform = TargetTransform.fit(inputs.values[train], "identity")
    forest = ExtraTreesRegressor(300, random_state=median.seed_for_target("plain", 1))
    forest.fit(both[train], transform.forward(inputs.values[train]))
    trees = np.stack([transform.inverse(tree.predict(both[validation])) for tree in forest.estimators_])
    assert report.val_pred == pytest.approx(np.median(trees, axis=0), rel=1e-5, abs=1e-6)
    assert report.baseline.val_pred == pytest.approx(trees.mean(axis=0), rel=1e-5, abs=1e-6)
    assert np.array_equal(alone.val_pred, report.baseline.val_pred)


@pytest.mark.parametrize(
    ("method", "source", "renewed"),
    [
        (Method.FINETUNE, "formation_energy", set()),
        (Method.MODFINETUNE, "formation_energy", {"head/kernel", "head/bias"}),
        (Method.RESNET_FINETUNE, "all_sources", {"head/kernel", "head/bias"}),
    ],
)
def test_only_modified_fine_tuning_renews_the_head(files, cells, monkeypatch, method, source, renewed):
    given = {}

    class Recording:
        def fit(self, features, *arguments, **options):
            network = tasks.NetworkTrainer().network(features.shape[1], arguments[2], options["architecture"])
            given.update(weights=arguments[3](network), names=[w.path for w in network.weights], **options)
            raise InterruptedError

    monkeypatch.setattr(tasks, "trainer", lambda precision: Recording())
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


def test_screening_of_the_base_has_no_trial_and_of_a_network_the_history_of_the_best(files, inputs, cells):
    report = run_task(ScreenTask(cells[Method.BASE], files, None))
    train, validation = inputs.screening(cells[Method.BASE].seed)
    assert (report.hyperparameters, len(report.trials)) == ({}, 0)
    expected = np.abs(inputs.values[validation] - inputs.values[train].mean()).mean()
    assert report.val_mae == pytest.approx(expected)
    exact = replace(cells[Method.FINETUNE], precision="float32")
    report = run_task(ScreenTask(exact, files, None))
    assert report.history["val_mae"].iloc[-1] == pytest.approx(report.val_mae, rel=1e-5)
    assert 0.0005 <= report.hyperparameters["learning_rate"] <= 0.002


def test_screening_tries_the_defaults_first_and_goes_on_from_its_journal(files, cells, tmp_path, monkeypatch):
    task = ScreenTask(cells[Method.ML], files, tmp_path / "journal.log")
    report, again = run_task(task), run_task(ScreenTask(cells[Method.ML], files, tmp_path / "other.log"))
    assert report.trials["params_algorithm"].tolist()[:2] == ["extra_trees", "ridge"]
    assert len(report.trials) == cells[Method.ML].n_trials == 3  # of six, boosting has the others
    assert report.val_mae == report.trials[report.trials["state"] == "COMPLETE"]["value"].min()
    monkeypatch.setattr(tasks, "fit_regressor", lambda *args: pytest.fail("fitted again"))
    for other in (again, run_task(task)):
        assert (other.hyperparameters, other.val_mae) == (report.hyperparameters, report.val_mae)
