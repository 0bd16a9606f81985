"""Values beyond all that a model's data hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crossprop.uncertainty.evidence import KnownValues

KNOWN = KnownValues(0.0, 312.0, 10743)


def test_least_and_greatest_value_are_those_of_all_rows_hold_out_included():
    evidence = pd.DataFrame({"split": ["train", "train", "test"], "y_true": [2.0, 5.0, -1.0]})
    assert KnownValues.of(evidence) == KnownValues(-1.0, 5.0, 3)


@pytest.mark.parametrize("evidence", [None, pd.DataFrame({"y_true": np.zeros(0)})])
def test_without_data_nothing_is_known(evidence):
    assert KnownValues.of(evidence) is None


def test_a_value_beyond_the_known_ones_is_said_with_their_end_and_unit():
    assert KNOWN.notes(np.array([350.0, 100.0, -20.0]), "GPa") == [
        "above all 10,743 known values, at most 312 GPa",
        "",
        "below all 10,743 known values, at least 0 GPa",
    ]


@pytest.mark.parametrize("unit", ["1", "", None])
def test_a_property_without_a_unit_is_said_without_one(unit):
    assert KNOWN.notes(np.array([400.0]), unit) == ["above all 10,743 known values, at most 312"]


def test_to_miss_an_end_by_a_hundredth_of_the_range_is_not_to_lie_beyond_it():
    # a band gap predicted as -0.01 eV is a metal, not an extrapolation
    assert KNOWN.beyond(np.array([-3.1, -3.2, 315.1, 315.2, 0.0, 312.0])).tolist() == [0, -1, 0, 1, 0, 0]


def test_where_all_values_are_one_any_other_lies_beyond():
    assert KnownValues(3.0, 3.0, 4).beyond(np.array([3.0, 3.1, 2.9])).tolist() == [0, 1, -1]
