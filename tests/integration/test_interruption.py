"""Interruptions and changes between two runs of `transfer`: what is finished stays, nothing is done or told twice."""

from __future__ import annotations

import os
import re
import shutil
import signal

import psutil
import pytest
from studies import (
    NO_NETWORKS,
    QUICK,
    Refusing,
    computed,
    pieces,
    project,
    results,
    start_transfer,
    tracked,
    wait_for_pieces,
    without_networks,
)
from waiting import PATIENCE

from crossprop.errors import TrackingError
from crossprop.training.device import process_environment


@pytest.fixture(autouse=True)
def environment_is_restored(monkeypatch):
    for name in process_environment("jax", 1):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_killed_transfer_goes_on_where_it_stopped_and_tells_everything_once(
    tmp_path, tiny_values, write_target
):
    many_trees = {"n_estimators": {"low": 200, "high": 210, "integer": True, "default": 200}}
    params = without_networks(
        tiny_values,
        {"extra_trees": many_trees},
        folds=6,
        budget={"ml_trials": 3, "dl_trials": 1, "seconds": 600},
    )
    killed, straight = (project(tmp_path / name, params, write_target) for name in ("killed", "straight"))

    first = start_transfer(killed.root)
    wait_for_pieces(first, killed, 4)  # the regressor is tuned, and some of its folds are fitted
    family = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert not psutil.wait_procs(family, timeout=PATIENCE)[1]  # nobody is left who writes
    before = pieces(killed)
    assert 4 <= len(before) < 14
    assert not (killed.results("slme") / "cells.json").exists()

    second = start_transfer(killed.root)
    output, errors = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, errors
    assert re.search(rf"tiny: {len(before)} of \d+ tasks are finished already, going on", output)
    assert "screened ml(EF)" not in output
    after = pieces(killed)
    assert {name for name in before if after[name] != before[name] and "fold" not in name} == set()
    runs = tracked(f"sqlite:///{killed.root / 'mlflow.db'}")
    assert sorted(run.data.tags["crossprop.cell"] for run in runs) == sorted(
        c["cell"] for c in results(killed, "cells.json")
    )
    assert {run.info.status for run in runs} == {"FINISHED"}

    computed(params, straight)
    assert set(pieces(straight)) == set(after)
    assert results(straight, "cells.json") == results(killed, "cells.json")


@pytest.mark.slow
def test_interrupted_transfer_says_so_in_one_line(tmp_path, tiny_values, write_target):
    slow = {"n_estimators": {"low": 900, "high": 999, "integer": True, "default": 900}}
    params = without_networks(tiny_values, {"extra_trees": slow}, folds=40)
    paths = project(tmp_path, params, write_target)
    process = start_transfer(tmp_path)
    wait_for_pieces(process, paths, 2)
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert errors == "interrupted: what is finished is kept, run the same command to go on\n"
    assert len(pieces(paths)) >= 2


def test_broken_tracking_store_costs_no_finished_piece(tmp_path, tiny_params, write_target):
    params = tiny_params(**NO_NETWORKS, compute=QUICK)
    paths = project(tmp_path, params, write_target)
    with pytest.raises(TrackingError, match="is damaged"):
        computed(params, paths, Refusing(1))
    before = pieces(paths)
    assert before
    recorder, lines = Refusing(99), []
    outcome = computed(params, paths, recorder, lines)
    assert re.fullmatch(r"tiny: (\d+) of \1 tasks are finished already, going on", lines[0])
    assert len(lines) == 1
    assert pieces(paths) == before
    assert len(recorder.cells) == len(set(recorder.cells)) == len(outcome.outcomes) == 2


def test_lost_models_of_the_winner_are_fitted_again_to_the_same_numbers(tmp_path, tiny_params, write_target):
    params = tiny_params(**NO_NETWORKS, compute=QUICK)
    paths = project(tmp_path, params, write_target)
    first = computed(params, paths)
    before = (paths.results("slme") / "predictions.parquet").read_bytes()
    for folder in tmp_path.glob(".crossprop/cells/*/*/fold_*/model"):
        shutil.rmtree(folder)
    shutil.rmtree(paths.results("slme"))
    again = computed(params, paths)
    assert again.winners.winner == first.winners.winner
    assert (paths.results("slme") / "predictions.parquet").read_bytes() == before
    assert len(list((paths.results("slme") / "model").glob("fold_*"))) == 2


def test_changed_budget_leaves_other_methods_finished_and_changed_data_make_every_cell_anew(
    tmp_path, tiny_params, write_target
):
    first = tiny_params(**NO_NETWORKS, compute=QUICK)
    paths = project(tmp_path, first, write_target)
    before = computed(first, paths)
    lines: list[str] = []
    more = tiny_params(**NO_NETWORKS, budget={"ml_trials": 3, "dl_trials": 1, "seconds": 900}, compute=QUICK)
    computed(more, paths, lines=lines)
    assert "3 of 7 tasks are finished already" in lines[0]  # the base: its screening and its two folds
    write_target(tmp_path, seed=5)
    lines.clear()
    after = computed(first, paths, lines=lines)
    assert "finished already" not in lines[0]
    for old, new in zip(before.outcomes, after.outcomes, strict=True):
        assert old.result.cell != new.result.cell
        assert old.result.test_mae != new.result.test_mae
