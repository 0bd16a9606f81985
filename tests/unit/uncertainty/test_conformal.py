"""Width of the intervals: it covers what it promises, and is wide where the model errs."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_evidence import LOUD, made_evidence

from crossprop.data.compositions import fraction_matrix
from crossprop.uncertainty import conformal
from crossprop.uncertainty.conformal import Calibration, Difficulty, conformal_half_width


@pytest.mark.parametrize(
    ("n", "coverage", "rank"), [(9, 0.9, 9), (19, 0.9, 18), (99, 0.9, 90), (10, 0.5, 6), (5, 0.9, 5), (1, 0.9, 1)]
)
def test_half_width_is_the_residual_of_the_conformal_rank(n, coverage, rank):
    # ceil((n + 1) * coverage), and the largest residual where there are too few for the coverage
    residuals = np.random.default_rng(0).permutation(np.arange(1, n + 1)) * np.where(np.arange(n) % 2, -1, 1)
    assert conformal_half_width(residuals, coverage) == rank


def test_mean_of_folds_errs_less_by_the_difference_of_its_members():
    for single, ensemble, scores, expected in (
        # mean squared error of a member 4, of which 0.25 is its distance from the mean: sqrt(3.75 / 4)
        ([1.0, 2.0], [1.5, 1.5], [2.0, -2.0, 2.0], np.sqrt(0.9375)),
        ([9.0], [0.0], [1.0, 1.0], 0.9),  # never below
        ([], [], [1.0, 1.0], 1.0),
        ([], [], [0.0, 0.0], 1.0),
    ):
        gain = conformal.ensemble_gain(np.array(single), np.array(ensemble), np.array(scores))
        assert gain == pytest.approx(expected)


def test_difficulty_weighs_neighbours_by_their_rows_and_leaves_the_own_residual_out():
    kept = Difficulty(np.zeros(4), np.arange(5.0), np.array([1.0, 3.0]), np.array([3.0, 1.0]))
    # rows of residual 1 on the mean: by value 1; by place (3 * 1 + 1 * 3) / 4 = 1.5
    assert kept.estimate(np.zeros(1), np.array([[0, 1]])) == pytest.approx([(1.6 * 1.1) ** 0.6])
    # four compositions of one row each, predicted as 0, 1, 2 and 3, of mean residual 25
    kept = Difficulty(np.arange(4.0), np.array([0.0, 1, 2, 3, 100]), np.array([1.0, 1, 1, 97]), np.ones(4))
    places = np.array([[1, 2], [0, 2], [0, 1], [0, 1]])
    own = kept.estimate_left_out(np.arange(4.0), pd.Series(list("abcd")), places)
    assert own[3] == pytest.approx((1 / 25 + 0.1) ** 1.2)
    assert own[0] == pytest.approx(((1 / 25 + 0.1) * (33 / 25 + 0.1)) ** 0.6)
    # rows of the own composition or group are left out, too; without others the mean of all counts
    grouped = kept.estimate_left_out(np.arange(4.0), pd.Series(list("aabb")), places)
    assert grouped[0] == pytest.approx(((1 / 25 + 0.1) * (49 / 25 + 0.1)) ** 0.6)
    alone = kept.estimate_left_out(np.arange(4.0), pd.Series(list("aaaa")), places)
    assert alone[3] == pytest.approx((1.1 * (1 / 25 + 0.1)) ** 0.6)


def test_interval_grows_with_the_distance_and_in_the_end_in_proportion_to_it():
    factors = conformal.growth_with_distance(np.array([0.0, 2.0, 80.0, 160.0]), radius=2.5, growth=1.25)
    # hypot(1, 1.25 * distance / radius)
    assert factors == pytest.approx([1.0, np.sqrt(2), 40.01, 80.01], abs=0.01)
    for radius, growth in ((None, 1.25), (2.5, 0.0)):
        assert conformal.growth_with_distance(np.array([3.0]), radius, growth) == 1.0


def far_and_near(seed: int) -> pd.DataFrame:
    """Evidence whose errors grow with the distance to the nearest other composition, whatever the composition."""
    evidence = made_evidence(seed=seed)
    calibration = Calibration.fit(evidence.assign(split="train"))
    distances = calibration.around.nearest_others(1)[0][:, 0]
    own = calibration.around.compositions.index.get_indexer(pd.Index(evidence["composition"]))
    errors = np.random.default_rng(seed).normal(size=len(evidence)) * distances[own] / calibration.radius
    return evidence.assign(y_pred=evidence["y_true"] + errors, y_pred_single=evidence["y_true"] + errors)


def test_errors_that_grow_with_the_distance_are_covered_near_and_far():
    parts = []
    for seed in range(20):
        evidence = far_and_near(seed)
        rows, calibration = evidence[evidence["split"] == "test"], Calibration.fit(evidence)
        fractions = fraction_matrix(rows["formula"])
        distance = calibration.around.nearest(fractions, 1)[0][:, 0]
        still = replace(calibration, growth=0.0).at_coverage(evidence, 0.9)
        table = {"far": distance > np.quantile(distance, 0.8)}
        for name, one in (("growing", calibration), ("still", still)):
            said = one.judge(rows["y_pred"].to_numpy(), fractions)
            table[name] = (said.lower <= rows["y_true"]) & (rows["y_true"] <= said.upper)
        parts.append(pd.DataFrame(table))
    share = pd.concat(parts).groupby("far").mean()
    assert share.loc[True, "growing"] > share.loc[True, "still"] + 0.02
    gaps = share.diff().iloc[1].abs()
    assert gaps["growing"] < gaps["still"]


def test_interval_covers_what_it_states_and_is_narrow_where_the_model_is_right_and_on_the_whole():
    parts, constant = [], []
    for seed in range(20):
        evidence = made_evidence(seed=seed)
        train, rows = (evidence[evidence["split"] == split] for split in ("train", "test"))
        said = Calibration.fit(evidence).judge(rows["y_pred"].to_numpy(), fraction_matrix(rows["formula"]))
        held = (said.lower <= rows["y_true"]) & (rows["y_true"] <= said.upper)
        loud = rows["formula"].str.contains(LOUD)
        parts.append(pd.DataFrame({"loud": loud, "held": held, "half_width": said.upper - rows["y_pred"]}))
        constant.append(conformal_half_width((train["y_true"] - train["y_pred"]).to_numpy()))
    drawn = pd.concat(parts)
    assert 0.87 < drawn["held"].mean() < 0.93  # 1,200 rows: standard error below 0.01
    width = drawn.groupby("loud")["half_width"].mean()
    assert width[True] > 4 * width[False]
    assert drawn["half_width"].mean() < 0.75 * np.mean(constant)


def test_hold_out_values_have_no_say_in_the_interval():
    evidence = made_evidence()
    other = evidence.assign(y_true=evidence["y_true"] + 1000 * (evidence["split"] == "test"))
    assert Calibration.fit(other).as_info() == Calibration.fit(evidence).as_info()
    differing = Calibration.fit(made_evidence(gain=0.1))
    assert differing.scale < Calibration.fit(evidence).scale, "fold models that differ make it narrower"


def test_property_without_negative_values_has_no_interval_below_zero():
    calibration = Calibration.fit(made_evidence())
    said = calibration.judge(np.array([0.2, -0.05]), fraction_matrix(["FeI2", "FeI2"]))
    assert said.lower.tolist() == [0.0, -0.05]  # never above the value itself
    assert (said.upper > 0.3).all()
    evidence = made_evidence()
    assert Calibration.fit(evidence.assign(y_true=evidence["y_true"] - 50)).floor is None
