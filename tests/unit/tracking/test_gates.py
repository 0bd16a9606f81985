import json
import re

import numpy as np
import pandas as pd
import pytest

from crossprop.errors import TrackingError
from crossprop.tracking.clean_process import Repeated
from crossprop.tracking.gates import (
    Evidence,
    against_champion,
    beats_base,
    cluster_interval,
    coverage_bounds,
    coverage_within_bounds,
    evidence_of,
    expected_signature,
    known_origin,
    repeats_predictions,
)


def _evidence(y_true, y_pred, training=(0.0, 10.0), names=None):
    rows = {"formula": names or [f"X{i}" for i in range(len(y_true))], "y_true": y_true, "y_pred": y_pred}
    table = pd.DataFrame(rows)
    return Evidence(np.array(training), table.assign(composition=table["formula"]), "a test")


def _repeated(value, half_width=1.0, stated=0.9):
    value = np.asarray(value, dtype=float)
    return Repeated(value, value - half_width, value + half_width, stated, 0.5)


def test_base_is_the_mean_of_the_training_values_on_the_same_rows():
    evidence = _evidence([4.0, 8.0], [4.5, 7.5], training=(0.0, 0.0, 15.0))  # mean 5, median 0
    gate = beats_base(evidence, "GPa")
    assert gate.passed
    assert gate.figure == "MAE 0.5 GPa against 2 (-75%), 6 for the median; 2 hold-out rows"
    assert not beats_base(_evidence([4.0, 8.0], [6.0, 10.0], training=(0.0, 0.0, 15.0)), "GPa").passed


def test_model_that_gives_another_value_is_named_with_the_formula():
    evidence = _evidence([0.0, 100.0, 50.0], [1.0, 99.0, 50.0])
    rows = np.array([0, 1, 2])
    assert repeats_predictions(evidence, rows, _repeated([1.0, 99.05, 50.0])).passed
    gate = repeats_predictions(evidence, rows, _repeated([1.0, 99.2, 50.0]))
    assert not gate.passed
    assert gate.figure.startswith("gives 99.2 for X1, 99 was logged")


def test_number_that_is_none_does_not_count_as_repeated():
    evidence = _evidence([0.0, 100.0], [1.0, 99.0])
    assert not repeats_predictions(evidence, np.array([0, 1]), _repeated([1.0, np.nan])).passed


@pytest.mark.parametrize(("shift", "passed"), [(0.0, True), (-1.0, True), (0.02, True), (1.0, False)])
def test_candidate_may_be_equal_or_better_but_not_worse_beyond_doubt(shift, passed):
    rng = np.random.default_rng(0)
    y_true = rng.normal(size=200)
    champion = _evidence(y_true, y_true + rng.normal(2, 0.3, 200))
    candidate = _evidence(y_true, y_true + np.abs(rng.normal(2 + shift, 0.3, 200)))
    gate = against_champion(candidate, champion, "3", "GPa")
    assert gate.passed is passed
    assert "against v3 (95 %), 200 hold-out rows" in gate.figure
    assert ("worse beyond doubt" in gate.figure) is not passed


def test_hold_outs_that_differ_are_compared_on_their_common_rows_and_it_is_said():
    y = np.arange(60.0)
    names = [f"X{i}" for i in range(60)]
    order = np.random.default_rng(0).permutation(40)
    candidate = _evidence(y[:50], y[:50] + 1, names=names[:50])
    champion = _evidence(y[order], y[order] + 3, names=[names[i] for i in order])
    gate = against_champion(candidate, champion, "1", "GPa")
    assert (
        gate.figure
        == "MAE -2 [-2, -2] GPa against v1 (95 %), on the 40 rows that the hold-outs share (of 50 and 40): better "
        "beyond doubt"
    )
    few = _evidence(y[30:], y[30:] + 3, names=names[30:])
    gate = against_champion(candidate, few, "1", "GPa")
    assert not gate.passed
    assert not gate.measured
    assert "of 50 rows shares 20 with the 30 of champion v1; at least 30 are needed" in gate.figure


def test_rows_that_repeat_a_composition_are_paired_by_value():
    candidate = _evidence([1.0, 2.0, 2.0], [1.5, 2.5, 2.5], names=["A", "A", "A"])
    champion = _evidence([2.0, 1.0, 2.0], [4.0, 3.0, 4.0], names=["A", "A", "A"])
    assert against_champion(candidate, champion, "1", "1").figure.startswith("MAE -1.5 [-1.5, -1.5] against")


def test_rows_of_one_composition_are_drawn_together():
    rng = np.random.default_rng(0)
    of_group = rng.normal(size=50)
    gaps, groups = np.repeat(of_group, 20), np.repeat(np.arange(50), 20)
    together = cluster_interval(gaps, groups)
    apart = cluster_interval(gaps, np.arange(len(gaps)))
    assert together[1] - together[0] > 4 * (apart[1] - apart[0])
    half = 1.96 * of_group.std() / np.sqrt(50)
    assert together == pytest.approx((of_group.mean() - half, of_group.mean() + half), abs=0.04)


@pytest.mark.parametrize(
    ("tags", "dirty", "passed", "said"),
    [
        (
            {"crossprop.data_hash": "ab" * 16, "crossprop.git_commit": "c" * 40},
            "false",
            True,
            "commit cccccccccccc",
        ),
        (
            {"crossprop.data_hash": "ab" * 16, "crossprop.git_commit": "c" * 40},
            "true",
            True,
            "uncommitted changes",
        ),
        ({"crossprop.data_hash": "ab" * 16, "crossprop.git_commit": "c" * 40}, None, True, "unknown"),
        ({"crossprop.data_hash": "ab" * 16}, None, False, "commit unknown"),
        ({"crossprop.data_hash": "", "crossprop.git_commit": "c" * 40}, "false", False, "data unknown"),
    ],
)
def test_data_and_code_have_to_be_known(tags, dirty, passed, said):
    gate = known_origin(tags, dirty)
    assert gate.passed is passed
    assert said in gate.figure


def _described(inputs, outputs):
    as_json = [json.dumps([{"name": n, "type": t} for n, t in side.items()]) for side in (inputs, outputs)]
    return {"signature": dict(zip(("inputs", "outputs"), as_json, strict=True))}


OUTPUTS = {"value": "double", "lower": "double", "upper": "double", "in_domain": "boolean", "note": "string"}
INFO = {"target": "band_gap", "unit": "eV"}


def test_signature_that_the_service_reads_passes():
    gate = expected_signature(_described({"formula": "string"}, OUTPUTS), INFO, "band_gap", "eV")
    assert gate.passed
    assert gate.figure == "formula → value, lower, upper, in_domain, note, in eV"


@pytest.mark.parametrize(
    ("inputs", "outputs", "info", "said"),
    [
        ({"x": "double"}, OUTPUTS, INFO, "needs one text 'formula'"),
        ({"formula": "string"}, {"value": "double"}, INFO, r"the outputs lower \(double\), upper"),
        (
            {"formula": "string"},
            OUTPUTS,
            {"target": "band_gap", "unit": "meV"},
            "band_gap in meV, not of band_gap",
        ),
        ({"formula": "string"}, OUTPUTS, {"target": "volume", "unit": "eV"}, "are of volume"),
    ],
)
def test_other_signature_or_property_fails(inputs, outputs, info, said):
    gate = expected_signature(_described(inputs, outputs), info, "band_gap", "eV")
    assert not gate.passed
    assert re.search(said, gate.figure), gate.figure


def test_model_without_a_signature_fails():
    assert not expected_signature({}, INFO, "band_gap", "eV").passed


def test_coverage_may_differ_by_three_points_or_by_what_chance_allows():
    assert coverage_bounds(0.9, 100_000) == pytest.approx((0.87, 0.93))
    low, high = coverage_bounds(0.9, 100)
    assert (low, high) == pytest.approx((0.82, 0.97))
    assert coverage_bounds(0.9, 3) == (pytest.approx(1 / 3), 1.0)


@pytest.mark.parametrize(("held", "passed"), [(900, True), (880, True), (860, False), (940, False)])
def test_coverage_is_counted_on_the_hold_out(held, passed):
    y_true = np.r_[np.zeros(held), np.full(1000 - held, 5.0)]
    gate = coverage_within_bounds(y_true, _repeated(np.zeros(1000)))
    assert gate.passed is passed
    assert gate.figure.startswith(f"{held / 10:.1f}% of 1,000 hold-out rows, 90% stated")


def test_evidence_is_read_from_both_kinds_of_table():
    beside = pd.DataFrame(
        {
            "formula": ["NaCl", "MgO"],
            "composition": ["a", "b"],
            "split": ["train", "test"],
            "y_true": [1.0, 2.0],
        }
    ).assign(y_pred=[1.5, 3.0])
    of_run = pd.DataFrame({"formula": ["NaCl", "MgO"], "split": ["validation", "test"], "fold": 0}).assign(
        y_true=[1.0, 2.0], y_pred=[1.5, 9.0], y_pred_ensemble=[np.nan, 3.0]
    )
    for table in (beside, of_run):
        evidence = evidence_of(table, "table")
        assert (evidence.mae, evidence.base_mae(), list(evidence.training)) == (1.0, 1.0, [1.0])
    assert list(evidence_of(of_run, "table").holdout["composition"]) == ["Mg:0.5000 O:0.5000"]
    with pytest.raises(TrackingError, match="1 training and 0 hold-out rows"):
        evidence_of(beside.head(1), "table")
    with pytest.raises(TrackingError, match="lack the columns y_pred"):
        evidence_of(beside.drop(columns="y_pred"), "table")
