import json
import re

import numpy as np
import pandas as pd
import pytest
from mlflow.models import Model

from crossprop.tracking import gates
from crossprop.tracking.subprocess_check import Repeated

VALUES = np.random.default_rng(0).normal(size=400)
DATA, COMMIT = {"data_hash": "ab" * 16}, {"git_commit": "c" * 40}
OUTPUTS = {"value": "double", "lower": "double", "upper": "double", "in_domain": "boolean", "note": "string"}


def _evidence(y_true, y_pred, training=(0.0, 10.0), names=None):
    rows = {"formula": names or [f"X{i}" for i in range(len(y_true))], "y_true": y_true, "y_pred": y_pred}
    table = pd.DataFrame(rows)
    return gates.Evidence(np.array(training), table.assign(composition=table["formula"]))


def _repeated(value, half_width=1.0):
    value = np.asarray(value, dtype=float)
    return Repeated(value, value - half_width, value + half_width, 0.5)


def test_base_is_the_mean_of_the_training_values_on_the_same_rows():
    evidence = _evidence([4.0, 8.0], [4.5, 7.5], training=(0.0, 0.0, 15.0))  # mean 5, median 0
    gate = gates.beats_base(evidence, "GPa")
    assert gate.passed
    assert gate.figure == "MAE 0.5 GPa against 2 for the mean (-75%), 6 for the median; 2 hold-out rows"
    assert not gates.beats_base(_evidence([4.0, 8.0], [6.0, 10.0], training=(0.0, 0.0, 15.0)), "GPa").passed


def test_model_that_gives_another_value_or_none_is_named_with_the_formula():
    rows = _evidence([0.0, 100.0, 50.0], [1.0, 99.0, 50.0]).holdout
    assert gates.repeats_predictions(rows, _repeated([1.0, 99.05, 50.0])).passed
    assert not gates.repeats_predictions(rows, _repeated([1.0, np.nan, 50.0])).passed
    gate = gates.repeats_predictions(rows, _repeated([1.0, 99.2, 50.0]))
    assert not gate.passed
    assert gate.figure.startswith("gives 99.2 for X1, 99 was logged")
    far = _evidence([7000.0, 7001.0], [7000.0, 7001.0]).holdout
    assert not gates.repeats_predictions(far, _repeated([7001.0, 7000.0])).passed
    small = _evidence([1e-16, 2e-16], [1e-16, 2e-16]).holdout
    assert not gates.repeats_predictions(small, _repeated([2e-16, 1e-16])).passed


def _shrunk(y, share):
    return y.mean() + share * (y - y.mean())


def test_collapsed_predictions_fail():
    for y_true, y_pred, passed, said in (
        (VALUES, _shrunk(VALUES, 0.25), True, "0.26 of that of the values (at least 0.2)"),
        (VALUES, _shrunk(VALUES, 0.15), False, "standard deviation 0.16 of"),
        (VALUES, np.sign(VALUES), False, "2 distinct predictions (at least 20)"),
        (VALUES[:6], VALUES[:6], True, "6 distinct predictions (at least 3)"),
        (np.sign(VALUES), np.sign(VALUES), True, "2 distinct predictions (at least 1)"),
        (np.r_[VALUES, 500.0], np.r_[_shrunk(VALUES, 0.5), 1.0], True, "standard deviation 0.53 of"),
        (np.ones(50), np.ones(50), True, "standard deviation 1 of"),
    ):
        gate = gates.varied_predictions(_evidence(y_true, y_pred))
        assert (gate.passed, gate.key) == (passed, "spread")
        assert said in gate.figure


@pytest.mark.parametrize(("shift", "passed"), [(0.0, True), (-1.0, True), (0.02, True), (1.0, False)])
def test_candidate_may_be_equal_or_better_but_not_worse_beyond_doubt(shift, passed):
    rng = np.random.default_rng(0)
    y_true = rng.normal(size=200)
    champion = _evidence(y_true, y_true + rng.normal(2, 0.3, 200))
    candidate = _evidence(y_true, y_true + np.abs(rng.normal(2 + shift, 0.3, 200)))
    gate = gates.against_champion(candidate, champion, "3", "GPa")
    assert gate.passed is passed
    assert "against v3 (95 %), 200 hold-out rows" in gate.figure
    assert ("worse beyond doubt" in gate.figure) is not passed


def test_hold_outs_that_differ_are_compared_on_their_common_rows_and_it_is_said():
    y = np.arange(60.0)
    names = [f"X{i}" for i in range(60)]
    order = np.random.default_rng(0).permutation(40)
    candidate = _evidence(y[:50], y[:50] + 1, names=names[:50])
    champion = _evidence(y[order], y[order] + 3, names=[names[i] for i in order])
    gate = gates.against_champion(candidate, champion, "1", "GPa")
    shared = "on the 40 rows that the hold-outs share (of 50 and 40): better beyond doubt"
    assert gate.figure == f"MAE -2 [-2, -2] GPa against v1 (95 %), {shared}"
    few = _evidence(y[30:], y[30:] + 3, names=names[30:])
    gate = gates.against_champion(candidate, few, "1", "GPa")
    assert (gate.passed, gate.measured) == (False, False)
    assert "of 50 rows shares 20 with the 30 of champion v1; at least 23 are needed" in gate.figure
    grown = gates.against_champion(
        _evidence(y[:21], y[:21] + 1, names=names[:21]), _evidence(y[:20], y[:20] + 3, names=names[:20]), "1", ""
    )
    assert grown.passed
    assert "on the 20 rows that the hold-outs share (of 21 and 20)" in grown.figure


def test_rows_that_repeat_a_composition_are_paired_by_value():
    candidate = _evidence([1.0, 2.0, 2.0], [1.5, 2.5, 2.5], names=["A", "A", "B"])
    champion = _evidence([2.0, 1.0, 2.0], [4.0, 3.0, 4.0], names=["A", "A", "B"])
    gate = gates.against_champion(candidate, champion, "1", "1")
    assert gate.figure.startswith("MAE -1.5 [-1.5, -1.5] against")


def test_rows_of_one_group_count_once_against_the_champion():
    y, worse = np.arange(40.0), np.repeat([0.5, 3.0, -1.0, -1.4], 10)  # four groups: no more than chance
    candidate, champion = _evidence(y, y + 5 + worse), _evidence(y, y + 5)
    apart = gates.against_champion(candidate, champion, "1", "")
    candidate.holdout["group"] = np.repeat(["a", "b", "c", "d"], 10)
    together = gates.against_champion(candidate, champion, "1", "")
    assert (apart.passed, together.passed) == (True, True)
    widths = [float(g.figure.split(", ")[1].split("]")[0]) for g in (apart, together)]
    assert widths[1] > 3 * widths[0]
    candidate.holdout["group"] = "a"
    assert not gates.against_champion(candidate, champion, "1", "").measured


def test_data_and_code_have_to_be_known():
    for tags, passed, said in (
        (DATA | COMMIT | {"git_dirty": "true"}, True, "ccc with uncommitted changes"),
        (DATA | COMMIT, True, "data abababababab, commit cccccccccccc, changes"),
        (DATA, False, "commit unknown"),
        (COMMIT, False, "data unknown"),
    ):
        gate = gates.known_origin({f"crossprop.{key}": value for key, value in tags.items()})
        assert gate.passed is passed
        assert said in gate.figure


def test_signature_and_property_have_to_be_those_that_the_service_reads():
    for inputs, outputs, info, said in (
        ({"formula": "string"}, OUTPUTS, {}, "^formula → value, lower, upper, in_domain, note, in eV$"),
        ({"x": "double"}, OUTPUTS, {}, "needs one text 'formula'"),
        ({"formula": "string"}, {"value": "double"}, {}, r"the outputs lower \(double\), upper"),
        ({"formula": "string"}, OUTPUTS, {"unit": "meV"}, "band_gap in meV, not of band_gap"),
        ({"formula": "string"}, OUTPUTS, {"target": "volume"}, "are of volume"),
    ):
        as_json = [json.dumps([{"name": n, "type": t} for n, t in side.items()]) for side in (inputs, outputs)]
        model = Model.from_dict({"signature": dict(zip(("inputs", "outputs"), as_json, strict=True))})
        gate = gates.expected_signature(model, {"target": "band_gap", "unit": "eV"} | info, "band_gap", "eV")
        assert gate.passed is said.endswith("$")
        assert re.search(said, gate.figure), gate.figure
        assert not gates.expected_signature(Model(), info, "band_gap", "eV").passed


@pytest.mark.parametrize(("held", "passed"), [(880, True), (860, False), (940, False)])
def test_coverage_is_counted_on_the_hold_out(held, passed):
    y_true = np.r_[np.zeros(held), np.full(1000 - held, 5.0)]
    rows = pd.DataFrame({"y_true": y_true, "composition": range(1000)})
    gate = gates.coverage_within_bounds(rows, _repeated(np.zeros(1000)), 0.9)
    assert gate.passed is passed
    assert gate.figure == f"{held / 10:.1f}% of 1,000 hold-out rows, 90% stated (allowed 87.0% to 93.0%)"


def test_intervals_that_miss_whole_groups_are_given_more_room():
    rows = pd.DataFrame({"y_true": np.r_[np.zeros(840), np.full(160, 5.0)], "composition": range(1000)})
    assert not gates.coverage_within_bounds(rows, _repeated(np.zeros(1000)), 0.9).passed
    rows["group"] = np.arange(1000) // 20
    assert gates.coverage_within_bounds(rows, _repeated(np.zeros(1000)), 0.9).passed
    few = rows.drop(columns="group").iloc[819:849]  # 21 of 30
    gate = gates.coverage_within_bounds(few, _repeated(np.zeros(30)), 0.9)
    assert not gate.passed
    assert gate.figure.endswith("(allowed 73.3% to 100.0%)")
