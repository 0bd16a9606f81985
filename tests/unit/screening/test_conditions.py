"""The language of conditions: what it means, what it refuses, and the bounds that follow from it."""

import re
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossprop.errors import ExpressionError
from crossprop.screening.conditions import bounded_property, parse_expression, range_of, read_conditions

NAMES = ("bulk", "jarvis.gap")
INF = np.inf
VALUES = {
    "bulk": np.array([100.0, 200.0, 300.0]),
    "bulk.lower": np.array([90.0, 190.0, 250.0]),
    "bulk.upper": np.array([110.0, 210.0, 350.0]),
    "bulk.in_domain": np.array([True, False, True]),
    "jarvis.gap": np.array([0.0, np.nan, 2.0]),
    "Fe": np.array([0.0, 0.5, 1.0]),
    "n_elements": np.array([2, 3, 3]),
}


def holds(where, values, names=NAMES):
    """Whether all parts of a condition hold."""
    return reduce(np.logical_and, [part(values) for part in parse_expression(where, names, "condition")])


def test_meaning_of_conditions():
    for text, expected in (
        ("bulk > 150", [0, 1, 1]),
        ("bulk>150 and not bulk.in_domain", [0, 1, 0]),
        ("bulk < 150 or bulk > 250 and Fe == 1", [1, 0, 1]),
        ("(bulk < 150 or bulk > 250) and Fe == 1", [0, 0, 1]),
        ("abs(bulk - 200) < 1", [0, 1, 0]),
        ("min(bulk, 250, 10 * n_elements) == 30", [0, 1, 1]),
        ("log10(bulk) == 2 or sqrt(Fe) == 1", [1, 0, 1]),
        ("-bulk ** 2 < -50000", [0, 0, 1]),
        ("bulk / jarvis.gap > 100", [1, 0, 1]),  # by zero: infinite; by NaN: NaN
        ("n_elements == 3 and True", [0, 1, 1]),
        ("-1 / Fe < 1 / Fe", [1, 1, 1]),
        ("9**9**9**9**9 > bulk", [1, 1, 1]),  # costs nothing: numbers are floats
    ):
        assert (holds(text, VALUES) == np.array(expected, dtype=bool)).all()


def test_what_is_no_condition_is_refused():
    for text, part in (
        ("__import__('os').system('touch /tmp/x') > 1", "column 1: this is not allowed; known are"),
        ("bulk.__class__ > 1", "unknown name 'bulk.__class__'"),
        ("bulk > 'abc'", "column 8: this is not allowed"),
        ("max(*bulk, 1) > 1", "this is not allowed"),
        ("bulk > 1 || Fe > 0", "column 11: this cannot be read"),
        ("bulk = 200", "'and', 'or', 'not'"),
        ("bulk > 1  # stiff\n and Fe > 0", "column 10: comments"),
        ("bulk > 1 and", "column 13: this cannot be read"),
        ("bulk > 100 and Fe", "column 16: this is a number where a condition"),
        ("(bulk > 1) + 1 > 1", "this is a condition where a number"),
        ("Fe > 0 and gap > 2", "column 12: unknown name 'gap'"),
        ("blk > 100", "did you mean bulk"),
        ("bulk", "is a number, not a condition"),
        ("", "empty"),
        ("-" * 900 + "1 > 2", "at most 300"),
        ("bulk > 1" + " or bulk > 1" * 200, "at most 300"),
        ("\x00bulk > 1", "cannot be read"),
    ):
        with pytest.raises(ExpressionError, match=re.escape(part)):
            parse_expression(text, NAMES, "condition")


@pytest.mark.parametrize(
    ("sign", "expected"), [("==", True), (">=", True), ("<=", True), (">", False), ("<", False), ("!=", False)]
)
def test_sums_of_fractions_count_as_equal_whatever_their_rounding(sign, expected):
    twentieths = np.arange(9) / 20
    values = {"Bi": twentieths, "Sb": twentieths[::-1]}
    assert (values["Bi"] + values["Sb"] != 0.4).any(), "otherwise this shows nothing"
    assert holds(f"Bi + Sb {sign} 0.4", values).tolist() == [expected] * 9


def test_conditions_come_apart_at_and_only_and_know_what_they_need():
    where = "bulk > 1 and (Fe > 0 and jarvis.gap.lower < 3) and (bulk > 5 or Fe > 1)"
    parts = read_conditions(where, False, NAMES)
    assert [(part.text, set(part.names)) for part in parts] == [
        ("bulk > 1", {"bulk"}),
        ("Fe > 0", {"Fe"}),
        ("jarvis.gap.lower < 3", {"jarvis.gap.lower"}),
        ("bulk > 5 or Fe > 1", {"bulk", "Fe"}),
    ]


def test_condition_on_an_interval_is_checked_on_the_value_first():
    parts = read_conditions("gap.lower >= 1 and bulk.upper < 9", True, ("gap", "bulk"))
    added = "gap >= 1.0, bulk <= 9.0, gap.in_domain, bulk.in_domain"
    assert [part.text for part in parts[2:]] == added.split(", ")


def test_bounds_follow_from_comparisons_with_numbers():
    for where, expected, bounded in (
        ("gap > 1", (1, INF), ("gap", True)),
        ("1 <= gap < 2 and bulk > 3", (1, 2), ("gap", True)),
        ("2 > gap and gap > 1 and gap > -3", (1, 2), ("gap", False)),
        ("Fe > 0 and gap <= 1", (-INF, 1), ("gap", False)),
        ("gap.lower > 1 and gap.upper < 3", (1, 3), ("gap", True)),
        ("gap.upper > 1 and gap.lower < 3", (-INF, INF), ("gap", True)),
        ("gap > 1 or bulk > 3", (-INF, INF), None),
        ("gap > bulk", (-INF, INF), None),
        ("gap == 1", (-INF, INF), None),
        (None, (-INF, INF), None),
    ):
        conditions = read_conditions(where, False, ("gap", "bulk"))
        assert range_of(conditions, "gap") == pytest.approx(expected)
        assert bounded_property(conditions, ("gap", "bulk")) == bounded


sides = st.sampled_from(["gap", "bulk", "1", "2.5", "-1", "gap.lower", "gap.upper", "gap + 1", "Fe"])
comparisons = st.builds(
    lambda first, rest: first + "".join(f" {sign} {side}" for sign, side in rest),
    sides,
    st.lists(st.tuples(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), sides), min_size=1, max_size=3),
)
wheres = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=6,
)


@given(wheres)
def test_what_lies_outside_of_the_range_meets_no_condition(where):
    rng = np.random.default_rng(0)
    gap = rng.choice([-2, -1, 0.5, 1, 1.5, 2.5, 4], 400)
    values = {"gap": gap, "bulk": rng.choice([-1, 1, 2.5], 400), "Fe": rng.choice([0, 0.5], 400)}
    values |= {"gap.lower": gap - rng.choice([0, 1], 400), "gap.upper": gap + rng.choice([0, 1], 400)}
    conditions = read_conditions(where, False, ("gap", "bulk"))
    low, high = range_of(conditions, "gap")
    held = np.logical_and.reduce([np.broadcast_to(part(values), 400) for part in conditions])
    assert not held[(gap < low) | (gap > high)].any()
    assert (held == holds(where, values, ("gap", "bulk"))).all(), "what is added follows from what was there"
