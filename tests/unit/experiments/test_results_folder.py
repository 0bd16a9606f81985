"""The results folder of a target."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from made import files_of

from crossprop.errors import StoreError
from crossprop.experiments.assemble import failed_outcome, finished_outcome, screened_outcome
from crossprop.experiments.grid import Cell, enumerate_cells
from crossprop.experiments.inputs import TargetFiles, TargetInputs
from crossprop.experiments.results import CellResult
from crossprop.experiments.selection import choose_winners
from crossprop.experiments.tasks import FoldReport, ScreenReport
from crossprop.experiments.winners import CURVE, ChosenModel, ModelPart, TargetOutcome, write_target
from crossprop.paths import StudyPaths
from crossprop.training.trainer import fit_base

HISTORY = pd.DataFrame(columns=["epoch", "loss", "val_mae"])


class Made(NamedTuple):
    """A finished target and what its folder is written from."""

    outcome: TargetOutcome
    cells: list[Cell]
    run_ids: dict[str, str]
    files: TargetFiles
    folder: Path
    inputs: TargetInputs

    def write(self, **changes) -> None:
        """Write the folder; keywords replace fields of the outcome."""
        write_target(replace(self.outcome, **changes), self.run_ids, self.files, self.folder)


@pytest.fixture
def made(tmp_path, write_target, tiny_params):
    """Four finished cells of a target: base and ml validated, another ml only screened, finetune failed."""
    write_target(tmp_path, n=20)
    paths = StudyPaths("tiny", tmp_path)
    files = files_of(tmp_path)
    inputs = TargetInputs(files, "published")
    params = tiny_params(representations=["elemental_fractions", "physical_attributes"])
    cells = enumerate_cells(params, "slme", "%", "d", {"formation_energy": "f"})
    base, ml, other, tuned = cells

    def folds(shift):
        reports = []
        for i, (_, rows) in enumerate(inputs.folds(2, 1)):
            val_pred = inputs.values[rows] + shift * (i + 1)
            test_pred = inputs.values[inputs.test] - shift * (i + 1)
            reports.append(FoldReport(shift * (i + 1), rows, val_pred, test_pred, HISTORY, 0.5, 10 + i))
        return reports

    trials = pd.DataFrame(
        {
            "number": [0, 1], "state": ["COMPLETE", "COMPLETE"], "value": [2.0, 3.0], "seconds": [0.1, 0.1],
            "params_algorithm": ["ridge", "k_neighbors"], "params_ridge.alpha": [1.0, np.nan],
            "params_k_neighbors.weights": [None, "uniform"],
        }
    )  # fmt: skip
    best = {"algorithm": "ridge", "ridge.alpha": 1.0}
    outcomes = (
        finished_outcome(base, ScreenReport({}, 9.0, pd.DataFrame(), HISTORY, 0.1, 5), folds(8.0), inputs),
        finished_outcome(ml, ScreenReport(best, 2.0, trials, HISTORY, 1.5, 20), folds(1.0), inputs),
        screened_outcome(other, ScreenReport(best, 4.0, trials, HISTORY, 1.0, 7), inputs),
        failed_outcome(tuned, "DivergedError: the loss is nan", inputs),
    )
    for i in range(2):
        fit_base(inputs.values[inputs.train] + i).save(tmp_path / f"drafted_{i}")
    drafted = tuple(tmp_path / f"drafted_{i}" for i in range(2))
    winners = choose_winners(o.result for o in outcomes)
    model = ChosenModel(winners.winner, (ModelPart(winners.winner, (1.0, 1.0), drafted),))
    curve = pd.DataFrame([(ml.id, "scratch", 0.5, 4, 2.0), (ml.id, "scratch", 1.0, 8, 1.0)], columns=CURVE)
    return Made(
        TargetOutcome(outcomes, winners, model, curve), cells, {cell.id: f"run-{i}" for i, cell in enumerate(cells)},
        files, paths.results("slme"), inputs,
    )  # fmt: skip


def read(folder: Path, name: str):
    return json.loads((folder / name).read_text())


def test_figures_of_a_validated_cell_are_those_of_a_hand_computation(made):
    outcome, inputs = made.outcome, made.inputs
    ml = outcome.outcomes[1].result
    assert ml.cv_mae == (1.0, 2.0)
    assert ml.best_fold == 0
    assert ml.test_mae == pytest.approx(1.0)  # the best fold is 1 too low everywhere
    assert (ml.test_mae_low, ml.test_mae_high, ml.test_q95) == pytest.approx((1.0, 1.0, 1.0))
    assert ml.test_mae_ensemble == pytest.approx(1.5)  # the mean of 1 and 2 too low
    assert (ml.n_train, ml.n_test, ml.n_trials, ml.val_mae) == (16, 4, 2, 2.0)
    assert ml.hyperparameters == {"algorithm": "ridge", "alpha": 1.0}
    assert ml.test_mae_median is None
    base = outcome.outcomes[0].result
    median = np.median(inputs.values[inputs.train])
    assert base.test_mae_median == pytest.approx(np.abs(inputs.values[inputs.test] - median).mean())
    assert outcome.outcomes[1].cost.tune_seconds == 1.5
    assert outcome.outcomes[1].cost.fit_seconds == 1.0
    assert outcome.outcomes[1].cost.peak_memory == 20


def test_best_fold_is_chosen_by_its_validation_error_and_not_by_the_hold_out(made):
    inputs = made.inputs
    folds = [
        FoldReport(val, rows, inputs.values[rows] + val, inputs.values[inputs.test] + test, HISTORY, 0.5, 1)
        for (_, rows), val, test in zip(inputs.folds(2, 1), (1.0, 2.0), (5.0, 0.0), strict=True)
    ]
    result = finished_outcome(made.cells[1], None, folds, inputs).result
    assert (result.best_fold, result.test_mae) == (0, pytest.approx(5.0))


def test_screened_and_failed_cells_never_saw_the_hold_out(made):
    for outcome in made.outcome.outcomes[2:]:
        assert outcome.result.test_mae is None
        assert outcome.result.cv_mae is None
        assert not len(outcome.predictions)
    assert made.outcome.outcomes[3].result.failure == "DivergedError: the loss is nan"
    assert made.outcome.outcomes[2].result.failure is None


def test_predictions_are_out_of_fold_once_and_hold_out_once(made):
    table = made.outcome.outcomes[1].predictions
    validation, test = (table[table["split"] == split] for split in ("validation", "test"))
    assert (len(validation), len(test)) == (16, 4)
    assert validation["formula"].is_unique
    assert validation["y_pred_ensemble"].isna().all()
    assert (test["y_pred_ensemble"] - test["y_true"]).tolist() == pytest.approx([-1.5] * 4)
    assert set(test["fold"]) == {0}


def test_results_folder_holds_every_cell_and_the_winners_model(made):
    outcome, cells, folder = made.outcome, made.cells, made.folder
    made.write()
    assert [CellResult.from_dict(c) for c in read(folder, "cells.json")] == [
        o.result for o in outcome.outcomes
    ]
    assert read(folder, "winners.json") == {"best_sc": cells[1].id, "best_tl": None, "winner": cells[1].id}
    assert read(folder, "runs.json")[1] == {
        "cell": cells[1].id, "run_id": "run-1", "tune_seconds": 1.5, "fit_seconds": 1.0, "peak_memory": 20,
    }  # fmt: skip
    trials = pd.read_parquet(folder / "trials.parquet")
    assert list(trials.columns) == ["cell", "number", "state", "value", "seconds", "params"]
    assert [json.loads(p) for p in trials["params"][:2]] == [
        {"algorithm": "ridge", "ridge.alpha": 1.0},
        {"algorithm": "k_neighbors", "k_neighbors.weights": "uniform"},
    ]
    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert predictions.columns[0] == "cell"
    assert set(predictions["cell"]) == {cells[0].id, cells[1].id}
    assert not list(folder.parent.glob("*.tmp"))


def test_model_says_what_it_is_and_predicts(made):
    from crossprop.data.compositions import ELEMENTS
    from crossprop.models.saved import load_predictor

    cells, folder, inputs = made.cells, made.folder, made.inputs
    made.write()
    info = read(folder / "model", "model.json")
    assert (info["format"], info["target"], info["unit"], info["cell"]) == (3, "slme", "%", cells[1].id)
    assert info["members"] == ["fold_00", "fold_01"]
    # eight residuals of 1 and eight of 2: rank ceil(17 * 0.9) = 16
    assert (info["interval"]["coverage"], info["interval"]["half_width"]) == (0.9, pytest.approx(2.0))
    assert info["elements"] == list(ELEMENTS)
    learnt = inputs.frame["formula"].iloc[inputs.train]
    assert {e for e in ELEMENTS if learnt.str.contains(rf"{e}(?![a-z])").any()} == set(info["seen_elements"])
    mean = inputs.values[inputs.train].mean()
    assert load_predictor(folder / "model").predict(np.eye(86)[:3]) == pytest.approx([mean + 0.5] * 3)


def test_learning_curve_lies_beside_the_rest_though_it_may_be_empty(made):
    made.write()
    curve = pd.read_parquet(made.folder / "learning_curve.parquet")
    assert curve.columns.tolist() == ["cell", "side", "share", "n_train", "test_mae"]
    assert curve["share"].tolist() == [0.5, 1.0]
    made.write(curve=made.outcome.curve.iloc[:0])
    assert len(pd.read_parquet(made.folder / "learning_curve.parquet")) == 0


def test_target_without_a_winner_has_an_empty_model_folder(made):
    lost = (made.outcome.outcomes[0], made.outcome.outcomes[3])
    made.write(outcomes=lost, winners=choose_winners(o.result for o in lost), model=None)
    assert read(made.folder, "winners.json") == {"best_sc": None, "best_tl": None, "winner": None}
    assert list((made.folder / "model").iterdir()) == []


def test_lost_model_is_named(made):
    model = made.outcome.model
    lost = replace(model.parts[0], folders=(model.parts[0].folders[0], None))
    with pytest.raises(StoreError, match=r"the model fold_01 of ml\(EF\) is gone from the cell store"):
        made.write(model=replace(model, parts=(lost,)))
    assert not list(made.folder.parent.iterdir()), "no half of it is left"
