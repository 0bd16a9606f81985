"""The language of conditions: what it means, and what it refuses."""

from __future__ import annotations

import re

import numpy as np
import pytest

from crossprop.errors import ExpressionError
from crossprop.screening.conditions import (
    Conditions,
    bounded_property,
    names_of,
    parse_condition,
    parse_quantity,
)

NAMES = names_of(["bulk", "jarvis.gap"])
VALUES = {
    "bulk": np.array([100.0, 200.0, 300.0]),
    "bulk.lower": np.array([90.0, 190.0, 250.0]),
    "bulk.upper": np.array([110.0, 210.0, 350.0]),
    "bulk.in_domain": np.array([True, False, True]),
    "jarvis.gap": np.array([0.0, np.nan, 2.0]),
    "Fe": np.array([0.0, 0.5, 1.0]),
    "n_elements": np.array([2, 3, 3]),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bulk > 150", [0, 1, 1]),
        ("150 < bulk <= 200", [0, 1, 0]),
        ("bulk>150 and not bulk.in_domain", [0, 1, 0]),
        ("bulk < 150 or bulk > 250 and Fe == 1", [1, 0, 1]),
        ("(bulk < 150 or bulk > 250) and Fe == 1", [0, 0, 1]),
        ("bulk.upper - bulk.lower >= 100", [0, 0, 1]),
        ("abs(bulk - 200) < 1", [0, 1, 0]),
        ("min(bulk, 250, 10 * n_elements) == 30", [0, 1, 1]),
        ("max(bulk, 250) == 250", [1, 1, 0]),
        ("log10(bulk) == 2 or sqrt(Fe) == 1", [1, 0, 1]),
        ("-bulk ** 2 < -50000", [0, 0, 1]),
        ("+bulk / 2 != 100", [1, 0, 1]),
        ("jarvis.gap > 1", [0, 0, 1]),
        ("bulk / jarvis.gap > 100", [1, 0, 1]),  # by zero: infinite; by no number: none
        ("n_elements == 3 and True", [0, 1, 1]),
        ("  bulk >\n 150 ", [0, 1, 1]),
        ("1 / Fe > 5", [1, 0, 0]),  # infinite is more than anything
        ("-1 / Fe < 1 / Fe", [1, 1, 1]),
    ],
)
def test_meaning_of_conditions(text, expected):
    assert parse_condition(text, NAMES)(VALUES).tolist() == [bool(e) for e in expected]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("__import__('os').system('touch /tmp/x') > 1", "column 1: the only functions"),
        ("().__class__.__bases__[0]", "column 1"),
        ("bulk.__class__ > 1", "unknown name 'bulk.__class__'"),
        ("bulk[0] > 1", "Subscript is not allowed"),
        ("[x for x in (1,)] > 1", "ListComp is not allowed"),
        ("lambda: bulk > 1", "Lambda is not allowed"),
        ("(bulk := 3) > 1", "NamedExpr is not allowed"),
        ("f'{bulk}' > 1", "JoinedStr is not allowed"),
        ("bulk > 'abc'", "column 8: only plain numbers"),
        ("bulk > 1j", "only plain numbers"),
        ("bulk > 1e999", "only plain numbers"),
        ("getattr(bulk, 'x') > 1", "the only functions"),
        ("abs(bulk, 2) > 1", "takes one number, not 2"),
        ("max(bulk) > 1", "two numbers or more"),
        ("abs(x=bulk) > 1", "the only functions"),
        ("max(*bulk, 1) > 1", "Starred is not allowed"),
        ("bulk = 200", "column 6: a comparison for equality is written '=='"),
        ("bulk > 100 & Fe > 0", "joined by 'and', 'or'"),
        ("~bulk > 100", "write 'not'"),
        ("bulk in (1, 2)", "Tuple is not allowed"),
        ("bulk is 3", "only < <= > >="),
        ("bulk > 1; Fe > 0", "cannot be read"),
        ("bulk > 1  # stiff\n and Fe > 0", "column 10: there are no comments"),
        ("bulk > 1 && Fe > 0", "column 10: conditions are joined by 'and'"),
        ("bulk > 1 AND Fe > 0", "column 10: conditions are joined by 'and'"),
        ("bulk > 1 || Fe > 0", "column 10: conditions are joined by 'or'"),
        ("bulk >= 1 and Fe ≤ 1", "column 18: at most is written '<='"),
        ("bulk => 1", "column 6: at least is written '>='"),
        ("bulk <> 1", "column 6: unlike is written '!='"),
        ("!bulk > 1", "column 1: the opposite of a condition is written 'not'"),
        ("bulk > −1", "column 8: minus is written '-'"),
        ("bulk > 1 and", "column 13: this cannot be read"),
        ("bulk > 100 and Fe", "column 16: this is a number where a condition"),
        ("(bulk > 1) + 1 > 1", "this is a condition where a number"),
        ("blk > 100", "did you mean bulk"),
        ("something > 100", "known: bulk, bulk.lower"),
        ("bulk", "is a number, not a condition"),
        ("", "empty"),
        (" \n ", "empty"),
        ("bulk >", "cannot be read"),
        ("(" * 900, "cannot be read"),
        ("-" * 900 + "1 > 2", "at most 300"),
        ("bulk > " + "9" * 990, "only plain numbers"),
        ("bulk > 1" + " or bulk > 1" * 200, "at most 1000"),
        ("bulk > 1 if Fe > 0 else bulk > 2", "IfExp is not allowed"),
        ("\x00bulk > 1", "cannot be read"),
    ],
)
def test_what_is_no_condition_is_refused(text, part):
    with pytest.raises(ExpressionError, match=re.escape(part)):
        parse_condition(text, NAMES)


def test_sums_of_fractions_count_as_equal_whatever_their_rounding():
    twentieths = np.arange(9) / 20
    values = {"Bi": twentieths, "Sb": twentieths[::-1]}
    names = names_of([])
    assert (values["Bi"] + values["Sb"] != 0.4).any(), "otherwise this shows nothing"
    for text, expected in (
        ("==", True),
        (">=", True),
        ("<=", True),
        (">", False),
        ("<", False),
        ("!=", False),
    ):
        held = parse_condition(f"Bi + Sb {text} 0.4", names)(values)
        assert held.tolist() == [expected] * 9


def test_error_marks_the_column():
    with pytest.raises(ExpressionError) as error:
        parse_condition("bulk > 100 and gap > 2", NAMES)
    reason, shown, mark = str(error.value).splitlines()
    assert "column 16" in reason
    assert shown[mark.index("^") :].startswith("gap > 2")


def test_a_tower_of_powers_costs_nothing():
    assert parse_condition("9**9**9**9**9 > bulk", NAMES)(VALUES).tolist() == [True] * 3


def test_quantity_is_a_number():
    assert parse_quantity("bulk - 100 * Fe", NAMES)(VALUES).tolist() == [100, 150, 200]
    with pytest.raises(ExpressionError, match="is a condition, not a number"):
        parse_quantity("bulk > 1", NAMES)


def test_conditions_come_apart_at_and_only_and_know_what_they_need():
    where = "bulk > 1 and (Fe > 0 and jarvis.gap.lower < 3) and (bulk > 5 or Fe > 1)"
    parts = Conditions.read(where, False, ("bulk", "jarvis.gap")).parts
    assert [part.text for part in parts] == [
        "bulk > 1",
        "Fe > 0",
        "jarvis.gap.lower < 3",
        "bulk > 5 or Fe > 1",
    ]
    assert [set(part.names) for part in parts] == [{"bulk"}, {"Fe"}, {"jarvis.gap.lower"}, {"bulk", "Fe"}]
    conditions = Conditions(parts)
    assert [p.text for p in conditions.ready(()).parts] == ["Fe > 0"]
    ready = conditions.ready({"bulk"})
    assert [p.text for p in ready.parts] == ["bulk > 1", "Fe > 0", "bulk > 5 or Fe > 1"]
    assert [p.text for p in conditions.without(ready).parts] == ["jarvis.gap.lower < 3"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("bulk > 200", ("bulk", True)),
        ("200 < bulk", ("bulk", True)),
        ("Fe > 0 and gap <= 1", ("gap", False)),
        ("1 >= gap and bulk > 3", ("gap", False)),
        ("1 <= bulk < 3 and gap > 1", ("bulk", True)),
        ("bulk.lower > 200 and gap > 1", ("bulk", True)),
        ("bulk + gap > 3", None),
        (None, None),
    ],
)
def test_ranking_follows_the_bounded_property_where_none_is_asked_for(where, expected):
    names = ("gap", "bulk")
    assert bounded_property(Conditions.read(where, False, names), names) == expected
