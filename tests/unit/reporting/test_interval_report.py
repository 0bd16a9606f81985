"""Coverage of the served models in the report: measured where there is evidence, silent where there is none."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import ModelFormatError
from crossprop.report.part import Part
from crossprop.report.study import load_study_results
from crossprop.report.summary import summarize
from crossprop.report.supplement.intervals import (
    coverage_part,
    coverage_rows,
    coverage_sentence,
    target_coverages,
)
from crossprop.uncertainty.evidence import write_evidence

FORMULAS = [
    f"{metal}{n}{other}" for metal in ("Na", "K", "Fe", "Co") for n in (1, 2, 3) for other in ("Cl", "O", "S")
]


def add_evidence(study, target: str, *, held: int) -> None:
    """Give a target's model residuals of 1 in training, and a hold-out of ten rows of which so many fit."""
    folder = study.paths.results(target) / "model"
    folder.mkdir()
    info = {"format": 3, "interval": {"coverage": 0.9, "half_width": 1.0}, "seen_elements": list(ELEMENTS)}
    (folder / "model.json").write_text(json.dumps(info), encoding="utf-8")
    rows = pd.DataFrame({"formula": FORMULAS, "composition": FORMULAS, "split": "train", "y_true": 5.0})
    rows.loc[26:, "split"] = "test"
    away = np.where(np.arange(36) < 26 + held, 1.0, 3.0)
    write_evidence(folder, rows.assign(y_pred=5.0 + away, y_pred_single=5.0 + away))


@pytest.fixture
def measured(study):
    """Two targets, one of them with evidence: nine of ten values within their interval."""
    add_evidence(study, "slme", held=9)
    return study


def _found(study):
    return target_coverages(load_study_results(study.info, study.paths), study.paths)


def test_targets_without_evidence_are_left_out(measured):
    assert [one.target.info.key for one in _found(measured)] == ["slme"]


def test_coverage_width_and_error_are_those_of_the_hold_out(measured):
    (row,) = coverage_rows(_found(measured))
    assert (row["n_test"], row["stated"], row["measured"]) == (10, 0.9, 0.9)
    assert row["mean_width"] == pytest.approx(2.0)
    assert row["test_mae_ensemble"] == pytest.approx((9 * 1 + 3) / 10)
    assert row["outside_domain"] == 0.0
    assert row["mae_outside"] is None
    assert row["winner_run_id"]


def test_finding_counts_rows_and_large_targets(measured):
    (one,) = _found(measured)
    assert coverage_sentence([one]).endswith("hold **90.0 %** of 10 hold-out values.")
    large = replace(one, coverage=replace(one.coverage, n=990, share=0.99))
    assert "hold **98.9 %** of 1,000 hold-out values" in coverage_sentence([one, large])
    assert "on **0 of 1** targets with 500 or more" in coverage_sentence([one, large])
    outside = replace(one, coverage=replace(one.coverage, flagged=0.1, mae_outside=3.6, share_outside=0.0))
    assert (
        "Of the 1 values there the intervals hold 0.0 %; the error is 3.00 times"
        in coverage_part([outside]).text
    )


def test_report_shows_the_measured_coverage(measured, tmp_path):
    summarize(measured.info, measured.paths, tmp_path / "report", measured.paper)
    page = (tmp_path / "report" / "supplement.md").read_text()
    assert "## Intervals and training domain" in page
    assert "| SLME | % | 10 | 90 % | 90.0 % | 1.67 | 0.0 % | 1.20 | – |" in page
    assert (tmp_path / "report" / "figures" / "coverage.png").stat().st_size > 2000
    assert "**90.0 %** of 10 hold-out values" in (tmp_path / "report" / "README.md").read_text()


def test_study_of_models_without_evidence_says_nothing_of_coverage(study):
    found = _found(study)
    assert (found, coverage_sentence(found), coverage_part(found)) == ((), "", Part())


def test_damaged_evidence_is_named(measured):
    path = measured.paths.results("slme") / "model" / "calibration" / "points.npy"
    path.unlink()
    with pytest.raises(ModelFormatError, match=r"points\.npy"):
        _found(measured)
