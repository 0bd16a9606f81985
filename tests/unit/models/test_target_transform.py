import numpy as np
import pytest

from crossprop.models.target_transform import TargetTransform

VALUES = np.array([1.0, 2.0, 3.0, 4.0, 10.0])  # median 3; deviations 2, 1, 0, 1, 7; their median 1, mean 2.2


def test_scale_is_one_and_a_half_median_deviations_or_of_the_mean_deviation_if_most_are_zero():
    transform = TargetTransform.fit(VALUES)
    assert (transform.centre, transform.scale) == (3.0, 1.5)  # 1.5 * max(1, 0.3 * 2.2)
    learnt = transform.forward(np.array([3.0, 4.5, 10.0]))
    assert learnt == pytest.approx([0.0, np.log(1 + np.sqrt(2)), np.arcsinh(14 / 3)])
    linear = TargetTransform.fit(VALUES, "identity").forward(np.array([3.0, 10.0]))
    assert linear == pytest.approx([0.0, 7 / 2.2])
    zeros = TargetTransform.fit(np.array([0.0] * 9 + [5.0]))  # median deviation 0, mean deviation 0.5
    assert (zeros.centre, zeros.scale) == pytest.approx((0.0, 1.5 * 0.3 * 0.5))
    constant = TargetTransform.fit(np.full(4, 2.5))
    assert constant.scale == 1.0
    assert constant.inverse(np.array([-3.0, 0.0, 3.0])) == pytest.approx([2.5, 2.5, 2.5])


@pytest.mark.parametrize("kind", ["arcsinh", "identity"])
@pytest.mark.parametrize(
    "values",
    [
        VALUES,
        -1e6 * VALUES,
        1e-9 * VALUES,
        np.array([0.0] * 50 + [3.0, 7.5]),
        np.random.default_rng(0).standard_cauchy(200),
    ],
    ids=["plain", "huge", "tiny", "mostly_zero", "heavy_tails"],
)
def test_inverse_undoes_forward(kind, values):
    transform = TargetTransform.fit(values, kind)
    back = transform.inverse(transform.forward(values))
    assert back == pytest.approx(values, rel=1e-9, abs=1e-9 * np.ptp(values))


@pytest.mark.parametrize("kind", ["arcsinh", "identity"])
def test_predictions_beyond_the_training_range_are_cut_a_tenth_beyond_it(kind):
    transform = TargetTransform.fit(VALUES, kind)
    low, high = transform.forward(np.array([1.0, 10.0]))
    room = 0.1 * (high - low)
    assert (transform.low, transform.high) == pytest.approx((low - room, high + room))
    ends = transform.inverse(np.array([-1e9, 1e9, -np.inf, np.inf]))
    assert transform.forward(ends) == pytest.approx([low - room, high + room, low - room, high + room])
    assert np.isfinite(ends).all()
