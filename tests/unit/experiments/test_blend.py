"""Blends of cross-validated cells: hand-checked weights, learnt on the other folds."""

from dataclasses import replace

import numpy as np
import pytest
from made import make_fold

from crossprop.errors import CellError
from crossprop.experiments.blend import PICKS, blend_folds, greedy_weights, shrunk_weights

VALUES = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, 0.0])
GROUPS = np.arange(8)
ROWS = [np.array([0, 1]), np.array([2, 3]), np.array([4, 5])]
"""Validation rows of three folds; the last two rows are the hold-out."""


def test_weights_of_models_with_constant_errors():
    for shifts, picks, expected in (
        ([5, 0, -5], PICKS, [0.0, 1.0, 0.0]),  # a perfect model
        ([3, -1], PICKS, [0.25, 0.75]),  # 3 w - 1 (1 - w) = 0 at w = 1/4: after four picks
        ([1, 1, 1], PICKS, [1.0, 0.0, 0.0]),  # of equal models the first
        ([1, -1], 1, [1.0, 0.0]),
        ([1, -1], 3, [0.5, 0.5]),  # no odd number of picks is perfect
    ):
        true = np.array([1.0, 2.0, 3.0, 4.0])
        assert greedy_weights(true + np.array(shifts)[:, None], true, picks).tolist() == expected


@pytest.mark.parametrize(("gain", "expected"), [(0.5, [0.15, 0.85]), (0.001, [1.0, 0.0])])
def test_weights_stay_with_the_simple_model_unless_it_is_beaten_by_a_standard_error(gain, expected):
    noise = np.random.default_rng(0).normal(size=50)
    predicted = np.stack([1.0 + np.abs(noise), 1.0 - gain + np.abs(noise[::-1])])  # of values that are all 0
    assert greedy_weights(predicted, np.zeros(50)).tolist() == [0.0, 1.0]
    assert shrunk_weights(predicted, np.zeros(50), np.arange(50), 0).tolist() == expected


def test_rows_of_few_groups_are_no_proof_for_a_blend():
    gain = np.repeat([0.6, -0.4, 0.5, -0.5, 0.4], 20)  # of the second model, 0.12 in the mean
    predicted, values = np.stack([np.ones(100), 1.0 - gain]), np.zeros(100)
    assert shrunk_weights(predicted, values, np.arange(100), 0)[1] > 0
    assert shrunk_weights(predicted, values, np.repeat(np.arange(5), 20), 0).tolist() == [1.0, 0.0]


def part(*shifts, test=0.0):
    """The folds of a cell that is off by ``shifts`` on the validation rows and by ``test`` on the hold-out."""
    return [
        make_fold(rows, VALUES[rows] + shift, np.full(2, test + k), VALUES, n_train=4)
        for k, (rows, shift) in enumerate(zip(ROWS, shifts, strict=True))
    ]


def test_blend_of_opposite_cells_is_perfect_and_the_hold_out_has_no_say_in_it():
    reports, weights = blend_folds([part(1, 1, 1, test=10), part(-1, -1, -1, test=30)], VALUES, GROUPS)
    assert weights == pytest.approx(np.full((3, 2), 0.5))
    for k, report in enumerate(reports):
        assert np.array_equal(report.val_rows, ROWS[k])
        assert report.val_pred == pytest.approx(VALUES[ROWS[k]])
        assert report.val_mae == pytest.approx(0.0)
        assert report.test_pred == pytest.approx(np.full(2, 20.0 + k))  # half of 10 + k and of 30 + k
        assert (report.n_train, len(report.history)) == (4, 0)
    _, other = blend_folds([part(1, 1, 1, test=1e9), part(-1, -1, -1, test=-5)], VALUES, GROUPS)
    assert np.array_equal(weights, other)


def test_weights_of_a_fold_do_not_know_that_fold():
    # the first cell is perfect but for the last fold, the second is perfect there alone
    reports, weights = blend_folds([part(0, 0, 9), part(3, 3, 0)], VALUES, GROUPS)
    assert weights[2].tolist() == [1.0, 0.0]  # folds 0 and 1 speak for the first cell
    assert reports[2].val_mae == pytest.approx(9.0)  # and fold 2 pays for it
    assert weights[0].tolist() == [0.0, 1.0]  # this one does know fold 2


def test_cells_on_different_folds_are_not_blended():
    fickle = part(0, 0, 0)
    fickle[1] = replace(fickle[1], val_rows=np.array([2, 4]))
    for other in (fickle, part(0, 0, 0)[:2]):
        with pytest.raises(CellError, match="cross-validated on different folds"):
            blend_folds([part(0, 0, 0), other], VALUES, GROUPS)
