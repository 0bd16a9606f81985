"""Numbers as people write them: with uncertainties, units, powers of ten and marks between thousands."""

from __future__ import annotations

import math

import pytest

from crossprop.data.user_values import contradicting, is_number, read_numbers
from crossprop.errors import OwnFileError


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("40'344.5", 40344.5),
        ("1’234’567", 1234567.0),
        ("40 344.5", 40344.5),
        ("40\u00a0344", 40344.0),
        ("40\u202f344", 40344.0),
        ("4.1·10^3", 4100.0),
        ("4.1 x 10^-2", 0.041),
        ("3×10⁻³", 0.003),
        ("3 * 10**2", 300.0),
        ("40.3 ± 2.0", 40.3),
        ("40.3(20)", 40.3),
        ("40.3 +/- 2", 40.3),
        ("−5 ± 1", -5.0),
        ("2.070D+02", 207.0),
        ("2.07d-2", 0.0207),
        ("2.07 E+02", 207.0),
        ("2.07 x 1000", 2070.0),
        ("2.07×10^2", 207.0),
        ("2.07x10-2", 0.0207),
        ("2.07×10²", 207.0),
    ],
)
def test_a_number_is_read_however_it_is_written(cell, value):
    read = read_numbers([cell, "1.5"])
    assert read.values == [value, 1.5]
    assert is_number(cell)


@pytest.mark.parametrize(
    "cell",
    ["1 2", "12 34 567", "1'23", "4 x 3", "x 10^3", "10^", "± 3", "1e3·10^3", "2.07 x 103", "5½", "3 E3"],
)
def test_what_only_looks_like_such_a_number_is_none(cell):
    assert math.isnan(read_numbers([cell, "1.5"]).values[0])


def test_uncertainties_are_counted():
    assert read_numbers(["1 ± 0.1", "2", "3(1)"]).uncertain == (0, 2)


def test_the_unit_that_most_cells_carry_is_taken_off():
    read = read_numbers(["4 GPa", "5.5 ± 1 GPa", "6"])
    assert (read.values[:2], read.unit) == ([4.0, 5.5], "GPa")
    assert "no unit where most others carry 'GPa'" in read.reasons[2]


def test_a_unit_that_few_cells_carry_is_a_reason_to_refuse_them():
    read = read_numbers(["4 GPa", "5", "6", "7"])
    assert read.unit is None
    assert "carries a unit" in read.reasons[0]
    assert read.values[1:] == [5.0, 6.0, 7.0]


def test_a_percent_sign_is_a_unit():
    read = read_numbers(["4 %", "5.5%"])
    assert (read.values, read.unit) == ([4.0, 5.5], "%")


def test_a_comma_that_the_column_does_not_prove_to_separate_thousands_is_not_read_as_such():
    read = read_numbers(["81.5", "101,522", "3.25"])
    assert math.isnan(read.values[1])
    assert "'101,522' may stand before decimals or between thousands" in read.reasons[1]
    assert read_numbers(["81.5", "101,522"], decimal=".").values == [81.5, 101522.0]
    assert read_numbers(["81.5", "101,522", "1,234.5"]).values == [81.5, 101522.0, 1234.5]


def test_a_date_is_named_as_such():
    assert "is a date" in read_numbers(["2021-01-10", "1"]).reasons[0]


def test_one_proven_sign_decides_the_column():
    assert read_numbers(["1.037", "1.074"] * 20 + ["907,5", "923,5"]).values[:2] == [1037.0, 1074.0]
    assert read_numbers(["1.037", "2.5"]).values == [1.037, 2.5]
    assert read_numbers(["1.037", "2.074"]).values == [1.037, 2.074]
    both = read_numbers(["1.5", "2.5", "2,5", "1.037"])
    assert both.values[:2] == [1.5, 2.5]
    assert set(both.reasons) == {2}


def test_a_point_is_asked_about_where_the_rest_of_the_table_does_not_prove_it():
    with pytest.raises(OwnFileError, match="--decimal"):
        read_numbers(["1.037", "1.074"], elsewhere=lambda: ",")
    assert read_numbers(["1.037", "1.074"], elsewhere=lambda: ".").values == [1.037, 1.074]


@pytest.mark.parametrize(
    ("first", "second", "contradict"),
    [
        ("GPa", "MPa", True), ("eV", "meV/atom", True), ("HV", "GPa", True), ("W/mK", "W m-1 K-1", False),
        ("[GPa]", "GPa", False), ("µV/K", "μV/K", False), ("PBE", "eV", False), ("H", "GPa", False), ("1", "eV", False),
    ],
)  # fmt: skip
def test_units_contradict_each_other_only_where_both_are_known(first, second, contradict):
    assert contradicting(first, second) == contradict
