"""Members that are not asked: only about rows that cannot come to lie in the range any more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_ensembles import FRACTIONS, fitted, write_blend, write_ensemble

from crossprop.inference.compiled import answers_within, load_compiled, turns


@dataclass
class Known:
    """A member whose answers and bounds are given."""

    answers: np.ndarray
    weight: float = 1.0
    cost: int = 1
    bounds: tuple[float, float] = (0.0, 10.0)


def within(members, low, high, folds=1):
    """The rows that are left, their predictions, and how many rows each member was asked about."""
    asked = [0] * len(members)

    def ask(place, left):
        asked[place] += len(left)
        return members[place].answers[left]

    left, answers = answers_within(turns(members, folds), len(members[0].answers), low, high, ask)
    values = sum(member.weight / folds * answer for member, answer in zip(members, answers, strict=True))
    return left.tolist(), np.asarray(values).tolist(), asked


def test_dear_member_is_asked_only_where_it_can_still_decide():
    cheap = Known(np.array([1.0, 5.0, 9.0, 3.0]), weight=0.8)
    dear = Known(np.array([2.0, 9.0, 1.0, 8.0]), weight=0.2, cost=100)
    # of 10 at most the dear one adds 2: rows 0 and 3 stay below 5 whatever it says
    left, values, asked = within([dear, cheap], 5.0, np.inf)
    assert left == [1, 2]
    assert values == pytest.approx([0.8 * 5 + 0.2 * 9, 0.8 * 9 + 0.2 * 1])
    assert asked == [2, 4]
    assert within([dear, cheap], -np.inf, 5.0)[2] == [3, 4], "row 2 is above 5 already"


def test_member_without_bounds_is_asked_first_since_nothing_is_settled_before():
    bounded = Known(np.array([0.0, 10.0]), weight=0.9)
    unbounded = Known(np.array([100.0, -100.0]), weight=0.1, cost=10**9, bounds=(-np.inf, np.inf))
    left, _, asked = within([bounded, unbounded], 9.5, np.inf)
    assert asked == [1, 2], "of the other one -10 + 9 at most is known by then"
    assert left == [0]


def test_what_is_no_number_is_never_left_out():
    broken = Known(np.array([np.nan, 1.0]))
    left, values, _ = within([broken], 5.0, 6.0)
    assert left == [0]
    assert np.isnan(values[0])


@given(
    st.lists(
        st.tuples(st.floats(-2, 2), st.integers(0, 50), st.floats(-1e3, 1e3), st.floats(0, 1e3)),
        min_size=1,
        max_size=6,
    ),
    st.floats(-1e3, 1e3),
    st.floats(0, 1e3),
    st.integers(0, 2**32 - 1),
)
def test_every_row_of_the_range_is_left_with_its_value(described, low, width, seed):
    rng = np.random.default_rng(seed)
    members = [
        Known(rng.choice([least, least + room / 2, least + room], 40), weight, cost, (least, least + room))
        for weight, cost, least, room in described
    ]
    values = sum(member.weight / 2 * member.answers for member in members)
    left, got, _ = within(members, low, low + width, folds=2)
    inside = np.flatnonzero((values >= low) & (values <= low + width))
    assert set(inside.tolist()) <= set(left)
    np.testing.assert_allclose(got, values[left], rtol=1e-9, atol=1e-9)


def test_compiled_blend_gives_its_ordinary_predictions_and_asks_less(tmp_path, monkeypatch):
    parts = {}
    for number, (algorithm, options) in enumerate(
        [("extra_trees", {"n_estimators": 12}), ("svr", {}), ("ridge", {})]
    ):
        folds = [fitted(algorithm, "physical_attributes", seed, **options) for seed in (1, 2)]
        write_ensemble(tmp_path / "model" / f"part_{number:02d}", folds, "physical_attributes")
        parts[f"part_{number:02d}"] = [0.8, 0.7] if number == 0 else [0.1, 0.15]
    predictor = load_compiled(write_blend(tmp_path / "model", parts), cache=tmp_path / "cache", threads=1)
    expected = predictor.predict(FRACTIONS)
    asked = []
    original = type(predictor)._ask
    monkeypatch.setattr(
        type(predictor),
        "_ask",
        lambda self, f, place, left: asked.append(len(left)) or original(self, f, place, left),
    )
    for low, high in ((np.quantile(expected, 0.9), np.inf), (-np.inf, np.quantile(expected, 0.2))):
        asked.clear()
        left, values = predictor.predict_within(FRACTIONS, low, high)
        inside = np.flatnonzero((expected >= low) & (expected <= high))
        assert set(inside) <= set(left)
        np.testing.assert_allclose(values, expected[left], rtol=1e-12)
        assert len(left) < len(FRACTIONS)
        assert sum(asked) < 0.9 * 6 * len(FRACTIONS)
    everything, values = predictor.predict_within(FRACTIONS, -np.inf, np.inf)
    assert everything.tolist() == list(range(len(FRACTIONS)))
    assert values.tolist() == expected.tolist()
