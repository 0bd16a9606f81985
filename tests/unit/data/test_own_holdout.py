"""The hold-out of one's own data: its size, whole compositions, and that it stays when rows are added."""

from __future__ import annotations

import numpy as np
import pytest

from crossprop.data.splits import draw_holdout, holdout_size


@pytest.mark.parametrize(
    ("rows", "held"), [(20, 5), (30, 8), (60, 15), (80, 20), (199, 20), (500, 50), (100_000, 10_000)]
)
def test_a_tenth_but_at_least_twenty_and_at_most_a_quarter_is_held_out(rows, held):
    assert holdout_size(rows) == held
    assert draw_holdout(np.array([f"k{i}" for i in range(rows)], dtype=object)).sum() == held


def test_rows_of_a_composition_stand_on_one_side():
    keys = np.repeat([f"k{i}" for i in range(60)], 3)
    held = draw_holdout(keys)
    assert not set(keys[held]) & set(keys[~held])
    assert 20 <= held.sum() <= 30


def test_a_composition_with_most_of_the_rows_is_learnt_from():
    keys = np.array(["big"] * 80 + [f"k{i}" for i in range(20)], dtype=object)
    for seed in range(20):
        held = draw_holdout(keys, seed)
        assert "big" not in set(keys[held])
        assert held.any()


def test_two_compositions_are_one_each():
    held = draw_holdout(np.array(["a"] * 10 + ["b"] * 10, dtype=object))
    assert held.sum() == 10


def test_neither_the_order_of_the_rows_nor_further_ones_move_a_composition_to_the_other_side():
    keys = np.array([f"k{i}" for i in range(400)], dtype=object)
    first = set(keys[draw_holdout(keys, 7)])
    assert set(keys[::-1][draw_holdout(keys[::-1], 7)]) == first
    more = np.array([f"k{i}" for i in range(440)], dtype=object)
    kept = first & set(more[draw_holdout(more, 7)])
    assert len(kept) >= 0.8 * len(first)


def test_another_seed_is_another_hold_out():
    keys = np.array([f"k{i}" for i in range(400)], dtype=object)
    assert set(keys[draw_holdout(keys, 1)]) != set(keys[draw_holdout(keys, 2)])
