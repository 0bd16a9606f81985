from dataclasses import replace

import pytest

from crossprop.report.part import percent, status


@pytest.fixture
def cell(own_study):
    from crossprop.report.study import load_study_results

    return load_study_results(own_study.info, own_study.paths)[0].best_sc


def test_status_says_how_far_a_cell_came(cell):
    assert status(cell) == "cross-validated"
    screened = replace(cell, cv_mae=None)
    assert status(screened) == "screened only"
    assert status(replace(screened, stopped="after screening: 3 % behind x")) == (
        "stopped after screening: 3 % behind x"
    )
    assert status(replace(screened, stopped="a blend needs two")) == "stopped: a blend needs two"
    assert status(replace(screened, failure="DivergedError: NaN")) == "failed: DivergedError: NaN"


def test_percentages_have_their_sign():
    assert [percent(share, 1) for share in (0.031, -0.12)] == ["+3.1 %", "-12.0 %"]
