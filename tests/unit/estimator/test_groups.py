"""Groups stay on one side of every split of a fit, and what they do to the errors shows."""

import numpy as np
import pandas as pd
import pytest
from made_rows import silent

from crossprop import CrossPropertyRegressor
from crossprop.estimator.inputs import learning_rows
from crossprop.estimator.learn import STUDY, Settings, run_fit
from crossprop.experiments.inputs import TargetInputs
from crossprop.experiments.targets import plan_target
from crossprop.paths import StudyPaths
from crossprop.uncertainty.evidence import EVIDENCE_FILE

QUICK = {"methods": ["ml"], "trials": 1, "folds": 4}


def series(n_series: int = 24, length: int = 5) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Series of samples that differ little within; what tells the value of one is another of its series alone."""
    rng = np.random.default_rng(3)
    pairs = [(a, b) for a in ("Li", "Na", "K", "Mg", "Ca") for b in ("Fe", "Co", "Ni", "Cu", "Zn")][:n_series]
    formulas = [f"{a}{1 + 0.01 * k:.2f}{b}" for a, b in pairs for k in range(length)]
    values = np.repeat(rng.permutation(n_series) * 10.0, length)
    return formulas, values, np.repeat(np.arange(n_series), length)


def test_a_model_gets_no_credit_for_the_series_that_it_has_seen():
    formulas, values, groups = series()
    free = CrossPropertyRegressor(**QUICK).fit(formulas, values)
    named = [f"paper {group}" for group in groups]
    apart = CrossPropertyRegressor(**QUICK).fit(formulas, values, groups=named)
    assert free.cv_mae_ < 0.4 * apart.cv_mae_
    widths = [np.ptp(model.predict_interval(formulas), axis=1).mean() for model in (free, apart)]
    assert widths[1] > 2 * widths[0]


def test_what_the_cells_split_by_is_the_group_and_more_folds_than_groups_allow_are_reduced(tmp_path):
    formulas, values, groups = series(12)
    rows = learning_rows(formulas, values, groups)
    plan = run_fit(rows, Settings(methods=["ml"], trials=1, folds=9, workers=1), tmp_path, write=silent).plan
    assert plan.params.study.folds == 4
    assert any(note.startswith("4 folds instead of 9") for note in plan.notes)
    paths = StudyPaths(STUDY, tmp_path)
    _, files, _ = plan_target(plan.params, plan.target, paths, "")
    for train, validation in TargetInputs(files, "published").folds(4, 0):
        assert not set(groups[train]) & set(groups[validation])


def test_groups_that_do_not_fit_the_rows_are_refused():
    formulas, values, few = series(8)
    for groups, reason in (
        ([1, 2], "2 groups for 40 rows"),
        ([None] * 40, "names no group"),
        (few, "40 rows of 8 groups to learn from; at least 10 groups"),
    ):
        with pytest.raises(ValueError, match=reason):
            CrossPropertyRegressor(**QUICK).fit(formulas, values, groups=groups)


def test_a_fit_by_a_column_of_groups_holds_out_whole_groups(crossprop, tmp_path):
    formulas, values, groups = series()
    table = tmp_path / "my.csv"
    pd.DataFrame({"formula": formulas, "y": values, "paper": groups}).to_csv(table, index=False)
    options = ["--target", "y", "--sources", "none", "--methods", "ml", "--folds", "2", "--minutes", "0.1"]
    command = ["fit", table, *options, "--workers", "1", "--holdout", "0.2", "--group-column", "paper"]
    told = crossprop(*command, "--out", tmp_path / "model").printed
    assert "winner" in told
    assert "hold-out MAE" in told
    data = pd.read_csv(tmp_path / "model" / "data.csv")
    side = data.assign(paper=groups).groupby("paper")["split"].nunique()
    assert (side == 1).all()
    assert (data["split"] == "test").sum() == 25
    evidence = pd.read_parquet(tmp_path / "model" / EVIDENCE_FILE)  # its intervals leave out the own group
    assert evidence["group"].nunique() == len(set(groups))
