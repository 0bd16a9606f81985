"""Kills, interruptions, damage and full disks: what is finished stays, nothing is done or told twice."""

import errno
import os
import re
import shutil
import signal
from unittest.mock import Mock

import pandas as pd
import psutil
import pytest
import studies
from studies import NO_NETWORKS, QUICK, computed, pieces, project, results
from waiting import PATIENCE

from crossprop.errors import StoreError, TrackingError
from crossprop.experiments.executor import WorkerPool
from crossprop.paths import StudyPaths
from crossprop.report import figures
from crossprop.report.summary import summarize

pytestmark = pytest.mark.usefixtures("environment_is_restored")


@pytest.fixture(scope="module")
def params(tiny_params):
    return tiny_params(**NO_NETWORKS, compute=QUICK)


@pytest.fixture(scope="module")
def calm(tmp_path_factory, params, write_target):
    """The finished study, without any trouble."""
    paths = project(tmp_path_factory.mktemp("calm"), params, write_target)
    computed(params, paths)
    return paths


def test_killed_worker_changes_no_result(tmp_path, params, calm, write_target):
    stormy = project(tmp_path / "stormy", params, write_target)
    lines, killed = list[str](), list[int]()

    class Weather(list[str]):
        """Kills the worker at the first and the fourth line of progress, whatever it works on then."""

        def append(self, line):
            lines.append(line)
            if len(lines) in (1, 4):
                for worker in studies.workers_of(os.getpid()):
                    worker.kill()
                    killed.append(worker.pid)

    outcome = computed(params, stormy, lines=Weather(), pool=WorkerPool)
    assert len(set(killed)) == 2
    assert all(o.result.failure is None for o in outcome.outcomes)
    assert results(stormy, "cells.json") == results(calm, "cells.json")
    assert not [line for line in lines if "FAILED" in line]


def test_finished_study_goes_on_in_a_copied_folder_and_has_its_tables(tmp_path, params, calm, monkeypatch):
    paths, lines = StudyPaths.of(params.study, shutil.copytree(calm.root, tmp_path / "there")), list[str]()
    computed(params, paths, lines=lines)
    assert lines == ["tiny: 6 of 6 tasks are finished already, going on"]
    monkeypatch.setattr(figures, "save_png", lambda figure, path: path.touch())  # only tables are compared
    for one in (calm, paths):
        summarize(params.study, one, one.reports)
    tables = [[(one.reports / f"{name}.csv").read_bytes() for name in ("cells", "targets")] for one in (calm, paths)]
    assert tables[0] == tables[1]
    assert [table.count(b"\n") for table in tables[0]] == [3, 2]  # a header; two cells, one target


def test_disk_that_fills_stops_the_target_which_goes_on(tmp_path, params, calm, write_target, monkeypatch):
    full = project(tmp_path / "full", params, write_target)
    write, left = pd.DataFrame.to_parquet, [5]

    def to_parquet(frame, path, **options):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(frame, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", to_parquet)
        with pytest.raises(StoreError, match=r"cannot be written: No space left on device .*Free some space"):
            computed(params, full, pool=WorkerPool)
    before = pieces(full)
    assert before
    assert not full.results("slme").exists()
    assert not list(full.root.glob(".crossprop/cells/*/*/*.tmp"))
    lines: list[str] = []
    computed(params, full, lines=lines)
    assert lines[0].startswith(f"tiny: {len(before)} of ")
    assert results(full, "cells.json") == results(calm, "cells.json")


def test_killed_transfer_goes_on_and_tells_everything_once(tmp_path, tiny_values, write_target):
    many_trees = {"n_estimators": {"low": 200, "high": 210, "integer": True, "default": 200}}
    budget = {"ml_trials": 3, "dl_trials": 1, "seconds": 600}
    params = studies.without_networks(tiny_values, {"extra_trees": many_trees}, folds=4, budget=budget)
    killed, straight = (project(tmp_path / name, params, write_target) for name in ("killed", "straight"))

    first = studies.start_transfer(killed.root)
    studies.wait_for_pieces(first, killed, 4)  # the regressor is tuned, and some of its folds are fitted
    family = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert not psutil.wait_procs(family, timeout=PATIENCE)[1]  # nobody is left who writes
    before = pieces(killed)
    assert 4 <= len(before) < 10
    assert not (killed.results("slme") / "cells.json").exists()

    second = studies.start_transfer(killed.root)
    output, errors = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, errors
    assert re.search(rf"tiny: {len(before)} of \d+ tasks are finished already, going on", output)
    assert "screened ml(EF)" not in output
    after = pieces(killed)
    assert {name for name in before if after[name] != before[name] and "fold" not in name} == set()
    runs = studies.tracked(f"sqlite:///{killed.root / 'mlflow.db'}")
    recorded = sorted(run.data.tags["crossprop.cell"] for run in runs)
    assert recorded == sorted(cell["cell"] for cell in results(killed, "cells.json"))
    assert {run.info.status for run in runs} == {"FINISHED"}

    computed(params, straight)
    assert set(pieces(straight)) == set(after)
    assert results(straight, "cells.json") == results(killed, "cells.json")


@pytest.mark.slow
def test_interrupted_transfer_says_so_in_one_line(tmp_path, tiny_values, write_target):
    slow = {"n_estimators": {"low": 900, "high": 999, "integer": True, "default": 900}}
    params = studies.without_networks(tiny_values, {"extra_trees": slow}, folds=40)
    paths = project(tmp_path, params, write_target)
    process = studies.start_transfer(tmp_path)
    studies.wait_for_pieces(process, paths, 2)
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert errors == "interrupted: what is finished is kept, run the same command to go on\n"
    assert len(pieces(paths)) >= 2


def test_broken_tracking_store_costs_no_finished_piece(tmp_path, params, write_target):
    paths = project(tmp_path, params, write_target)
    recorder, lines = Mock(side_effect=["run", TrackingError("mlflow.db is damaged")]), []
    with pytest.raises(TrackingError, match="is damaged"):
        computed(params, paths, recorder)
    before = pieces(paths)
    assert before
    recorder = Mock(return_value="run")
    outcome = computed(params, paths, recorder, lines)
    assert re.fullmatch(r"tiny: (\d+) of \1 tasks are finished already, going on", lines[0])
    assert len(lines) == 1
    assert pieces(paths) == before
    recorded = [call.args[0].result.cell for call in recorder.call_args_list]
    assert sorted(recorded) == sorted(o.result.cell for o in outcome.outcomes)


def test_lost_models_of_the_winner_are_fitted_again_to_the_same_numbers(tmp_path, params, write_target):
    paths = project(tmp_path, params, write_target)
    first = computed(params, paths)
    before = (paths.results("slme") / "predictions.parquet").read_bytes()
    for folder in tmp_path.glob(".crossprop/cells/*/*/fold_*/model"):
        shutil.rmtree(folder)
    shutil.rmtree(paths.results("slme"))
    again = computed(params, paths)
    assert again.winners.winner == first.winners.winner
    assert (paths.results("slme") / "predictions.parquet").read_bytes() == before


def test_changed_budget_keeps_other_methods_changed_data_none(tmp_path, params, tiny_params, write_target):
    paths, lines = project(tmp_path, params, write_target), list[str]()
    before = computed(params, paths)
    more = tiny_params(**NO_NETWORKS, budget={"ml_trials": 3, "dl_trials": 1, "seconds": 900}, compute=QUICK)
    computed(more, paths, lines=lines)
    assert "3 of 7 tasks are finished already" in lines[0]  # the base: its screening and its two folds
    write_target(tmp_path, seed=5)
    lines.clear()
    after = computed(params, paths, lines=lines)
    assert "finished already" not in lines[0]
    for old, new in zip(before.outcomes, after.outcomes, strict=True):
        assert old.result.cell != new.result.cell
        assert old.result.test_mae != new.result.test_mae
