"""The results folder of a target: figures by hand, tables, and a winner's model that predicts as logged."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made import files_of, make_fold

from crossprop.data.compositions import ELEMENTS, fraction_matrix
from crossprop.errors import StoreError
from crossprop.experiments.assemble import finished_outcome
from crossprop.experiments.grid import enumerate_cells
from crossprop.experiments.inputs import TargetInputs
from crossprop.experiments.results import CellResult
from crossprop.experiments.selection import choose_winners
from crossprop.experiments.tasks import FoldTask, fit_fold
from crossprop.experiments.winners import ModelPart, TargetOutcome, write_target
from crossprop.methods import Method
from crossprop.models.saved import load_predictor
from crossprop.paths import StudyPaths

STUDY = {
    "methods": ["base", "ml", "finetune"],
    "sources": ["formation_energy", "band_gap"],
    "folds": 3,
    "budget": {"ml_trials": 2, "dl_trials": 2, "seconds": 60},
}
FINE_TUNED = [4.0, 9.0, 9.0, 9.0]
ERRORS = {"base": [9.0] * 4, "ml(EF)": [2.5, 3.0, 1.0, -2.0], "finetune(formation_energy)": FINE_TUNED}
TREES = {"algorithm": "extra_trees", "extra_trees.n_estimators": 8}
POINT = {
    Method.BOOST_SOURCES: TREES,
    Method.RESNET_FINETUNE: {"learning_rate": 0.001},
    Method.ML_FEATEXTR: {**TREES, "layer": "hidden_15"},
}
BLENDED = {
    "joint": {"all_sources": ["formation_energy"]},
    "joint_pretrain": {"epochs": 1, "batch_size": 16, "learning_rate": 0.001},
    "methods": [*POINT, "ml", "blend"],
    "budget": {"ml_trials": 6, "dl_trials": 6, "seconds": 60_000},
}
WEIGHTS = np.array([[0.5, 0.2], [0.0, 0.45], [0.5, 0.35]])
"""Weight of every part in both folds."""


@pytest.fixture
def made(rehearsal):
    """A target of which ml wins; one source is fine-tuned in vain, the other fails."""
    made = rehearsal()
    made.failing = {("finetune(band_gap)", "screening"), ("finetune(formation_energy)", "fold_01")}
    made.outcome = made.finish()
    made.folder = made.paths.results("slme")
    made.ids = {cell.id: f"run of {cell.label}" for cell in made.cells}
    return made


def write(made, **changes):
    write_target(replace(made.outcome, **changes), made.ids, made.files, made.folder)


def test_figures_of_a_cell_are_those_of_a_hand_computation(made):
    base, ml, *failed = (outcome.result for outcome in made.outcome.outcomes)
    assert (ml.cv_mae, ml.best_fold) == (pytest.approx((3.0, 1.0, 2.0)), 1)
    assert (ml.test_mae, ml.test_mae_low, ml.test_mae_high, ml.test_q95) == pytest.approx((1.0,) * 4)
    assert ml.test_mae_ensemble == pytest.approx(2 / 3)  # the mean of 3, 1 and -2
    assert (ml.n_train, ml.n_test, ml.n_trials, ml.val_mae) == (24, 6, 1, 2.5)
    assert ml.hyperparameters == {"learning_rate": 0.001}
    values, inputs = made.inputs.values, made.inputs
    median = np.abs(values[inputs.test] - np.median(values[inputs.train])).mean()
    assert (base.test_mae_median, ml.test_mae_median) == (pytest.approx(median), None)
    cost = made.outcome.outcomes[1].cost
    assert (cost.tune_seconds, cost.fit_seconds, cost.peak_memory) == (1.0, 4 * 0.5, 20)  # one strict
    for result, outcome in zip(failed, made.outcome.outcomes[2:], strict=True):
        assert result.failure.startswith("DivergedError")
        assert (result.test_mae, result.cv_mae, len(outcome.predictions)) == (None, None, 0)
    table = made.outcome.outcomes[1].predictions
    validation, test = (table[table["split"] == split] for split in ("validation", "test"))
    assert (len(validation), len(test), set(test["fold"])) == (24, 6, {1})
    assert validation["formula"].is_unique
    assert validation["y_pred_ensemble"].isna().all()
    assert (test["y_pred_ensemble"] - test["y_true"]).tolist() == pytest.approx([2 / 3] * 6)


def test_results_folder_holds_every_cell_and_the_model_of_the_winner(made):
    write(made)
    cells, folder = made.cells, made.folder
    read = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    tables = {path.stem: pd.read_parquet(path) for path in folder.glob("*.parquet")}
    assert [CellResult.from_dict(c) for c in read["cells"]] == [o.result for o in made.outcome.outcomes]
    assert read["winners"] == {"best_sc": cells[1].id, "best_tl": None, "winner": cells[1].id}
    assert read["runs"][1] == {
        "cell": cells[1].id, "run_id": "run of ml(EF)", "tune_seconds": 1.0, "fit_seconds": 2.0, "peak_memory": 20,
    }  # fmt: skip
    assert list(tables["trials"].columns) == ["cell", "number", "state", "value", "seconds", "params"]
    assert json.loads(tables["trials"]["params"][0]) == {"learning_rate": 0.001}
    assert set(tables["predictions"]["cell"]) == {cells[0].id, cells[1].id}
    assert set(tables) == {"predictions", "history", "trials", "learning_curve"}

    info = json.loads((folder / "model" / "model.json").read_text())
    assert (info["target"], info["unit"], info["cell"]) == ("slme", "%", cells[1].id)
    assert info["members"] == ["fold_00", "fold_01", "fold_02"]
    learnt = made.inputs.frame["formula"].iloc[made.inputs.train]
    assert {e for e in ELEMENTS if learnt.str.contains(rf"{e}(?![a-z])").any()} == set(info["seen_elements"])
    # of 8 errors each of 1, 2 and 3, less the gain of an ensemble that is 1/3 off the best fold
    assert info["interval"]["scale"] == pytest.approx(3 * (1 - (1 / 9) / (14 / 3)) ** 0.5)
    assert load_predictor(folder / "model").predict(np.eye(86)[:2]).tolist() == [1.0, 1.0]  # of 0, 1 and 2


def test_target_without_a_winner_has_an_empty_model_folder_and_a_lost_model_is_named(made):
    lost = (made.outcome.outcomes[0], made.outcome.outcomes[3])
    write(made, outcomes=lost, winners=choose_winners(o.result for o in lost), parts=())
    assert set(json.loads((made.folder / "winners.json").read_text()).values()) == {None}
    assert list((made.folder / "model").iterdir()) == []
    (part,) = made.outcome.parts
    with pytest.raises(StoreError, match=r"the model fold_01 of ml\(EF\) is gone from the cell store"):
        write(made, parts=(replace(part, folders=(part.folders[0], None)),))
    assert list(made.folder.parent.iterdir()) == [made.folder], "no half of it is left"


@pytest.mark.usefixtures("tensorflow")
def test_saved_blend_predicts_as_logged(tmp_path, write_study, pretrained_joint, tiny_params):
    write_study(tmp_path, n=60)
    source = StudyPaths("tiny", tmp_path).source_model("formation_energy") / "network.keras"
    networks = (("formation_energy", source), ("all_sources", pretrained_joint / "network.keras"))
    files = files_of(tmp_path, *networks)
    inputs = TargetInputs(files, "published")
    found = enumerate_cells(tiny_params(**BLENDED), "slme", "%", "d", {name: name for name, _ in networks})
    cells = {cell.method: cell for cell in found}
    fitted, parts = [], []
    for (method, point), weights in zip(POINT.items(), WEIGHTS.tolist(), strict=True):
        folders = tuple(tmp_path / method / str(k) for k in range(2))
        tasks = (FoldTask(cells[method], files, point, k, f, always_save=True) for k, f in enumerate(folders))
        fitted.append([fit_fold(task) for task in tasks])
        result = finished_outcome(cells[method], None, fitted[-1], inputs).result
        result = replace(result, layer=point.get("layer"))
        parts.append(ModelPart(result, tuple(weights), folders))
    values, folds = inputs.values, []
    for k, share in enumerate(WEIGHTS.T):
        rows = fitted[0][k].val_rows
        val, test = (share @ [getattr(f[k], name) for f in fitted] for name in ("val_pred", "test_pred"))
        folds.append(make_fold(rows, val, test, values))
    outcome = finished_outcome(cells[Method.BLEND], None, folds, inputs)
    cell = outcome.result.cell
    whole = TargetOutcome((outcome,), choose_winners([outcome.result]), tuple(parts), pd.DataFrame())
    write_target(whole, {cell: "run"}, files, tmp_path / "results")

    folder = tmp_path / "results" / "model"
    predictor = load_predictor(folder)
    fractions = fraction_matrix(inputs.frame["formula"].iloc[inputs.test])
    predicted = np.stack([fold.test_pred for fold in folds])
    assert predictor.predict_members(fractions) == pytest.approx(predicted, rel=1e-4, abs=1e-6)
    logged = outcome.predictions.query("split == 'test'")["y_pred_ensemble"].to_numpy()
    assert predictor.predict(fractions) == pytest.approx(logged, rel=1e-4, abs=1e-6)
    info = json.loads((folder / "model.json").read_text())
    assert (info["method"], info["cell"], info["target"]) == ("blend", cell, "slme")
    assert info["parts"] == {"part_00": [0.5, 0.2], "part_01": [0.0, 0.45], "part_02": [0.5, 0.35]}
    described = [json.loads((folder / name / "model.json").read_text()) for name in info["parts"]]
    assert [part["method"] for part in described] == list(POINT)
    assert not [part for part in described if "interval" in part]
    kept = {path.name: sorted(p.name for p in path.iterdir()) for path in folder.iterdir() if path.is_dir()}
    own = ["fold_00", "fold_01", "model.json"]
    assert kept == {
        "part_00": [*own, "scaling.npy", "source.keras"], "part_01": own, "part_02": [*own, "source.keras"],
        "calibration": ["axes.npy", "element_vectors.npy", "points.npy"],
    }  # fmt: skip
    # its interval comes from its own 48 residuals: rank ceil(49 * 0.9) = 45
    residuals = np.concatenate([f.val_pred - values[f.val_rows] for f in folds])
    width = np.sort(np.abs(residuals))[44]
    assert 0.9 * width <= info["interval"]["scale"] <= width  # the ensemble errs less than a fold model
