"""The evidence of a cell, and values beyond all that a model's data contain."""

import numpy as np
import pandas as pd
import pytest

from crossprop.uncertainty.evidence import KnownValues, evenly, evidence_of

KNOWN = KnownValues(0.0, 312.0, 10743)


def test_evidence_is_out_of_fold_in_training_and_the_folds_mean_on_the_hold_out():
    given = {"split": ["validation"] * 3 + ["test"], "formula": ["NaCl", "Cl2Na2", "MgO", "LiF"]}
    given |= {"y_true": [1.0, 2.0, 3.0, 4.0], "y_pred": [1.5, 2.5, 3.5, 4.9]}
    given["y_pred_ensemble"] = [np.nan] * 3 + [4.2]
    frame = pd.DataFrame({"formula": ["NaCl", "KCl"], "composition": ["Cl:0.5000 Na:0.5000", "k"], "value": 9.0})
    frame = frame.assign(split=["train", "auxiliary"], group=["a", "b"])
    *rows, only_learnt = evidence_of(pd.DataFrame(given), frame).to_dict("records")
    assert (only_learnt["split"], only_learnt["y_true"], only_learnt["group"]) == ("auxiliary", 9.0, "b")
    assert np.isnan(only_learnt["y_pred"])
    rows = pd.DataFrame(rows)
    assert rows["group"].iloc[:2].tolist() == ["a", "a"]
    assert rows["split"].tolist() == ["train"] * 3 + ["test"]
    assert rows["y_pred"].tolist() == [1.5, 2.5, 3.5, 4.2]
    assert rows["y_pred_single"].tolist() == [1.5, 2.5, 3.5, 4.9]
    assert rows["composition"].iloc[0] == rows["composition"].iloc[1] == "Cl:0.5000 Na:0.5000"


def test_evenly_spaced_rows_hold_the_first_and_the_last():
    assert [evenly(n, 3).tolist() for n in (0, 1, 3, 4, 11)] == [[], [0], [0, 1, 2], [0, 2, 3], [0, 5, 10]]


def test_known_values_are_those_of_all_rows_hold_out_included():
    evidence = pd.DataFrame({"split": ["train", "train", "test"], "y_true": [2.0, 5.0, -1.0]})
    assert KnownValues.of(evidence) == KnownValues(-1.0, 5.0, 3)


@pytest.mark.parametrize(("unit", "shown"), [("GPa", " GPa"), ("1", ""), ("", "")])
def test_note_names_the_end_that_a_value_lies_beyond(unit, shown):
    assert KNOWN.notes(np.array([350.0, 100.0, -20.0]), unit) == [
        f"above all 10,743 known values, at most 312{shown}",
        "",
        f"below all 10,743 known values, at least 0{shown}",
    ]


def test_side_on_which_a_value_lies_beyond_the_known_ones():
    for known, values, expected in (
        # within a hundredth of the range: a band gap predicted as -0.01 eV is a metal, not an extrapolation
        (KNOWN, [-3.1, -3.2, 315.1, 315.2, 0.0, 312.0], [0, -1, 0, 1, 0, 0]),
        (KnownValues(3.0, 3.0, 4), [3.0, 3.1, 2.9], [0, 1, -1]),
    ):
        assert known.beyond(np.array(values)).tolist() == expected
