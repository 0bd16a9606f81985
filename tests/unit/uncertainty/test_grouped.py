import numpy as np
import pytest
from scipy import stats

from crossprop.uncertainty.grouped import mean_interval, p_against_constant, standard_error


def test_rows_of_one_group_are_drawn_together():
    of_group = np.random.default_rng(0).normal(size=50)
    values, groups = np.repeat(of_group, 20), np.repeat(np.arange(50), 20)
    together, apart = mean_interval(values, groups), mean_interval(values, np.arange(len(values)))
    assert together.high - together.low > 4 * (apart.high - apart.low)
    half = 1.96 * of_group.std() / np.sqrt(50)
    assert (together.low, together.high) == pytest.approx((of_group.mean() - half, of_group.mean() + half), abs=0.04)
    assert standard_error(values, groups) == pytest.approx(stats.sem(of_group))  # copies tell nothing new


def test_single_rows_have_the_usual_standard_error_and_p():
    values, rows = np.random.default_rng(1).normal(0.3, 1.0, size=40), np.arange(40)
    assert standard_error(values, rows) == pytest.approx(stats.sem(values))
    assert p_against_constant(values, rows, 0.0) == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue)


def test_unequal_groups_count_by_their_rows():
    values, groups = np.array([1.0, 3.0, 3.0, 5.0]), np.array(["a", "a", "b", "c"])
    # deviations from 3 summed by group: -2, 0, 2
    assert standard_error(values, groups) == pytest.approx(np.sqrt(3 / 2 * 8) / 4)
    assert mean_interval(values, groups).mean == 3.0


@pytest.mark.parametrize(
    ("values", "reference", "p"),
    [
        ([1.0, 2.0, 3.0], 0.0, 0.0741799),  # t = 2 sqrt(3), two degrees
        ([2.0, 2.0], 2.1, 0.0),
        ([2.0, 2.0], 2.0, 1.0),
        ([2.0], 5.0, 1.0),
    ],
)
def test_p_against_a_published_mean_is_students(values, reference, p):
    assert p_against_constant(np.array(values), np.arange(len(values)), reference) == pytest.approx(p, rel=1e-5)


def test_a_constant_difference_is_certain_and_none_is_chance():
    gap = mean_interval(np.full(40, -0.25), np.arange(40), n_resamples=999)
    assert (gap.mean, gap.low, gap.high) == (-0.25, -0.25, -0.25)
    assert gap.p_value == pytest.approx(2 / 1000)
    assert mean_interval(np.zeros(40), np.arange(40)).p_value == 1.0


def test_few_groups_have_students_interval_and_one_has_none():
    rng = np.random.default_rng(2)
    drawn = rng.gamma(1.0, size=(300, 4))  # of mean 1
    ends = [(one.low, one.high) for one in (mean_interval(e, np.arange(4), least=0.0) for e in drawn)]
    assert 0.85 < np.mean([low <= 1 <= high for low, high in ends]) <= 1  # a bootstrap: 0.69
    assert min(low for low, _ in ends) >= 0
    worse = mean_interval(np.array([0.0, 2.0, 3.0]), np.arange(3))  # on no row better, but it may be on others
    assert worse.low < -1
    alone = mean_interval(np.array([1.0, 2.0]), np.array(["a", "a"]))
    assert (alone.mean, alone.low, alone.high, alone.p_value) == (1.5, None, None, 1.0)
    assert np.isnan(standard_error(np.zeros(0), np.zeros(0)))
