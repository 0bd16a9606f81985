import math

import numpy as np
import pytest

from crossprop.errors import ShapeMismatchError
from crossprop.report.statistics import (
    geometric_mean,
    holm_adjusted,
    p_against_constant,
    sign_test,
    sign_test_of_counts,
    standard_error,
)


def _outcomes(wins, losses, ties=0):
    first = [1.0] * wins + [3.0] * losses + [2.0] * ties
    return first, [2.0] * (wins + losses + ties)


def test_sign_test_of_three_wins_and_no_loss_is_an_eighth():
    assert sign_test(*_outcomes(3, 0)).p_value == pytest.approx(1 / 8)


def test_sign_test_of_four_wins_and_one_loss():
    # (C(5,4) + C(5,5)) / 2^5 = 6 / 32
    assert sign_test(*_outcomes(4, 1)).p_value == pytest.approx(6 / 32)


@pytest.mark.parametrize(
    ("wins", "losses", "exact"),
    [(27, 12, 0.011851351235), (29, 12, 0.005753894868), (26, 15, 0.058637602979)],
)
def test_sign_test_of_the_papers_counts_is_the_binomial_tail(wins, losses, exact):
    n = wins + losses
    assert sum(math.comb(n, k) for k in range(wins, n + 1)) / 2**n == pytest.approx(exact, rel=1e-6)
    assert sign_test(*_outcomes(wins, losses)).p_value == pytest.approx(exact, rel=1e-6)


def test_sign_test_is_one_tailed():
    assert sign_test(*_outcomes(12, 27)).p_value > 0.99


def test_ties_are_counted_and_left_out():
    test = sign_test(*_outcomes(4, 1, ties=7))
    assert (test.wins, test.losses, test.ties, test.n) == (4, 1, 7, 5)
    assert test.p_value == pytest.approx(6 / 32)


def test_only_ties_prove_nothing():
    test = sign_test([1.0, 2.0], [1.0, 2.0])
    assert (test.p_value, test.low, test.high) == (1.0, 0.0, 1.0)
    assert math.isnan(test.share)


def test_interval_of_the_share_is_clopper_pearsons():
    test = sign_test(*_outcomes(5, 0))
    assert test.low == pytest.approx(0.025 ** (1 / 5))  # closed form for all wins
    assert test.high == 1.0


def test_sign_test_of_unequal_lengths_is_refused():
    with pytest.raises(ShapeMismatchError, match="2 and 1"):
        sign_test([1.0, 2.0], [1.0])


def test_holm_multiplies_by_what_is_left_and_never_falls():
    # sorted: 0.01*4, 0.02*3, 0.03*2 (raised to 0.06), 0.5*1
    assert holm_adjusted([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])


def test_holm_stops_at_one_and_takes_nothing():
    assert holm_adjusted([0.6, 0.7]) == [1.0, 1.0]
    assert holm_adjusted([]) == []


def test_half_and_double_cancel_in_the_geometric_mean():
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
    assert math.isnan(geometric_mean([]))


def test_counts_alone_give_the_same_test():
    assert sign_test_of_counts(4, 1, 7) == sign_test(*_outcomes(4, 1, ties=7))


def test_standard_error_is_the_sample_deviation_over_the_root_of_n():
    assert standard_error(np.array([1.0, 2.0, 3.0])) == pytest.approx(1 / 3**0.5)
    assert math.isnan(standard_error(np.array([1.0])))


def test_p_against_a_published_mean_is_students():
    errors = np.array([1.0, 2.0, 3.0])
    assert p_against_constant(errors, 2.0) == pytest.approx(1.0)
    assert p_against_constant(errors, 0.0) == pytest.approx(0.0741799, rel=1e-5)  # t = 2 sqrt(3), two degrees


def test_constant_errors_equal_their_value_and_no_other():
    assert p_against_constant(np.array([2.0, 2.0]), 2.0) == 1.0
    assert p_against_constant(np.array([2.0, 2.0]), 2.1) == 0.0
    assert p_against_constant(np.array([2.0]), 5.0) == 1.0
