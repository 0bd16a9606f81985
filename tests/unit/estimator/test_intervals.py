"""Intervals of the estimator: those of the model that it saves, at whatever coverage is asked for."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from made_rows import rows_of

from crossprop import CrossPropertyRegressor
from crossprop.data.compositions import fraction_matrix
from crossprop.inference.predictor import ServedModel
from crossprop.models.saved import write_digests

FORMULAS = rows_of(60)["formula"].tolist()


def test_another_coverage_is_that_of_the_saved_model_with_what_its_folds_gain_together(quick_fit):
    model = ServedModel.load(quick_fit.model_folder_)
    without_gain = model.evidence.assign(y_pred_single=model.evidence["y_pred"])
    saved = model.with_coverage(0.6)
    assert saved.calibration.scale < model.calibration.at_coverage(without_gain, 0.6).scale
    expected = saved.predict(fraction_matrix(FORMULAS))
    judged = quick_fit.predict_interval(FORMULAS, coverage=0.6)
    np.testing.assert_allclose(judged, np.stack([expected.lower, expected.upper], axis=1))


def test_the_stated_coverage_is_that_of_the_saved_model(quick_fit):
    expected = ServedModel.load(quick_fit.model_folder_).predict(fraction_matrix(FORMULAS))
    for coverage in (None, 0.9):
        judged = quick_fit.predict_interval(FORMULAS, coverage=coverage)
        np.testing.assert_allclose(judged, np.stack([expected.lower, expected.upper], axis=1))


def test_intervals_hold_the_prediction_and_grow_with_the_coverage(quick_fit):
    value = quick_fit.predict(FORMULAS)
    narrow, wide = (quick_fit.predict_interval(FORMULAS, coverage=c) for c in (0.5, 0.95))
    assert narrow.shape == (60, 2)
    assert (narrow[:, 0] <= value).all()
    assert (value <= narrow[:, 1]).all()
    assert (np.diff(wide, axis=1) > np.diff(narrow, axis=1)).all()


@pytest.mark.parametrize("coverage", [0, 1, 1.5, 90, -1, "much", True, float("nan")])
def test_a_coverage_that_is_no_share_is_refused(quick_fit, coverage):
    with pytest.raises(ValueError, match="a share between 0 and 1"):
        quick_fit.predict_interval(FORMULAS, coverage=coverage)


def test_a_coverage_beyond_what_the_errors_can_tell_is_warned_of(quick_fit):
    with pytest.warns(UserWarning, match=r"48 errors are known.*too few for a coverage of 0.99"):
        quick_fit.predict_interval(["NaCl"], coverage=0.99)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick_fit.predict_interval(["NaCl"], coverage=0.95)


def test_a_model_without_evidence_knows_its_own_coverage_only(quick_fit, tmp_path):
    note = quick_fit.save(tmp_path / "model") / "model.json"
    info = json.loads(note.read_text())
    del info["interval"]["method"]
    note.write_text(json.dumps(info))
    write_digests(note.parent)
    loaded = CrossPropertyRegressor.load(note.parent)
    assert loaded.predict_interval(FORMULAS, coverage=0.9).shape == (60, 2)
    with pytest.raises(ValueError, match="saved without evidence"):
        loaded.predict_interval(FORMULAS, coverage=0.5)
