import numpy as np
import pytest

from crossprop.errors import ShapeMismatchError
from crossprop.training import metrics
from crossprop.training.metrics import (
    bootstrap_interval,
    mean_absolute_error,
    paired_bootstrap_difference,
    r2,
)

TRUE = np.array([1.0, 2.0, 3.0, 4.0])
PRED = np.array([1.5, 2.0, 2.0, 6.0])  # absolute errors 0.5, 0, 1, 2


def test_metric_of_hand_made_values():
    for metric, expected in (
        (mean_absolute_error, 3.5 / 4),
        (metrics.mean_absolute_error_q95, 1.85),  # errors 0, 0.5, 1, 2; at place 2.85: 1 + 0.85 * (2 - 1)
        (r2, 1 - 5.25 / 5.0),  # residuals 0.25 + 0 + 1 + 4, spread around 2.5: 5
    ):
        assert metric(TRUE, PRED) == pytest.approx(expected)
        constant = np.full(2, 2.0)
        assert (r2(constant, constant), r2(constant, np.array([2.0, 3.0]))) == (1.0, 0.0)


@pytest.mark.parametrize(
    "metric", [mean_absolute_error, metrics.mean_absolute_error_q95, r2, bootstrap_interval]
)
def test_a_column_against_a_row_is_refused_with_both_shapes(metric):
    with pytest.raises(ShapeMismatchError, match=r"\(4,\).*\(4, 1\)"):
        metric(TRUE, PRED[:, None])
    with pytest.raises(ShapeMismatchError):
        metric(TRUE[:, None], PRED[:, None])
    with pytest.raises(ShapeMismatchError, match="at least one sample"):
        metric(np.array([]), np.array([]))


def test_interval_has_the_width_of_the_standard_error_and_is_repeatable(monkeypatch):
    errors = np.abs(np.random.default_rng(3).normal(size=400))
    low, high = bootstrap_interval(np.zeros(400), errors)
    expected = 2 * 1.96 * errors.std() / np.sqrt(400)
    assert high - low == pytest.approx(expected, rel=0.08)
    assert low < errors.mean() < high
    assert bootstrap_interval(np.zeros(400), errors) == (low, high)
    assert bootstrap_interval(np.zeros(400), errors, seed=2) != (low, high)
    monkeypatch.setattr("crossprop.training.metrics._BLOCK_ENTRIES", 700)  # resamples are drawn in blocks
    assert bootstrap_interval(np.zeros(400), errors) == pytest.approx((low, high))
    assert bootstrap_interval(TRUE, TRUE + 0.25) == pytest.approx((0.25, 0.25))


def test_paired_difference_of_a_constantly_better_model_is_certain():
    gap = paired_bootstrap_difference(TRUE, TRUE + 0.1, TRUE + 0.3, n_resamples=999)
    assert (gap.difference, gap.low, gap.high) == pytest.approx((-0.2, -0.2, -0.2))
    assert gap.p_value == pytest.approx(2 / 1000)
    gap = paired_bootstrap_difference(TRUE, PRED, PRED)
    assert (gap.difference, gap.p_value) == (0.0, 1.0)
    # pairing sees what the single intervals hide
    rng = np.random.default_rng(5)
    y = rng.normal(size=200)
    first = y + 1.0 + rng.gamma(1.0, size=200)
    second = first + 0.05
    assert bootstrap_interval(y, first)[1] > bootstrap_interval(y, second)[0]
    assert paired_bootstrap_difference(y, first, second).high < 0
