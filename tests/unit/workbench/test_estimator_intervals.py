"""Intervals of the estimator: those of the model that it saves, at whatever coverage is asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from made_rows import rows_of

from crossprop import CrossPropertyRegressor
from crossprop.data.compositions import fraction_matrix
from crossprop.inference.predictor import ServedModel

ROWS = rows_of(60)
FORMULAS = ROWS["formula"].tolist()


@pytest.fixture(scope="module")
def fitted():
    return CrossPropertyRegressor(methods=["ml"], trials=1, folds=2, holdout=0.2).fit(FORMULAS, ROWS["value"])


def test_another_coverage_is_that_of_the_saved_model_with_what_its_folds_gain_together(fitted):
    model = ServedModel.load(fitted.model_folder_, compiled=False)
    without_gain = model.evidence.assign(y_pred_single=model.evidence["y_pred"])
    saved = model.with_coverage(0.6)
    assert saved.calibration.scale < model.calibration.at_coverage(without_gain, 0.6).scale
    expected = saved.predict(fraction_matrix(FORMULAS))
    judged = fitted.predict_interval(FORMULAS, coverage=0.6)
    np.testing.assert_allclose(judged, np.stack([expected.lower, expected.upper], axis=1))


def test_naming_the_stated_coverage_changes_nothing(fitted):
    expected = ServedModel.load(fitted.model_folder_, compiled=False).predict(fraction_matrix(FORMULAS))
    judged = fitted.predict_interval(FORMULAS, coverage=0.9)
    np.testing.assert_allclose(judged, np.stack([expected.lower, expected.upper], axis=1))


@pytest.mark.parametrize("coverage", [0, 1, 90, float("nan")])
def test_a_coverage_that_is_no_share_is_refused(fitted, coverage):
    with pytest.raises(ValueError, match="a share between 0 and 1"):
        fitted.predict_interval(FORMULAS, coverage=coverage)


def test_a_model_without_evidence_knows_its_own_coverage_only(fitted, tmp_path):
    note = fitted.save(tmp_path / "model") / "model.json"
    info = json.loads(note.read_text())
    del info["interval"]["method"]
    note.write_text(json.dumps(info))
    loaded = CrossPropertyRegressor.load(note.parent)
    assert loaded.predict_interval(FORMULAS, coverage=0.9).shape == (60, 2)
    with pytest.raises(ValueError, match="saved without evidence"):
        loaded.predict_interval(FORMULAS, coverage=0.5)
