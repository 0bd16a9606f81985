"""Numbers as people write them: with uncertainties, units, powers of ten and marks between thousands."""

from __future__ import annotations

import math

import pytest

from crossprop.data.units import contradicting, unit_in
from crossprop.data.user_values import is_number, read_numbers
from crossprop.errors import UserFileError


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("40'344.5", 40344.5),
        ("40\u202f344", 40344.0),
        ("40.3 ± 2.0", 40.3),
        ("40.3(20)", 40.3),
        ("−5 ± 1", -5.0),
        ("2.07 E+02", 207.0),
        ("2.07x10-2", 0.0207),
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


def test_the_unit_that_most_cells_carry_is_taken_off():
    read = read_numbers(["4 GPa", "5.5 ± 1 GPa", "6"])
    assert (read.values[:2], read.unit) == ([4.0, 5.5], "GPa")
    assert read.uncertain == (1,)
    assert "no unit where most others carry 'GPa'" in read.reasons[2]
    assert (read_numbers(["4 %", "5.5%"]).values, read_numbers(["4 %", "5.5%"]).unit) == ([4.0, 5.5], "%")
    assert read_numbers(["4 GPa", "5", "6", "7"]).unit is None


def test_a_comma_that_the_column_does_not_prove_to_separate_thousands_is_not_read_as_such():
    read = read_numbers(["81.5", "101,522", "3.25"])
    assert math.isnan(read.values[1])
    assert "'101,522' may stand before decimals or between thousands" in read.reasons[1]
    assert read_numbers(["81.5", "101,522"], decimal=".").values == [81.5, 101522.0]
    assert read_numbers(["81.5", "101,522", "1,234.5"]).values == [81.5, 101522.0, 1234.5]


def test_one_proven_sign_decides_the_column():
    assert read_numbers(["1.234,5", "2,000"]).values == [1234.5, 2.0]
    assert read_numbers(["0,500", "2,000"]).values == [0.5, 2.0]
    assert read_numbers(["1.037", "2.5"]).values == [1.037, 2.5]
    assert read_numbers(["1.037", "2.074"]).values == [1.037, 2.074]
    both = read_numbers(["1.5", "2.5", "2,5", "1.037"])
    assert both.values[:2] == [1.5, 2.5]
    assert set(both.reasons) == {2}


def test_a_point_is_asked_about_where_the_rest_of_the_table_does_not_prove_it():
    for cells in (["1.037", "1.074"], ["1,234", "2,345"]):
        with pytest.raises(UserFileError, match="--decimal"):
            read_numbers(cells, elsewhere=lambda: ",")
    assert read_numbers(["1,234"], decimal=",").values == [1.234]
    assert read_numbers(["1.037", "1.074"], elsewhere=lambda: ".").values == [1.037, 1.074]


@pytest.mark.parametrize(
    ("first", "second", "contradict"),
    [
        ("GPa", "MPa", True), ("eV", "meV/atom", True), ("HV", "GPa", True), ("W/mK", "W m-1 K-1", False),
        ("[GPa]", "GPa", False), ("µV/K", "μV/K", False), ("PBE", "eV", False), ("H", "GPa", False), ("1", "eV", False),
        ("%", "GPa", True), ("10^3 GPa", "GPa", True), ("x1000", "GPa", True), ("10³ GPa", "10^3 GPa", False),
        ("1e-6/K", "10-6/K", False), ("1e-6/K", "1/K", True), ("1/K", "1/K", False),
        ("°C", "K", True), ("1/°C", "1/K", False), ("mT", "T", True), ("K", "GPa", False), ("uV/K", "µV/K", False),
        ("muV/K", "µV/K", False),
        ("mV/K", "µV/K", True), ("eV", "eV/atom", True), ("W/cm/K", "W/mK", True), ("W cm-1 K-1", "W/(m K)", True),
        ("W/m·K", "W/mK", False), ("N/mm2", "MPa", False), ("N/mm^2", "GPa", True), ("S/cm", "S/m", True),
        ("1/(ohm cm)", "S/cm", False), ("µΩ cm", "uohm·cm", False), ("nm", "Å", True), ("kOe", "Oe", True),
        ("kJ/mol", "kJ/g", True), ("g/cm3", "g cm^-3", False), ("GPa", "kbar", True), ("wt%", "%", False),
        ("TS", "MPa", False), ("Tm", "K", False),
    ],
)  # fmt: skip
def test_units_contradict_each_other_only_where_both_are_known(first, second, contradict):
    assert contradicting(first, second) == contradict


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("hardness (MPa)", "MPa"), ("hardness / MPa", "MPa"), ("hardness, MPa", "MPa"), ("hardness_MPa", "MPa"),
        ("band gap eV", "eV"), ("hardness, max", None), ("a / b", None), ("E_g", None), ("T_ms", None), ("MPa", None),
        ("Bandlücke [eV]", "eV"), ("ΔH / kJ", "kJ"), ("K(IC)-value", None), ("log10(κ)", "dex"), ("ln(k)", None),
    ],
)  # fmt: skip
def test_a_header_states_its_unit_with_or_without_brackets(name, unit):
    assert unit_in(name) == unit


def test_a_fraction_is_no_number_with_a_unit():
    read = read_numbers(["7/2", "3 / 2", "5/2"])
    assert all(map(math.isnan, read.values))
    assert "is a fraction" in read.reasons[0]
    assert read_numbers(["7 /atom", "3 /atom"]).unit == "/atom"


def test_the_same_uncertainty_in_every_cell_is_no_unit():
    read = read_numbers(["2.07(5)", "7.78(5)", "7.11(5)"])
    assert (read.values, read.unit, read.uncertain) == ([2.07, 7.78, 7.11], None, (0, 1, 2))


@pytest.mark.parametrize("cells", [["2k", "3k", "4k"], ["2M", "3k", "4M"]])
def test_a_thousand_as_a_letter_is_no_unit(cells):
    assert all(map(math.isnan, read_numbers(cells).values))
