"""Expected improvement against numerical integration, and where doubles would give nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from crossprop.screening.rank import deviation_of_interval, log_expected_improvement


@pytest.mark.parametrize("mean", [-3.0, 0.0, 1.9, 2.0, 2.5, 8.0])
@pytest.mark.parametrize("deviation", [0.1, 1.0, 3.0])
def test_equals_the_integral_over_the_improvement(mean, deviation):
    best = 2.0
    integral, _ = quad(
        lambda y: (y - best) * norm.pdf(y, mean, deviation),
        best,
        max(best, mean) + 40 * deviation,
        points=[max(best, mean)],
        epsabs=0,
        epsrel=1e-11,
        limit=500,
    )
    got = log_expected_improvement(np.array([mean]), np.array([deviation]), best)
    if integral > 1e-280:
        assert got[0] == pytest.approx(np.log(integral), rel=1e-8, abs=1e-8)
    else:
        assert got[0] < -600


def test_far_below_the_best_it_still_ranks():
    z = -np.array([1.0, 30.0, 40.0, 1e3, 1e5, 9.9e6, 1.01e7, 1e9])
    logs = log_expected_improvement(z, np.ones(len(z)), 0.0)
    assert np.isfinite(logs).all()
    assert (np.diff(logs) < 0).all()
    # leading terms of the asymptotic series: log phi(z) - 2 log|z| + log(1 - 3/z^2 + 15/z^4)
    expected = -(z**2) / 2 - np.log(2 * np.pi) / 2 - 2 * np.log(-z) + np.log1p(-3 / z**2 + 15 / z**4)
    assert logs[1:] == pytest.approx(expected[1:], rel=1e-6)


def test_without_uncertainty_it_is_the_improvement_itself():
    got = log_expected_improvement(np.array([5.0, 1.0]), np.zeros(2), 2.0)
    assert got.tolist() == [pytest.approx(np.log(3)), -np.inf]


def test_deviation_of_a_normal_interval():
    # 90 % of a normal distribution lie within 1.6449 deviations
    got = deviation_of_interval(np.array([-1.6449]), np.array([1.6449]), 0.9)
    assert got[0] == pytest.approx(1.0, abs=1e-4)
