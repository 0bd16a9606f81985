import numpy as np
import pytest

from crossprop.errors import ShapeMismatchError
from crossprop.training import metrics
from crossprop.training.metrics import mean_absolute_error, r2

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


@pytest.mark.parametrize("metric", [mean_absolute_error, metrics.mean_absolute_error_q95, r2])
def test_a_column_against_a_row_is_refused_with_both_shapes(metric):
    with pytest.raises(ShapeMismatchError, match=r"\(4,\).*\(4, 1\)"):
        metric(TRUE, PRED[:, None])
    with pytest.raises(ShapeMismatchError):
        metric(TRUE[:, None], PRED[:, None])
    with pytest.raises(ShapeMismatchError, match="at least one sample"):
        metric(np.array([]), np.array([]))
