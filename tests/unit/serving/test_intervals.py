"""Width of the intervals: it covers what it promises, and is wide where the model errs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_evidence import LOUD, made_evidence

from crossprop.data.compositions import fraction_matrix
from crossprop.serving.calibration import Calibration
from crossprop.serving.intervals import Difficulty, conformal_half_width, ensemble_gain


@pytest.mark.parametrize(
    ("n", "coverage", "rank"),
    [(9, 0.9, 9), (19, 0.9, 18), (99, 0.9, 90), (10, 0.5, 6), (5, 0.9, 5), (1, 0.9, 1)],
)
def test_half_width_is_the_residual_of_the_conformal_rank(n, coverage, rank):
    # ceil((n + 1) * coverage), and the largest residual where there are too few for the coverage
    residuals = np.random.default_rng(0).permutation(np.arange(1, n + 1)) * np.where(np.arange(n) % 2, -1, 1)
    assert conformal_half_width(residuals, coverage) == rank


def test_half_width_covers_new_rows_as_often_as_it_promises():
    rng = np.random.default_rng(1)
    covered = [np.abs(rng.normal(size=50)) <= conformal_half_width(rng.normal(size=40)) for _ in range(400)]
    assert 0.89 < np.mean(covered) < 0.93  # exactly 37/41 = 0.902 in expectation


def test_mean_of_folds_errs_less_by_what_its_members_differ():
    # mean squared error of a member 4, of which 0.25 is its distance from the mean: sqrt(3.75 / 4)
    gain = ensemble_gain(np.array([1.0, 2.0]), np.array([1.5, 1.5]), np.array([2.0, -2.0, 2.0]))
    assert gain == pytest.approx(np.sqrt(0.9375))


@pytest.mark.parametrize("scores", [np.zeros(3), np.ones(3)])
def test_without_a_hold_out_or_errors_nothing_is_gained(scores):
    assert ensemble_gain(np.zeros(0), np.zeros(0), scores) == 1.0


def test_a_few_members_that_differ_by_chance_take_a_tenth_of_the_width_at_most():
    assert ensemble_gain(np.array([9.0]), np.array([0.0]), np.ones(2)) == 0.9


def difficulty_of(residuals: list[float]) -> Difficulty:
    """Four compositions of one row each, predicted as 0, 1, 2 and 3."""
    cumulated = np.concatenate([[0.0], np.cumsum(residuals)])
    return Difficulty(np.arange(4.0), cumulated, np.array(residuals), np.ones(4))


def test_difficulty_is_one_tenth_above_the_mean_where_all_err_alike():
    expected = 1.1 ** (2 * 0.6)
    got = difficulty_of([2.0] * 4).estimate(np.array([0.5, 99.0]), np.array([[0, 1], [2, 3]]))
    assert got == pytest.approx([expected, expected])


def test_difficulty_weighs_neighbours_by_their_rows():
    kept = Difficulty(np.zeros(4), np.arange(5.0), np.array([1.0, 3.0]), np.array([3.0, 1.0]))
    # rows of residual 1 on the mean: by value 1; by place (3 * 1 + 1 * 3) / 4 = 1.5
    assert kept.estimate(np.zeros(1), np.array([[0, 1]])) == pytest.approx([(1.6 * 1.1) ** 0.6])


def test_own_residual_has_no_say_in_the_difficulty_of_a_training_row():
    kept = difficulty_of([1.0, 1.0, 1.0, 97.0])  # mean 25
    own = kept.estimate_left_out(np.arange(4.0), np.array([[1, 2], [0, 2], [0, 1], [0, 1]]))
    assert own[3] == pytest.approx((1 / 25 + 0.1) ** 1.2)
    assert own[0] == pytest.approx(((1 / 25 + 0.1) * (33 / 25 + 0.1)) ** 0.6)


@pytest.fixture(scope="module")
def repeated():
    """Coverage and half widths of the hold-outs of 20 draws: rows with columns loud, held, half_width."""
    parts = []
    for seed in range(20):
        evidence = made_evidence(seed=seed)
        rows = evidence[evidence["split"] == "test"]
        said = Calibration.fit(evidence).judge(rows["y_pred"].to_numpy(), fraction_matrix(rows["formula"]))
        held = (said.lower <= rows["y_true"]) & (rows["y_true"] <= said.upper)
        loud = rows["formula"].str.contains(LOUD)
        parts.append(pd.DataFrame({"loud": loud, "held": held, "half_width": said.upper - rows["y_pred"]}))
    return pd.concat(parts)


def test_interval_covers_the_hold_out_as_it_states(repeated):
    assert 0.87 < repeated["held"].mean() < 0.93  # 1,200 rows: standard error below 0.01


def test_interval_is_narrow_where_the_model_is_right_and_on_the_whole(repeated):
    width = repeated.groupby("loud")["half_width"].mean()
    assert width[True] > 4 * width[False]
    constant = np.mean([half_width_of(made_evidence(seed=seed)) for seed in range(20)])
    assert repeated["half_width"].mean() < 0.75 * constant


def half_width_of(evidence: pd.DataFrame) -> float:
    train = evidence[evidence["split"] == "train"]
    return conformal_half_width((train["y_true"] - train["y_pred"]).to_numpy())


def test_hold_out_values_have_no_say_in_the_interval():
    evidence = made_evidence()
    other = evidence.assign(y_true=evidence["y_true"] + 1000 * (evidence["split"] == "test"))
    assert Calibration.fit(other).as_info() == Calibration.fit(evidence).as_info()


def test_fold_models_that_differ_make_the_interval_of_their_mean_narrower():
    assert Calibration.fit(made_evidence(gain=0.1)).scale < Calibration.fit(made_evidence()).scale


def test_few_compositions_get_an_interval_of_one_width():
    calibration = Calibration.fit(made_evidence().iloc[:120])  # 60 to learn from
    assert calibration.difficulty is None
    said = calibration.judge(np.array([1.0, 80.0]), fraction_matrix(["FeO", "KI"]))
    assert said.upper - said.lower == pytest.approx(np.full(2, 2 * calibration.scale))


def test_property_without_negative_values_has_no_interval_below_zero():
    calibration = Calibration.fit(made_evidence())
    said = calibration.judge(np.array([0.2, -0.05]), fraction_matrix(["FeI2", "FeI2"]))
    assert said.lower.tolist() == [0.0, -0.05]  # never above the value itself
    assert (said.upper > 0.3).all()


def test_property_with_negative_values_has_no_floor():
    evidence = made_evidence()
    evidence["y_true"] -= 50
    assert Calibration.fit(evidence).floor is None
