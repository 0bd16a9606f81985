"""The results folder of a target."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made import files_of, make_fold

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import StoreError
from crossprop.experiments.assemble import finished_outcome, unfinished_outcome
from crossprop.experiments.grid import enumerate_cells
from crossprop.experiments.inputs import TargetInputs
from crossprop.experiments.results import CellResult
from crossprop.experiments.selection import choose_winners
from crossprop.experiments.tasks import ScreenReport
from crossprop.experiments.winners import CURVE, ModelPart, TargetOutcome
from crossprop.experiments.winners import write_target as write_results
from crossprop.models.saved import load_predictor
from crossprop.paths import StudyPaths
from crossprop.training.trainer import fit_base

NOTHING = pd.DataFrame(columns=["epoch", "loss", "val_mae"])
TRIALS = pd.DataFrame(
    {
        "number": [0, 1], "state": ["COMPLETE", "COMPLETE"], "value": [2.0, 3.0], "seconds": [0.1, 0.1],
        "params_algorithm": ["ridge", "k_neighbors"], "params_ridge.alpha": [1.0, np.nan],
        "params_k_neighbors.weights": [None, "uniform"],
    }
)  # fmt: skip
BEST = {"algorithm": "ridge", "ridge.alpha": 1.0}


def folds_of(inputs, *shifts):
    """Two folds: off by the first numbers on the validation rows, by the second on the hold-out."""
    values = inputs.values
    return [
        make_fold(rows, values[rows] + val, values[inputs.test] + test, values)
        for (_, rows), (val, test) in zip(inputs.folds(2, 1), shifts, strict=True)
    ]


@pytest.fixture
def made(tmp_path, write_target, tiny_params):
    """Four finished cells of a target: base and ml validated, another ml only screened, finetune failed."""
    write_target(tmp_path, n=20)
    files, folder = files_of(tmp_path), StudyPaths("tiny", tmp_path).results("slme")
    inputs = TargetInputs(files, "published")
    params = tiny_params(representations=["elemental_fractions", "physical_attributes"])
    cells = enumerate_cells(params, "slme", "%", "d", {"formation_energy": "f"})
    base, ml, other, tuned = cells
    screened = ScreenReport({}, 9.0, pd.DataFrame(), NOTHING, 0.1, 5)
    tried = ScreenReport(BEST, 2.0, TRIALS, NOTHING, 1.5, 20)
    outcomes = (
        finished_outcome(base, screened, folds_of(inputs, (8.0, -8.0), (16.0, -16.0)), inputs),
        finished_outcome(ml, tried, folds_of(inputs, (1.0, -1.0), (2.0, -2.0)), inputs),
        unfinished_outcome(other, replace(tried, val_mae=4.0), inputs),
        unfinished_outcome(tuned, None, inputs, failure="DivergedError: the loss is nan"),
    )
    drafted = tuple(tmp_path / f"drafted_{i}" for i in range(2))
    for i, draft in enumerate(drafted):
        fit_base(inputs.values[inputs.train] + i).save(draft)
    winners = choose_winners(o.result for o in outcomes)
    curve = pd.DataFrame([(ml.id, "scratch", 0.5, 4, 2.0), (ml.id, "scratch", 1.0, 8, 1.0)], columns=CURVE)
    outcome = TargetOutcome(outcomes, winners, (ModelPart(winners.winner, (1.0, 1.0), drafted),), curve)
    run_ids = {cell.id: f"run-{i}" for i, cell in enumerate(cells)}

    def write(**changes):
        write_results(replace(outcome, **changes), run_ids, files, folder)

    return SimpleNamespace(outcome=outcome, cells=cells, folder=folder, inputs=inputs, write=write)


def test_figures_of_a_validated_cell_are_those_of_a_hand_computation(made):
    base, ml = (outcome.result for outcome in made.outcome.outcomes[:2])
    assert (ml.cv_mae, ml.best_fold) == ((1.0, 2.0), 0)
    assert ml.test_mae == pytest.approx(1.0)  # the best fold is 1 too low everywhere
    assert (ml.test_mae_low, ml.test_mae_high, ml.test_q95) == pytest.approx((1.0, 1.0, 1.0))
    assert ml.test_mae_ensemble == pytest.approx(1.5)  # the mean of 1 and 2 too low
    assert (ml.n_train, ml.n_test, ml.n_trials, ml.val_mae) == (16, 4, 2, 2.0)
    assert ml.hyperparameters == {"algorithm": "ridge", "alpha": 1.0}
    assert ml.test_mae_median is None
    inputs = made.inputs
    median = np.median(inputs.values[inputs.train])
    assert base.test_mae_median == pytest.approx(np.abs(inputs.values[inputs.test] - median).mean())
    cost = made.outcome.outcomes[1].cost
    assert (cost.tune_seconds, cost.fit_seconds, cost.peak_memory) == (1.5, 1.0, 20)
    # the hold-out has no say in the best fold, and was not predicted for what is not validated
    folds = folds_of(made.inputs, (1.0, 5.0), (2.0, 0.0))
    assert finished_outcome(made.cells[1], None, folds, made.inputs).result.test_mae == pytest.approx(5.0)
    for outcome in made.outcome.outcomes[2:]:
        assert (outcome.result.test_mae, outcome.result.cv_mae, len(outcome.predictions)) == (None, None, 0)
    failures = [outcome.result.failure for outcome in made.outcome.outcomes]
    assert failures == [None, None, None, "DivergedError: the loss is nan"]


def test_predictions_are_out_of_fold_once_and_hold_out_once(made):
    table = made.outcome.outcomes[1].predictions
    validation, test = (table[table["split"] == split] for split in ("validation", "test"))
    assert (len(validation), len(test)) == (16, 4)
    assert validation["formula"].is_unique
    assert validation["y_pred_ensemble"].isna().all()
    assert (test["y_pred_ensemble"] - test["y_true"]).tolist() == pytest.approx([-1.5] * 4)
    assert set(test["fold"]) == {0}


def test_results_folder_holds_every_cell(made):
    cells, folder = made.cells, made.folder
    made.write()
    read = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    tables = {path.stem: pd.read_parquet(path) for path in folder.glob("*.parquet")}
    assert [CellResult.from_dict(c) for c in read["cells"]] == [o.result for o in made.outcome.outcomes]
    assert read["winners"] == {"best_sc": cells[1].id, "best_tl": None, "winner": cells[1].id}
    assert read["runs"][1] == {
        "cell": cells[1].id, "run_id": "run-1", "tune_seconds": 1.5, "fit_seconds": 1.0, "peak_memory": 20,
    }  # fmt: skip
    assert list(tables["trials"].columns) == ["cell", "number", "state", "value", "seconds", "params"]
    assert [json.loads(params) for params in tables["trials"]["params"][:2]] == [
        {"algorithm": "ridge", "ridge.alpha": 1.0},
        {"algorithm": "k_neighbors", "k_neighbors.weights": "uniform"},
    ]
    assert tables["predictions"].columns[0] == "cell"
    assert set(tables["predictions"]["cell"]) == {cells[0].id, cells[1].id}
    pd.testing.assert_frame_equal(tables["learning_curve"], made.outcome.curve)
    assert not list(folder.parent.glob("*.tmp"))


def test_model_says_what_it_is_and_predicts(made):
    made.write()
    info = json.loads((made.folder / "model" / "model.json").read_text())
    assert (info["target"], info["unit"], info["cell"]) == ("slme", "%", made.cells[1].id)
    assert info["members"] == ["fold_00", "fold_01"]
    assert info["elements"] == list(ELEMENTS)
    learnt = made.inputs.frame["formula"].iloc[made.inputs.train]
    assert {e for e in ELEMENTS if learnt.str.contains(rf"{e}(?![a-z])").any()} == set(info["seen_elements"])
    assert info["interval"]["half_width"] == pytest.approx(2.0)  # of 8 errors of 1 and 8 of 2
    mean = made.inputs.values[made.inputs.train].mean() + 0.5  # of both members
    assert load_predictor(made.folder / "model").predict(np.eye(86)[:2]) == pytest.approx([mean, mean])


def test_target_without_a_winner_has_an_empty_model_folder_and_a_lost_model_is_named(made):
    lost = (made.outcome.outcomes[0], made.outcome.outcomes[3])
    made.write(outcomes=lost, winners=choose_winners(o.result for o in lost), parts=())
    assert set(json.loads((made.folder / "winners.json").read_text()).values()) == {None}
    assert list((made.folder / "model").iterdir()) == []
    (part,) = made.outcome.parts
    with pytest.raises(StoreError, match=r"the model fold_01 of ml\(EF\) is gone from the cell store"):
        made.write(parts=(replace(part, folders=(part.folders[0], None)),))
    assert list(made.folder.parent.iterdir()) == [made.folder], "no half of it is left"
