"""What `transfer` refuses or reports instead of computing it."""

from __future__ import annotations

import os

import pytest
from studies import NO_NETWORKS, QUICK, computed, project, without_networks

from crossprop.errors import CellError, DataError, StoreError
from crossprop.training.device import process_environment

ONLY_BASE = {**NO_NETWORKS, "methods": ["base"]}


@pytest.fixture(autouse=True)
def environment_is_restored(monkeypatch):
    for name in process_environment("jax", 1):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize(("damage", "word"), [("missing", "No such file"), ("truncated", "Parquet")])
def test_unreadable_prepared_table_says_which_stage_makes_it(
    tmp_path, tiny_params, write_target, damage, word
):
    params = tiny_params(**ONLY_BASE, compute=QUICK)
    paths = project(tmp_path, params, write_target)
    table = paths.prepared("slme")
    if damage == "missing":
        table.unlink()
    else:
        table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(DataError, match=rf"slme\.parquet cannot be read: .*{word}.*Run 'dvc repro prepare'"):
        computed(params, paths)


def test_failed_cell_is_reported_and_the_others_finish(tmp_path, tiny_values, write_target):
    nonsense = {"solver": {"choices": ["nonsense"], "default": "nonsense"}}
    params = without_networks(tiny_values, {"ridge": nonsense})
    paths = project(tmp_path, params, write_target)
    lines: list[str] = []
    base, ml = (o.result for o in computed(params, paths, lines=lines).outcomes)
    assert base.failure is None
    assert base.test_mae is not None
    assert "none of the 2 trials" in ml.failure
    assert "nonsense" in ml.failure
    assert any(line.split("] ")[-1].startswith("FAILED ml(EF): CellError") for line in lines)


def test_target_without_one_finished_cell_ends_with_an_error(tmp_path, tiny_params, write_target):
    params = tiny_params(**ONLY_BASE, folds=60, compute=QUICK)  # of 48 compositions
    paths = project(tmp_path, params, write_target)
    with pytest.raises(
        CellError, match=r"not one of the 1 cells of tiny/slme could be computed.*60 folds are impossible"
    ):
        computed(params, paths)
    assert not paths.results("slme").exists()


def test_folder_that_cannot_be_written_to_is_named(tmp_path, tiny_params, write_target):
    params = tiny_params(**ONLY_BASE, compute=QUICK)
    paths = project(tmp_path, params, write_target)
    (tmp_path / ".crossprop").write_text("a file in the way")
    with pytest.raises(StoreError, match="correct the permissions"):
        computed(params, paths)
