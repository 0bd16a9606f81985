"""A winner's folder predicts from formulas what was logged for it, whatever the method, blends included."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

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

pytestmark = pytest.mark.usefixtures("tensorflow")
TREES = {"algorithm": "extra_trees", "extra_trees.n_estimators": 8}
POINT: dict[Method, dict[str, Any]] = {
    Method.ML: TREES,
    Method.ML_FEATEXTR: {**TREES, "layer": "hidden_15"},
    Method.BOOST: {"algorithm": "hist_gradient_boosting", "hist_gradient_boosting.max_iter": 5},
    Method.BOOST_SOURCES: TREES,
    Method.RESNET: {"learning_rate": 0.001},
    Method.RESNET_FINETUNE: {"learning_rate": 0.001},
}


STUDY = {
    "joint": {"all_sources": ["formation_energy"]},
    "joint_pretrain": {"epochs": 1, "batch_size": 16, "learning_rate": 0.001},
    "methods": [*POINT, "blend"],
    "representations": ["physical_attributes"],
    "budget": {"ml_trials": 6, "dl_trials": 6, "seconds": 60_000},
}


class Workshop:
    """A target, and cells of it that are fitted once and written as winners."""

    def __init__(self, root, networks, params):
        self.root, self.files = root, files_of(root, *networks)
        self.inputs = TargetInputs(self.files, "published")
        digests = {name: name for name, _ in networks}
        self.cells = {c.method: c for c in enumerate_cells(params, "slme", "%", "d", digests)}
        self.fit = cache(self._fit)
        self.fractions = fraction_matrix(self.inputs.frame["formula"].iloc[self.inputs.test])

    def _fit(self, method):
        """Both folds of a method, its outcome, and its part of a model."""
        cell, point = self.cells[method], POINT[method]
        folders = tuple(self.root / str(method) / str(k) for k in range(cell.folds))
        folds = [
            fit_fold(FoldTask(cell, self.files, point, k, folder, always_save=True))
            for k, folder in enumerate(folders)
        ]
        outcome = finished_outcome(cell, None, folds, self.inputs)
        if cell.uses_activations:
            outcome = replace(outcome, result=replace(outcome.result, layer=point["layer"]))
        return folds, outcome, ModelPart(outcome.result, (1.0, 1.0), folders)

    def write(self, outcome, *parts):
        """Write the folder of a target with one winner; returns the folder of its model."""
        whole = TargetOutcome((outcome,), choose_winners([outcome.result]), parts, pd.DataFrame())
        folder = self.root / "results" / outcome.result.cell
        write_target(whole, {outcome.result.cell: "run"}, self.files, folder)
        return folder / "model"

    def check(self, folder, folds, outcome):
        """The model predicts for every fold, and as their mean, what was logged."""
        predicted = load_predictor(folder).predict_members(self.fractions)
        assert predicted == pytest.approx(np.stack([f.test_pred for f in folds]), rel=1e-4, abs=1e-6)
        table = outcome.predictions
        logged = table[table["split"] == "test"]["y_pred_ensemble"].to_numpy()
        assert load_predictor(folder).predict(self.fractions) == pytest.approx(logged, rel=1e-4, abs=1e-6)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory, write_study, pretrained_joint, tiny_params, tensorflow):
    root = tmp_path_factory.mktemp("winners")
    write_study(root, n=60)
    source = StudyPaths("tiny", root).source_model("formation_energy") / "network.keras"
    networks = (("formation_energy", source), ("all_sources", pretrained_joint / "network.keras"))
    return Workshop(root, networks, tiny_params(**STUDY))


@pytest.mark.parametrize("method", POINT)
def test_saved_ensemble_gives_back_what_every_fold_predicted(workshop, method):
    folds, outcome, part = workshop.fit(method)
    workshop.check(workshop.write(outcome, part), folds, outcome)


WEIGHTS = np.array([[0.5, 0.2], [0.0, 0.45], [0.5, 0.35]])
"""Weight of every part in both folds."""


def test_saved_blend_predicts_as_logged_and_says_what_it_is_made_of(workshop):
    """Trees on predicted sources, a residual network, and trees on activations."""
    methods = [Method.BOOST_SOURCES, Method.RESNET_FINETUNE, Method.ML_FEATEXTR]
    fitted, _, parts = zip(*map(workshop.fit, methods), strict=True)
    values, folds = workshop.inputs.values, []
    for k, share in enumerate(WEIGHTS.T):
        rows = fitted[0][k].val_rows
        val, test = (share @ [getattr(f[k], name) for f in fitted] for name in ("val_pred", "test_pred"))
        folds.append(make_fold(rows, val, test, values))
    outcome = finished_outcome(workshop.cells[Method.BLEND], None, folds, workshop.inputs)
    weighted = [replace(part, weights=tuple(w)) for part, w in zip(parts, WEIGHTS.tolist(), strict=True)]
    folder = workshop.write(outcome, *weighted)
    workshop.check(folder, folds, outcome)

    info = json.loads((folder / "model.json").read_text())
    assert (info["method"], info["cell"], info["target"]) == ("blend", outcome.result.cell, "slme")
    assert info["parts"] == {"part_00": [0.5, 0.2], "part_01": [0.0, 0.45], "part_02": [0.5, 0.35]}
    described = [json.loads((folder / name / "model.json").read_text()) for name in info["parts"]]
    assert [part["method"] for part in described] == methods
    assert {part["interval"]["half_width"] for part in described} == {info["interval"]["half_width"]}
    files = {path.name: sorted(p.name for p in path.iterdir()) for path in folder.iterdir() if path.is_dir()}
    own = ["fold_00", "fold_01", "model.json"]
    assert files == {
        "part_00": [*own, "scaling.npy", "source.keras"], "part_01": own, "part_02": [*own, "source.keras"],
        "calibration": ["axes.npy", "element_vectors.npy", "points.npy"],
    }  # fmt: skip
    residuals = np.concatenate([f.val_pred - values[f.val_rows] for f in folds])
    assert len(residuals) == 48
    # its interval comes from its own residuals: rank ceil(49 * 0.9) = 45
    assert info["interval"]["half_width"] == pytest.approx(np.sort(np.abs(residuals))[44])
