import numpy as np
import pandas as pd
import pytest

from crossprop.data import splits
from crossprop.errors import DataError

FRAME = pd.DataFrame({"composition": ["a", "b", "a", "c", "a", "d"], "split": ["train"] * 4 + ["test"] * 2})


def test_published_keeps_and_strict_drops_training_rows_whose_composition_is_held_out_and_none_is_refused():
    assert splits.training_rows(FRAME, "published").tolist() == [0, 1, 2, 3]
    assert splits.training_rows(FRAME, "strict").tolist() == [1, 3]
    with pytest.raises(DataError, match="1 of 6 rows are left"):
        splits.training_rows(FRAME.assign(split=["train"] + ["test"] * 5))
    with pytest.raises(ValueError, match="lenient"):
        splits.training_rows(FRAME, "lenient")


@pytest.fixture
def keys():
    rng = np.random.default_rng(0)
    return np.array([f"k{i}" for i in rng.integers(0, 150, 400)], dtype=object)


def test_screening_validates_on_a_tenth_and_keeps_compositions_together(keys):
    train, validation = splits.screening_split(keys, seed=1)
    assert sorted([*train, *validation]) == list(range(400))
    assert not set(keys[train]) & set(keys[validation])
    assert 40 <= len(validation) <= 48
    shuffled = np.random.default_rng(3).permutation(keys)
    assert set(keys[validation]) == set(shuffled[splits.screening_split(shuffled, 1)[1]])


def test_a_split_depends_on_the_seed_alone(keys):
    for draw in (
        lambda seed: splits.screening_split(keys, seed)[1].tolist(),
        lambda seed: [validation.tolist() for _, validation in splits.cross_validation_folds(keys, 5, seed)],
        lambda seed: splits.draw_holdout(keys, seed).tolist(),
    ):
        assert draw(1) == draw(1) != draw(2)


def test_folds_keep_compositions_together_and_validate_every_row_once(keys):
    folds = splits.cross_validation_folds(keys, 10, seed=1)
    assert len(folds) == 10
    assert sorted(np.concatenate([validation for _, validation in folds])) == list(range(400))
    for train, validation in folds:
        assert not set(keys[train]) & set(keys[validation])
        assert len(train) + len(validation) == 400
        assert 38 <= len(validation) <= 42


def test_the_smallest_splits_and_those_that_are_impossible():
    keys = np.array(["a", "b", "b", "c"])
    assert sorted(v.tolist() for _, v in splits.cross_validation_folds(keys, 3, seed=0)) == [[0], [1, 2], [3]]
    for n_folds in (0, 1, 4):
        with pytest.raises(DataError, match="between 2 and 3"):
            splits.cross_validation_folds(keys, n_folds)
    with pytest.raises(DataError, match="at least two"):
        splits.screening_split(np.array(["a", "a", "a"]))
    assert [len(rows) for rows in splits.screening_split(np.array(["a", "b"]))] == [1, 1]
    large = np.array(["large"] * 60 + [f"g{i // 4}" for i in range(40)])
    assert {len(splits.screening_split(large, seed)[1]) for seed in range(9)} == {12}
    assert splits.draw_holdout(np.array(["a"] * 10 + ["b"] * 10, dtype=object)).sum() == 10


@pytest.mark.parametrize(("rows", "held"), [(20, 5), (60, 15), (199, 20), (500, 50)])
def test_a_tenth_but_at_least_twenty_and_at_most_a_quarter_is_held_out(rows, held):
    assert splits.holdout_size(rows) == held
    assert splits.draw_holdout(np.array([f"k{i}" for i in range(rows)], dtype=object)).sum() == held


def test_neither_the_order_of_the_rows_nor_further_ones_move_a_composition_to_the_other_side():
    keys = np.array([f"k{i}" for i in range(400)], dtype=object)
    first = set(keys[splits.draw_holdout(keys, 7)])
    assert set(keys[::-1][splits.draw_holdout(keys[::-1], 7)]) == first
    more = np.array([f"k{i}" for i in range(440)], dtype=object)
    kept = first & set(more[splits.draw_holdout(more, 7)])
    assert len(kept) >= 0.8 * len(first)


def test_groups_that_share_a_composition_are_one():
    keys = splits.linked_groups(["a", "b", "b", "c", "d", "d"], ["p1", "p1", "p2", "p2", "p3", "p4"])
    assert keys.tolist() == ["a", "a", "a", "a", "d", "d"]


@pytest.mark.parametrize("groups", [[1, 2], [1, 2, None], [1.0, 2.0, float("nan")]])
def test_every_row_needs_a_group(groups):
    with pytest.raises(DataError, match="one"):
        splits.linked_groups(["a", "b", "c"], groups)


def test_composition_has_the_same_role_in_every_source():
    keys = np.array([f"k{i}" for i in range(5_000)], dtype=object)
    validates = splits.source_validation(keys, 7)
    assert 0.08 < validates.mean() < 0.12
    some = np.random.default_rng(0).permutation(5_000)[:900]
    assert np.array_equal(splits.source_validation(keys[some], 7), validates[some])
    assert not np.array_equal(splits.source_validation(keys, 8), validates)
    assert splits.source_validation(np.array(["a", "b"], dtype=object)).sum() == 1
    with pytest.raises(DataError, match="at least two"):
        splits.source_validation(np.array(["a", "a"], dtype=object))
