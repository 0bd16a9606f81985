"""Rows of a group stay together, and so do rows of a composition."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crossprop.data.prepared import PREPARED_COLUMNS, PreparedData
from crossprop.data.splits import draw_holdout, groups_by_line, linked_groups
from crossprop.data.user_rows import read_own_file
from crossprop.data.user_summary import summarise
from crossprop.errors import DataError, OwnFileError


def test_groups_that_share_a_composition_are_one():
    keys = linked_groups(["a", "b", "b", "c", "d", "d"], ["p1", "p1", "p2", "p2", "p3", "p4"])
    assert keys.tolist() == ["a", "a", "a", "a", "d", "d"]


def test_neither_the_order_of_rows_nor_the_names_of_groups_matter():
    rng = np.random.default_rng(0)
    compositions, groups = rng.integers(0, 60, 80).astype(str), rng.integers(0, 40, 80)
    order = rng.permutation(80)
    there = linked_groups(compositions, groups)
    assert (
        linked_groups(compositions[order], [f"paper {g}" for g in groups[order]]).tolist()
        == there[order].tolist()
    )
    frame = pd.DataFrame({"key": there, "composition": compositions, "group": groups})
    assert (frame.groupby("group")["key"].nunique() == 1).all()
    assert (frame.groupby("composition")["key"].nunique() == 1).all()
    assert frame["key"].nunique() > 1


@pytest.mark.parametrize("groups", [[1, 2], [1, 2, None], [1.0, 2.0, float("nan")]])
def test_every_row_needs_a_group(groups):
    with pytest.raises(DataError, match="one"):
        linked_groups(["a", "b", "c"], groups)


def write(path, rows):
    path.write_text("formula,K,paper\n" + "".join(f"{f},{v},{p}\n" for f, v, p in rows))
    return path


def test_a_column_of_groups_is_read_and_the_hold_out_drawn_by_it(tmp_path):
    path = write(tmp_path / "x.csv", [(f"Fe{i + 1}O", i, f"p{i // 4}") for i in range(80)])
    table = read_own_file(path, target="K", group_column="paper")
    held = draw_holdout(table.together)
    papers = table.rows["named_group"].to_numpy()
    assert 16 <= held.sum() <= 24
    assert not set(papers[held]) & set(papers[~held])
    assert "groups        20 named; the largest has 4 rows (5 %)" in summarise(table, "1", held)
    assert "drawn by group" in summarise(table, "1", held)


def test_a_row_without_a_group_is_bad_and_a_column_serves_one_purpose(tmp_path):
    path = write(tmp_path / "x.csv", [("FeO", 1, "p"), ("Fe2O3", 2, ""), ("NaCl", 3, "q")])
    table = read_own_file(path, target="K", group_column="paper")
    assert [(p.line, p.kind) for p in table.problems] == [(3, "group")]
    for options in ({"group_column": "K"}, {"group_column": "formula", "formula_column": "formula"}):
        with pytest.raises(OwnFileError, match=r"different ones|cannot hold both"):
            read_own_file(path, target="K", **options)


def test_a_block_of_a_third_of_the_rows_is_pointed_at_with_what_holds_it_together(tmp_path):
    rows = [(f"Fe{i + 1}O", i, f"p{i}") for i in range(40)] + [
        (f"Fe{i + 1}O", 1, "review") for i in range(0, 40, 2)
    ]
    table = read_own_file(write(tmp_path / "x.csv", rows), target="K", group_column="paper")
    notes = " ".join(table.notes)
    assert "40 of 60 rows have to stay together (21 groups that share compositions" in notes


def test_a_group_that_is_larger_than_all_others_together_is_learnt_from():
    keys = np.array(["big"] * 90 + list("abcdefghij"), dtype=object)
    for seed in range(5):
        assert not draw_holdout(keys, seed)[:90].any()


def frame_of(**columns):
    made = {
        "formula": ["NaCl", "KCl"],
        "composition": ["x", "y"],
        "value": [1.0, 2.0],
        "split": ["train", "test"],
    }
    return pd.DataFrame(made | columns)


def test_a_prepared_table_with_groups_has_a_second_one_to_split_by(tmp_path):
    nothing = pd.DataFrame()
    PreparedData(frame_of(group=["x", "x"]), nothing).write(tmp_path, "k")
    assert pd.read_parquet(tmp_path / "k.parquet")["composition"].tolist() == ["x", "y"]
    by_group = pd.read_parquet(tmp_path / "k.grouped.parquet")
    assert tuple(by_group.columns) == PREPARED_COLUMNS
    assert by_group["composition"].tolist() == ["x", "x"]
    PreparedData(frame_of(), nothing).write(tmp_path, "k")
    assert {path.name for path in tmp_path.iterdir()} == {"k.parquet", "k.cleaning.csv"}
    assert tuple(pd.read_parquet(tmp_path / "k.parquet").columns) == PREPARED_COLUMNS


def test_groups_are_found_by_their_line(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('formula,value,group\nNaCl,1,"p, 1"\n\nKCl,2,q\nMgO,3\n')
    assert groups_by_line(path, "group", [2, 4]) == ["p, 1", "q"]
    with pytest.raises(DataError, match="name no group"):
        groups_by_line(path, "group", [2, 5])
    with pytest.raises(DataError, match="no column 'paper'"):
        groups_by_line(path, "paper", [2])
