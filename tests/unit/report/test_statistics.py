import math
from dataclasses import replace

import numpy as np
import pytest

from crossprop.errors import ShapeMismatchError, StoreError
from crossprop.report.statistics import (
    SignTest,
    holm_adjusted,
    modified_against_plain,
    p_against_constant,
    sign_test,
    transfer_gains,
)


@pytest.mark.parametrize(("wins", "losses"), [(3, 0), (29, 12), (12, 27)])
def test_sign_test_is_the_binomial_tail(wins, losses):
    n = wins + losses
    exact = sum(math.comb(n, k) for k in range(wins, n + 1)) / 2**n
    assert sign_test([1.0] * wins + [3.0] * losses, [2.0] * n).p_value == pytest.approx(exact, rel=1e-9)


def test_ties_are_counted_and_left_out():
    test = sign_test([1.0] * 4 + [3.0] + [2.0] * 7, [2.0] * 12)
    assert test == SignTest(4, 1, 7)
    assert (test.n, test.p_value) == (5, pytest.approx(6 / 32))
    assert (SignTest(0, 0, 2).p_value, SignTest(0, 0, 2).interval) == (1.0, (0.0, 1.0))
    assert SignTest(5, 0).interval == (pytest.approx(0.025 ** (1 / 5)), 1.0)  # closed form for all wins


def test_sign_test_of_unequal_lengths_is_refused():
    with pytest.raises(ShapeMismatchError, match="2 and 1"):
        sign_test([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.03, 0.01, 0.5, 0.02], [0.06, 0.04, 0.5, 0.06]),  # 0.01 x 4, 0.02 x 3, 0.03 x 2 raised to 0.06
        ([0.6, 0.7], [1.0, 1.0]),
        ([], []),
    ],
)
def test_holm_multiplies_by_what_is_left_and_never_falls(p_values, adjusted):
    assert holm_adjusted(p_values) == pytest.approx(adjusted)


@pytest.mark.parametrize(
    ("errors", "reference", "p"),
    [
        ([1.0, 2.0, 3.0], 0.0, 0.0741799),  # t = 2 sqrt(3), two degrees
        ([2.0, 2.0], 2.1, 0.0),
        ([2.0], 5.0, 1.0),
    ],
)
def test_p_against_a_published_mean_is_students(errors, reference, p):
    assert p_against_constant(np.array(errors), reference) == pytest.approx(p, rel=1e-5)


def test_gain_is_the_difference_of_the_two_hold_out_errors_and_its_verdict_needs_a_small_corrected_p(plain):
    for gain in transfer_gains(plain):
        one, other = gain.target.best_tl.test_mae, gain.target.best_sc.test_mae
        assert gain.gap.difference == pytest.approx(one - other)
        assert gain.gap.low < gain.gap.difference < gain.gap.high
        assert gain.p_adjusted >= gain.gap.p_value
        better = replace(gain, gap=replace(gain.gap, difference=-1.0), p_adjusted=0.01)
        worse = replace(better, gap=replace(gain.gap, difference=1.0))
        verdicts = [one.verdict for one in (better, worse, replace(better, p_adjusted=0.05))]
        assert verdicts == ["TL better", "SC better", "within noise"]


def test_models_measured_on_other_rows_are_not_compared(study):
    def without_one(table):
        return table.drop(index=table.index[table["cell"].eq("slme/ml/pa") & table["split"].eq("test")][0])

    study.change_table(study.folder("slme") / "predictions.parquet", without_one)
    with pytest.raises(StoreError, match="same hold-out rows"):
        transfer_gains(study.results())


def test_fine_tuning_is_paired_by_target_and_source_of_cells_that_finished(study, study_with_failure):
    errors = {"finetune": 2.0, "modfinetune": 1.0}
    results = study.edited(lambda cell: {"val_mae": errors.get(cell["method"], cell["val_mae"])})
    assert modified_against_plain(results) == SignTest(4, 0)
    assert modified_against_plain(study_with_failure.results()).n == 3
