import pytest

from crossprop.report.page import duration
from crossprop.report.part import interval, markdown_table, number, p_value, unit_name


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12, "0.1200"), (48.1138, "48.11"), (12345.6, "12346"), (-0.00123449, "-0.001234"), (0.0, "0")],
)
def test_numbers_have_four_digits_and_no_exponent(value, text):
    assert number(value) == text


def test_very_small_numbers_have_an_exponent():
    assert number(1.5e-9, 3) == "1.50e-09"
    assert interval(1.5e-9, 1e-9, 2e-9) == "[1.00e-09, 2.00e-09]"


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_no_number_is_a_dash(value):
    assert number(value) == "–"


def test_both_ends_of_an_interval_have_the_same_decimals():
    assert interval(9.9, 8.123, 10.456) == "[8.1, 10.5]"
    assert interval(9.9, None, 10.0) == ""


def test_small_p_values_are_bounded():
    assert [p_value(p) for p in (0.00004, 0.0312, 0.25)] == ["p < 0.001", "p = 0.031", "p = 0.25"]


def test_a_pure_number_has_no_unit():
    assert [unit_name(unit) for unit in ("", "1", "eV")] == ["–", "–", "eV"]


def test_a_bar_in_a_table_is_escaped():
    assert markdown_table(["a", "b"], [["x|y", "1"]]).splitlines()[2] == "| x\\|y | 1 |"


def test_durations_change_their_unit():
    assert [duration(s) for s in (48.2, 192.0, 5040.0, 7200.0)] == ["48 s", "3.2 min", "84.0 min", "2.0 h"]
