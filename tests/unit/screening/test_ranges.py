"""What conditions ask of one property alone: never more than they do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossprop.screening.conditions import Conditions, names_of, parse_condition

NAMES = ("bulk", "gap")
INF = np.inf


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("gap > 1", (1, INF)),
        ("1 <= gap < 2 and bulk > 3", (1, 2)),
        ("2 > gap and gap > 1 and gap > -3", (1, 2)),
        ("gap > -1.5", (-1.5, INF)),
        ("gap.lower > 1 and gap.upper < 3", (1, 3)),
        ("gap.upper > 1 and gap.lower < 3", (-INF, INF)),
        ("gap > 1 or bulk > 3", (-INF, INF)),
        ("not gap > 1", (-INF, INF)),
        ("gap > bulk", (-INF, INF)),
        ("gap + 1 > 2", (-INF, INF)),
        ("gap == 1", (-INF, INF)),
        ("bulk > 1", (-INF, INF)),
        (None, (-INF, INF)),
    ],
)
def test_range_follows_from_comparisons_with_numbers(where, expected):
    assert Conditions.read(where, False, NAMES).range_of("gap") == pytest.approx(expected)


def test_condition_on_an_interval_is_checked_on_the_value_first():
    parts = Conditions.read("gap.lower >= 1 and bulk.upper < 9", False, NAMES).parts
    assert [part.text for part in parts[2:]] == ["gap >= 1.0", "bulk <= 9.0"]
    assert [part.text for part in Conditions(parts).ready({"gap"}).parts] == ["gap >= 1.0"]


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
    conditions = Conditions.read(where, False, NAMES)
    low, high = conditions.range_of("gap")
    held = conditions.hold(values, 400)
    assert not held[(gap < low) | (gap > high)].any()
    whole = np.broadcast_to(parse_condition(where, names_of(NAMES))(values), 400)
    assert (held == whole).all(), "what is added follows from what was there"
