"""A winner's folder predicts from formulas what was logged for it, whatever the method, blends included."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from made import files_of

from crossprop.data.compositions import fraction_matrix
from crossprop.experiments.assemble import finished_outcome
from crossprop.experiments.grid import Cell, enumerate_cells
from crossprop.experiments.inputs import TargetFiles, TargetInputs
from crossprop.experiments.results import CellOutcome
from crossprop.experiments.selection import choose_winners
from crossprop.experiments.tasks import HISTORY, FoldReport, FoldTask, fit_fold
from crossprop.experiments.winners import ChosenModel, ModelPart, TargetOutcome, write_target
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


class Fitted(NamedTuple):
    """The folds of one cell, fitted and saved."""

    cell: Cell
    folds: list[FoldReport]
    outcome: CellOutcome
    part: ModelPart


class Workshop(NamedTuple):
    """A target, its cells by method, and what has been fitted already."""

    files: TargetFiles
    inputs: TargetInputs
    cells: dict[Method, Cell]
    root: Any
    done: dict[Method, Fitted]

    def fit(self, method: Method) -> Fitted:
        """Both folds of a method, once."""
        if method not in self.done:
            cell, point = self.cells[method], POINT[method]
            folders = tuple(self.root / str(method) / str(k) for k in range(cell.folds))
            tasks = [
                FoldTask(cell, self.files, point, k, folder, always_save=True)
                for k, folder in enumerate(folders)
            ]
            folds = [fit_fold(task) for task in tasks]
            outcome = finished_outcome(cell, None, folds, self.inputs)
            if cell.uses_activations:
                outcome = replace(outcome, result=replace(outcome.result, layer=POINT[method]["layer"]))
            part = ModelPart(outcome.result, (1.0, 1.0), folders)
            self.done[method] = Fitted(cell, folds, outcome, part)
        return self.done[method]

    def write(self, outcome: CellOutcome, parts: tuple[ModelPart, ...], name: str) -> Any:
        """Write the folder of a target with one winner; returns the folder of its model."""
        model = ChosenModel(outcome.result, parts)
        whole = TargetOutcome((outcome,), choose_winners([outcome.result]), model, pd.DataFrame())
        write_target(whole, {outcome.result.cell: "run"}, self.files, self.root / name)
        return self.root / name / "model"

    def formulas(self) -> np.ndarray:
        """Fractions of the hold-out, from its formulas."""
        return fraction_matrix(self.inputs.frame["formula"].iloc[self.inputs.test])


@pytest.fixture(scope="module")
def workshop(tmp_path_factory, write_study, pretrained_joint, tiny_params, tensorflow):
    root = tmp_path_factory.mktemp("winners")
    write_study(root, n=60)
    paths = StudyPaths("tiny", root)
    source = paths.source_model("formation_energy") / "network.keras"
    networks = (("formation_energy", source), ("all_sources", pretrained_joint / "network.keras"))
    files = files_of(root, *networks)
    params = tiny_params(
        joint={"all_sources": ["formation_energy"]},
        joint_pretrain={"epochs": 1, "batch_size": 16, "learning_rate": 0.001},
        methods=[*POINT, "blend"],
        representations=["physical_attributes"],
        budget={"ml_trials": 6, "dl_trials": 6, "seconds": 60_000},
    )
    found = enumerate_cells(params, "slme", "%", "d", {"formation_energy": "f", "all_sources": "j"})
    cells = {cell.method: cell for cell in found}
    return Workshop(files, TargetInputs(files, "published"), cells, root, {})


@pytest.mark.parametrize("method", POINT)
def test_saved_ensemble_gives_back_what_every_fold_predicted(workshop, method):
    fitted = workshop.fit(method)
    folder = workshop.write(fitted.outcome, (fitted.part,), f"alone_{method}")
    predicted = load_predictor(folder).predict_members(workshop.formulas())
    for member, fold in zip(predicted, fitted.folds, strict=True):
        assert member == pytest.approx(fold.test_pred, rel=1e-4, abs=1e-6)
    table = fitted.outcome.predictions
    logged = table[table["split"] == "test"]["y_pred_ensemble"].to_numpy()
    assert predicted.mean(axis=0) == pytest.approx(logged, rel=1e-4, abs=1e-6)


WEIGHTS = np.array([[0.5, 0.2], [0.0, 0.45], [0.5, 0.35]])
"""Weight of every part in both folds."""


@pytest.fixture(scope="module")
def blended(workshop):
    """A blend of trees on predicted sources, of a residual network and of trees on activations, saved."""
    fitted = [workshop.fit(m) for m in (Method.BOOST_SOURCES, Method.RESNET_FINETUNE, Method.ML_FEATEXTR)]
    folds = []
    for k in range(2):
        val, test = (
            WEIGHTS[:, k] @ np.stack([getattr(f.folds[k], name) for f in fitted])
            for name in ("val_pred", "test_pred")
        )
        rows = fitted[0].folds[k].val_rows
        error = float(np.abs(val - workshop.inputs.values[rows]).mean())
        folds.append(FoldReport(error, rows, val, test, pd.DataFrame(columns=HISTORY), 0.1, 1, 24))
    outcome = finished_outcome(workshop.cells[Method.BLEND], None, folds, workshop.inputs)
    parts = tuple(replace(f.part, weights=tuple(w)) for f, w in zip(fitted, WEIGHTS.tolist(), strict=True))
    return workshop.write(outcome, parts, "blend"), outcome, folds


def test_saved_blend_predicts_as_logged(workshop, blended):
    folder, outcome, folds = blended
    predictor = load_predictor(folder)
    members = predictor.predict_members(workshop.formulas())
    assert members.shape == (2, 12)
    for member, fold in zip(members, folds, strict=True):
        assert member == pytest.approx(fold.test_pred, rel=1e-4, abs=1e-6)
    table = outcome.predictions
    logged = table[table["split"] == "test"]["y_pred_ensemble"].to_numpy()
    assert predictor.predict(workshop.formulas()) == pytest.approx(logged, rel=1e-4, abs=1e-6)


def test_folder_of_a_blend_says_what_it_is_made_of(workshop, blended):
    folder, outcome, _ = blended
    info = json.loads((folder / "model.json").read_text())
    assert (info["method"], info["cell"], info["target"]) == ("blend", outcome.result.cell, "slme")
    assert info["parts"] == {"part_00": [0.5, 0.2], "part_01": [0.0, 0.45], "part_02": [0.5, 0.35]}
    parts = [json.loads((folder / name / "model.json").read_text()) for name in info["parts"]]
    assert [part["method"] for part in parts] == ["boost_sources", "resnet_finetune", "ml_featextr"]
    assert {part["interval"]["half_width"] for part in parts} == {info["interval"]["half_width"]}
    files = {path.name: sorted(p.name for p in path.iterdir()) for path in folder.iterdir() if path.is_dir()}
    own = ["fold_00", "fold_01", "model.json"]
    assert files == {
        "part_00": [*own, "scaling.npy", "source.keras"], "part_01": own, "part_02": [*own, "source.keras"],
        "calibration": ["axes.npy", "element_vectors.npy", "points.npy"],
    }  # fmt: skip


def test_interval_of_a_blend_comes_from_its_own_residuals(workshop, blended):
    folder, _, folds = blended
    residuals = np.concatenate([f.val_pred - workshop.inputs.values[f.val_rows] for f in folds])
    assert len(residuals) == 48
    half_width = json.loads((folder / "model.json").read_text())["interval"]["half_width"]
    assert half_width == pytest.approx(np.sort(np.abs(residuals))[44])  # rank ceil(49 * 0.9) = 45
