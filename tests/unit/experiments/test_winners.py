"""What only the chosen cells of a target get, by hand-made fits."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made import HISTORY, make_cell, make_fold

from crossprop.experiments.cache import CellStore
from crossprop.experiments.results import CellCost, CellOutcome, CellResult
from crossprop.experiments.selection import Winners
from crossprop.experiments.winners import CURVE, chosen_model, curve_table, with_strict
from crossprop.methods import Method
from crossprop.paths import StudyPaths

INPUTS = SimpleNamespace(values=np.array([0.0, 0.0, 5.0, 7.0]), test=np.array([2, 3]))
"""Two rows to learn from and two held out."""


def result(method, best_fold=1, **fields):
    return CellResult(
        cell=method, study="s", protocol="published", target="t", unit="eV", source=None, method=Method(method),
        representation=None, n_train=2, n_test=2, cv_mae=(2.0, 1.0), best_fold=best_fold, **fields,
    )  # fmt: skip


def fit(shift, n_train=10):
    """A fit that is off by ``shift`` on the hold-out."""
    return make_fold(
        np.array([0]), np.array([0.0]), np.array([5.0, 7.0]) + shift, INPUTS.values, n_train=n_train
    )


def outcome_of(result):
    cost = CellCost(tune_seconds=1.0, fit_seconds=2.0, peak_memory=7)
    return CellOutcome(
        result=result, cost=cost, trials=pd.DataFrame(), history=HISTORY, predictions=pd.DataFrame()
    )


def test_strict_figure_is_the_refits_error_on_the_hold_out():
    outcome = with_strict(outcome_of(result("ml")), fit(-3.0, n_train=8), INPUTS)
    assert (outcome.result.strict_test_mae, outcome.result.strict_n_train) == (3.0, 8)
    assert outcome.cost == CellCost(tune_seconds=1.0, fit_seconds=2.5, peak_memory=7)  # half a second more


def test_cell_without_a_strict_refit_stays_as_it_is():
    given = outcome_of(result("ml"))
    assert with_strict(given, None, INPUTS) is given


def test_curve_has_the_shares_of_the_best_fold_and_the_whole():
    fits = {
        "ml": {"fold_00": fit(9.0), "fold_01": fit(1.0, 20), "fold_01.share_0.1": fit(4.0, 2),
               "fold_01.share_0.5": fit(2.0, 10), "fold_01.strict": fit(8.0), "fold_00.share_0.25": fit(8.0)},
        "finetune": {"fold_00": fit(-1.5, 21), "fold_00.share_0.5": fit(3.0, 11)},
    }  # fmt: skip
    curve = curve_table(Winners(result("ml"), result("finetune", best_fold=0)), fits, INPUTS)
    assert list(curve.columns) == CURVE
    assert curve.to_numpy().tolist() == [
        ["ml", "scratch", 0.1, 2, 4.0],
        ["ml", "scratch", 0.5, 10, 2.0],
        ["ml", "scratch", 1.0, 20, 1.0],
        ["finetune", "transfer", 0.5, 11, 3.0],
        ["finetune", "transfer", 1.0, 21, 1.5],
    ]


def test_curve_without_shares_is_empty():
    fits = {"ml": {"fold_01": fit(1.0)}, "finetune": {"fold_01": fit(1.0)}}
    curve = curve_table(Winners(result("ml"), result("finetune")), fits, INPUTS)
    assert (len(curve), list(curve.columns)) == (0, CURVE)
    nobody = curve_table(Winners(None, None), {}, INPUTS)
    assert (len(nobody), list(nobody.columns)) == (0, CURVE)


def test_own_methods_have_no_curve():
    fits = {"boost": {"fold_01": fit(1.0), "fold_01.share_0.5": fit(2.0)}}
    assert len(curve_table(Winners(None, None, result("boost")), fits, INPUTS)) == 0


@pytest.fixture
def store(tmp_path):
    return CellStore(StudyPaths("tiny", tmp_path))


def kept(store, cell, folds):
    """Keep these folds of a cell with their models."""
    for k in folds:
        store.model_draft(cell, f"fold_{k:02d}").mkdir(parents=True)
        store.keep_fit(cell, f"fold_{k:02d}", fit(1.0))


def test_model_is_made_of_the_folds_of_its_parts(store):
    first, second = make_cell("ml", folds=2), make_cell("dl", folds=2)
    kept(store, first, [0, 1])
    kept(store, second, [0])
    blend = result("blend")
    weights = np.array([[0.25, 1.0], [0.75, 0.0]])
    model = chosen_model(
        Winners(None, None, blend), [result("ml"), result("dl")], [first, second], weights, store
    )
    assert model.winner is blend
    assert [part.result.method for part in model.parts] == ["ml", "dl"]
    assert [part.weights for part in model.parts] == [(0.25, 1.0), (0.75, 0.0)]
    assert model.parts[0].folders == tuple(store.model(first, f"fold_0{k}") for k in range(2))
    assert model.parts[1].folders == (store.model(second, "fold_00"), None)


def test_nobodys_model_is_none(store):
    assert chosen_model(Winners(None, None), [], [], np.ones((0, 2)), store) is None
