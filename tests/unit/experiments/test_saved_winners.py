"""A winner's folder predicts from formulas what was logged for it: a blend of every kind of representation."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made import files_of, make_fold

from crossprop.data.compositions import fraction_matrix
from crossprop.experiments.assemble import finished_outcome
from crossprop.experiments.grid import enumerate_cells
from crossprop.experiments.inputs import TargetInputs
from crossprop.experiments.selection import choose_winners
from crossprop.experiments.tasks import FoldTask, fit_fold
from crossprop.experiments.winners import ModelPart, TargetOutcome, write_target
from crossprop.methods import Method
from crossprop.models.saved import load_predictor
from crossprop.paths import StudyPaths

TREES = {"algorithm": "extra_trees", "extra_trees.n_estimators": 8}
POINT = {
    Method.BOOST_SOURCES: TREES,
    Method.RESNET_FINETUNE: {"learning_rate": 0.001},
    Method.ML_FEATEXTR: {**TREES, "layer": "hidden_15"},
}
STUDY = {
    "joint": {"all_sources": ["formation_energy"]},
    "joint_pretrain": {"epochs": 1, "batch_size": 16, "learning_rate": 0.001},
    "methods": [*POINT, "ml", "blend"],
    "budget": {"ml_trials": 6, "dl_trials": 6, "seconds": 60_000},
}
WEIGHTS = np.array([[0.5, 0.2], [0.0, 0.45], [0.5, 0.35]])
"""Weight of every part in both folds."""


def test_saved_blend_predicts_as_logged_and_says_what_it_is_made_of(
    tmp_path, write_study, pretrained_joint, tiny_params, tensorflow
):
    write_study(tmp_path, n=60)
    source = StudyPaths("tiny", tmp_path).source_model("formation_energy") / "network.keras"
    networks = (("formation_energy", source), ("all_sources", pretrained_joint / "network.keras"))
    files = files_of(tmp_path, *networks)
    inputs = TargetInputs(files, "published")
    found = enumerate_cells(tiny_params(**STUDY), "slme", "%", "d", {name: name for name, _ in networks})
    cells = {cell.method: cell for cell in found}
    fitted, parts = [], []
    for (method, point), weights in zip(POINT.items(), WEIGHTS.tolist(), strict=True):
        folders = tuple(tmp_path / method / str(k) for k in range(2))
        folds = [
            fit_fold(FoldTask(cells[method], files, point, k, folder, always_save=True))
            for k, folder in enumerate(folders)
        ]
        result = replace(
            finished_outcome(cells[method], None, folds, inputs).result, layer=point.get("layer")
        )
        fitted.append(folds)
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
    assert {part["interval"]["half_width"] for part in described} == {info["interval"]["half_width"]}
    kept = {path.name: sorted(p.name for p in path.iterdir()) for path in folder.iterdir() if path.is_dir()}
    own = ["fold_00", "fold_01", "model.json"]
    assert kept == {
        "part_00": [*own, "scaling.npy", "source.keras"], "part_01": own, "part_02": [*own, "source.keras"],
        "calibration": ["axes.npy", "element_vectors.npy", "points.npy"],
    }  # fmt: skip
    # its interval comes from its own 48 residuals: rank ceil(49 * 0.9) = 45
    residuals = np.concatenate([f.val_pred - values[f.val_rows] for f in folds])
    assert info["interval"]["half_width"] == pytest.approx(np.sort(np.abs(residuals))[44])
