from dataclasses import replace

import numpy as np
import pytest

from crossprop.methods import Method
from crossprop.report.paper import Outcome, enter, judge
from crossprop.report.study import load_study_results


@pytest.fixture
def target(own_study):
    return load_study_results(own_study.info, own_study.paths)[1]


def _cells(target, method):
    return [cell for cell in target.cells if cell.method is method]


@pytest.mark.parametrize(
    ("ours", "published", "outcome"),
    [(1.0, 1.04, Outcome.TIE), (1.0, 0.96, Outcome.TIE), (1.0, 1.06, Outcome.WIN), (1.0, 0.94, Outcome.LOSS)],
)
def test_a_tie_is_within_one_standard_error_of_ours(ours, published, outcome):
    assert judge(ours, 0.05, published) is outcome


def test_without_a_standard_error_the_lower_one_wins():
    assert judge(1.0, None, 1.001) is Outcome.WIN
    assert judge(1.0, float("nan"), 0.999) is Outcome.LOSS


def test_without_one_of_the_numbers_nobody_wins():
    assert judge(None, 0.1, 1.0) is None
    assert judge(1.0, 0.1, None) is None


def test_the_cell_with_the_least_cross_validation_error_stands_in_the_table(target):
    cells = [*_cells(target, Method.FINETUNE), *_cells(target, Method.MODFINETUNE)]
    entry = enter(target, cells, 5.0)
    validated = [cell for cell in cells if cell.cv_mae]
    assert entry.cell is min(validated, key=lambda cell: cell.cv_mae_mean)
    assert (entry.validated, entry.candidates) == (2, 4)
    assert entry.run_id == target.run_id(entry.cell)
    assert entry.status == "cross-validated"


def test_numbers_are_those_of_the_hold_out(target):
    entry = enter(target, _cells(target, Method.ML), 5.0)
    rows = target.hold_out(entry.cell)
    errors = np.abs(rows["y_true"] - rows["y_pred"])
    assert entry.mae == pytest.approx(errors.mean())
    assert entry.standard_error == pytest.approx(errors.sem())
    assert entry.ensemble_mae == pytest.approx(np.abs(rows["y_true"] - rows["y_pred_ensemble"]).mean())
    assert entry.ratio == pytest.approx(errors.mean() / 5.0)


def test_a_stopped_cell_stands_there_with_its_reason(target):
    entry = enter(target, _cells(target, Method.FREEZING), 5.0)
    assert entry.cell is None
    assert entry.mae is None
    assert entry.outcome is None
    assert entry.status.startswith(
        "stopped after screening: 61.0 % behind finetune(band_gap): TL:freezing from"
    )
    assert "(screening MAE" in entry.status
    assert entry.run_id


def test_a_screened_cell_stands_there_as_screened(target):
    screened = [cell for cell in _cells(target, Method.DL) if cell.cv_mae is None]
    entry = enter(target, screened, 5.0)
    assert entry.status.startswith("screened only: SC:DL(")
    assert (entry.validated, entry.candidates) == (0, 1)


def test_failed_and_absent_cells_say_so(target):
    failed = replace(_cells(target, Method.DL)[0], failure="DivergedError: NaN", val_mae=None, cv_mae=None)
    assert enter(target, [failed], 5.0).status.startswith("failed: DivergedError: NaN: SC:DL(")
    assert enter(target, [], 5.0).status == "not in this study"
