"""Groups stay on one side of every split of a fit, and what they do to the errors shows."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from made_rows import rows_of
from typer.testing import CliRunner

from crossprop import CrossPropertyRegressor
from crossprop.cli import app
from crossprop.data.splits import cross_validation_folds
from crossprop.estimator.decision import Settings, decide
from crossprop.estimator.learn import STUDY, held_out, run_protocol, study_params
from crossprop.experiments.targets import plan_target
from crossprop.paths import StudyPaths

QUICK = {"methods": ["ml"], "trials": 1, "folds": 4}


def series(n_series: int = 24, length: int = 5) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Series of samples that differ little within; what tells the value of one is another of its series alone."""
    rng = np.random.default_rng(3)
    pairs = [(a, b) for a in ("Li", "Na", "K", "Mg", "Ca") for b in ("Fe", "Co", "Ni", "Cu", "Zn")][:n_series]
    formulas = [f"{a}{1 + 0.01 * k:.2f}{b}" for a, b in pairs for k in range(length)]
    values = np.repeat(rng.permutation(n_series) * 10.0, length)
    return formulas, values, np.repeat(np.arange(n_series), length)


def test_a_model_is_not_praised_for_knowing_the_series_that_it_has_seen():
    formulas, values, groups = series()
    free = CrossPropertyRegressor(**QUICK).fit(formulas, values)
    apart = CrossPropertyRegressor(**QUICK).fit(formulas, values, groups=groups)
    assert free.cv_mae_ < 0.4 * apart.cv_mae_
    named = CrossPropertyRegressor(**QUICK).fit(formulas, values, groups=[f"paper {g}" for g in groups])
    assert named.cv_mae_ == apart.cv_mae_
    widths = [np.ptp(model.predict_interval(formulas), axis=1).mean() for model in (free, apart)]
    assert widths[1] > 2 * widths[0]


def test_what_the_cells_split_by_is_the_group(tmp_path):
    formulas, values, groups = series()
    from crossprop.estimator.regressor import learning_rows

    rows = learning_rows(formulas, values, groups)
    settings = Settings(methods=["ml"], trials=1, folds=4, workers=1)
    outcome = run_protocol(rows, settings, tmp_path, write=lambda line: None)
    paths = StudyPaths(STUDY, tmp_path)
    _, files, frame = plan_target(study_params(outcome.task, len(rows)), outcome.task.target, paths, "")
    assert files.prepared == paths.grouped(outcome.task.target)
    for train, validation in cross_validation_folds(frame["composition"].to_numpy(), 4):
        assert not set(groups[train]) & set(groups[validation])


def test_a_fit_that_was_begun_with_other_groups_is_not_gone_on_with(tmp_path):
    rows = rows_of(60).assign(split="train")
    settings, silent = Settings(methods=["ml"], trials=1, workers=1), lambda line: None
    decide(rows, settings, tmp_path, silent)
    for _ in range(2):
        said: list[str] = []
        decide(rows.assign(group=rows["composition"]), settings, tmp_path, said.append)
    assert said
    said.clear()
    decide(rows.assign(group=[f"g{i // 3}" for i in range(60)]), settings, tmp_path, said.append)
    assert not said


def test_a_hold_out_takes_whole_groups_and_passes_over_one_that_is_too_large():
    keys = np.array(["big"] * 40 + [f"k{i}" for i in range(20)], dtype=object)
    for seed in range(10):
        held = held_out(keys, 0.2, seed)
        assert not held[:40].any()
        assert held.sum() == 12
    halves = np.array(["a"] * 10 + ["b"] * 12, dtype=object)
    assert held_out(halves, 0.1, 0).tolist() == [True] * 10 + [False] * 12


@pytest.mark.parametrize(
    ("groups", "reason"), [([1, 2], "2 groups for 60 rows"), ([None] * 60, "names no group")]
)
def test_groups_that_do_not_fit_the_rows_are_refused(groups, reason):
    rows = rows_of(60)
    with pytest.raises(ValueError, match=reason):
        CrossPropertyRegressor(**QUICK).fit(rows["formula"], rows["value"], groups=groups)


def test_too_few_groups_are_refused_by_their_number():
    formulas, values, groups = series(8)
    with pytest.raises(ValueError, match="40 rows of 8 groups to learn from; at least 10 groups"):
        CrossPropertyRegressor(**QUICK).fit(formulas, values, groups=groups)


def test_a_fit_by_a_column_of_groups_holds_out_whole_groups(tmp_path):
    formulas, values, groups = series()
    table = tmp_path / "my.csv"
    pd.DataFrame({"formula": formulas, "y": values, "paper": groups}).to_csv(table, index=False)
    options = ["--target", "y", "--sources", "none", "--methods", "ml", "--folds", "2", "--minutes", "0.1"]
    command = ["fit", str(table), *options, "--workers", "1", "--holdout", "0.2", "--group-column", "paper"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "model")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    data = pd.read_csv(tmp_path / "model" / "data.csv")
    side = data.assign(paper=groups).groupby("paper")["split"].nunique()
    assert (side == 1).all()
    assert (data["split"] == "test").sum() == 25


def test_more_folds_than_groups_allow_are_cut_and_said():
    formulas, values, groups = series(12)
    model = CrossPropertyRegressor(methods=["ml"], trials=1, folds=9).fit(formulas, values, groups=groups)
    assert any(note.startswith("4 folds instead of 9") for note in model.notes_)


def test_a_coverage_beyond_what_the_errors_can_tell_is_warned_of():
    rows = rows_of(60)
    model = CrossPropertyRegressor(methods=["ml"], trials=1, folds=2).fit(rows["formula"], rows["value"])
    with pytest.warns(UserWarning, match=r"60 errors are known.*too few for a coverage of 0.99"):
        model.predict_interval(["NaCl"], coverage=0.99)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict_interval(["NaCl"], coverage=0.95)
    for coverage in (0, 1, 1.5, -1, "much", True):
        with pytest.raises(ValueError, match="between 0 and 1"):
            model.predict_interval(["NaCl"], coverage=coverage)
