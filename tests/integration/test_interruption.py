"""Kills, interruptions, damage, full memory and disks: what is finished stays, nothing is done or told twice."""

import contextlib
import errno
import os
import re
import shutil
import signal
import socket
import subprocess

import pandas as pd
import psutil
import pytest
import requests
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
    workers_of,
)
from waiting import PATIENCE, until

from crossprop.errors import DataError, StoreError, StoreOutOfReachError, TrackingError
from crossprop.experiments.executor import WorkerPool
from crossprop.experiments.targets import run_targets
from crossprop.tracking.store import prepare_store
from crossprop.tracking.ui import ui_command
from crossprop.training.device import process_environment


@pytest.fixture(autouse=True)
def environment_is_restored(monkeypatch):
    for name in process_environment("jax", 1):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def params(tiny_params):
    return tiny_params(**NO_NETWORKS, compute=QUICK)


@pytest.fixture(scope="module")
def calm(tmp_path_factory, tiny_params, write_target):
    """The finished study, without any trouble."""
    params = tiny_params(**NO_NETWORKS, compute=QUICK)
    paths = project(tmp_path_factory.mktemp("calm"), params, write_target)
    computed(params, paths)
    return paths


def by_method(outcome):
    return {str(o.result.method): o.result for o in outcome.outcomes}


def test_killed_worker_changes_no_result(tmp_path, params, calm, write_target):
    stormy = project(tmp_path / "stormy", params, write_target)
    lines, killed = list[str](), list[int]()

    class Weather(list[str]):
        """Kills the worker at the first and the fourth line of progress, whatever it works on then."""

        def append(self, line):
            lines.append(line)
            if len(lines) in (1, 4):
                for worker in workers_of(os.getpid()):
                    worker.kill()
                    killed.append(worker.pid)

    outcome = computed(params, stormy, lines=Weather(), pool=WorkerPool)
    assert len(set(killed)) == 2
    assert all(result.failure is None for result in by_method(outcome).values())
    assert results(stormy, "cells.json") == results(calm, "cells.json")
    assert not [line for line in lines if "FAILED" in line]


def test_cell_that_asks_for_too_much_memory_is_retried_once_and_reported(tmp_path, tiny_values, write_target):
    too_many = 2**46  # estimators: their seeds alone exceed any address space
    greedy = {"n_estimators": {"choices": [too_many], "default": too_many}}
    params = without_networks(tiny_values, {"bagging": greedy})
    params = params.model_copy(update={"compute": params.compute.model_copy(update={"retries": 1})})
    paths, lines = project(tmp_path, params, write_target), list[str]()
    cells = by_method(computed(params, paths, lines=lines, pool=WorkerPool))
    assert cells["base"].test_mae is not None
    assert cells["ml"].failure.startswith("out of memory (")
    assert "Unable to allocate" in cells["ml"].failure
    (told,) = [line for line in lines if "FAILED" in line]
    assert "ml(EF): out of memory" in told
    # The tables of the target hold the cell with its reason, and no prediction of it.
    (failed,) = [c for c in results(paths, "cells.json") if c["method"] == "ml"]
    assert failed["failure"] == cells["ml"].failure
    assert failed["cell"] not in set(pd.read_parquet(paths.results("slme") / "predictions.parquet")["cell"])


@pytest.mark.slow
def test_tracking_server_that_is_killed_holds_every_cell_once(tmp_path, params, write_target, monkeypatch):
    from crossprop.tracking.provenance import open_study_context
    from crossprop.tracking.runs import MlflowRecorder

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    command = ui_command(prepare_store(f"sqlite:///{tmp_path / 'server.db'}"), "127.0.0.1", port)
    servers: list[subprocess.Popen[bytes]] = []

    def start_server():
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        servers.append(subprocess.Popen(command, env=environment, **quiet))

    def answers():
        try:
            return requests.get(f"{uri}/health", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    paths = project(tmp_path, params, write_target)

    class Watched(MlflowRecorder):
        """Loses its server with the second cell; the server is started again once it was missed."""

        cells = 0

        def record(self, outcome):
            self.cells += 1
            if self.cells == 2:
                os.killpg(servers[0].pid, signal.SIGKILL)
                servers[0].wait()
            try:
                return super().record(outcome)
            except StoreOutOfReachError:
                if len(servers) == 1:
                    start_server()
                raise

    start_server()
    try:
        until(answers)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        watched = lambda digests: Watched(open_study_context(params, paths, digests))  # noqa: E731
        outcome = run_targets(params, ["slme"], paths, watched, lambda line: None)["slme"]
        runs = tracked(uri)
    finally:
        for server in servers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    assert len(servers) == 2
    assert {run.info.status for run in runs} == {"FINISHED"}
    recorded = sorted(run.data.tags["crossprop.cell"] for run in runs)
    assert recorded == sorted(o.result.cell for o in outcome.outcomes)
    assert {entry["run_id"] for entry in results(paths, "runs.json")} == {run.info.run_id for run in runs}


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
    params = without_networks(tiny_values, {"extra_trees": many_trees}, folds=4, budget=budget)
    killed, straight = (project(tmp_path / name, params, write_target) for name in ("killed", "straight"))

    first = start_transfer(killed.root)
    wait_for_pieces(first, killed, 4)  # the regressor is tuned, and some of its folds are fitted
    family = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert not psutil.wait_procs(family, timeout=PATIENCE)[1]  # nobody is left who writes
    before = pieces(killed)
    assert 4 <= len(before) < 10
    assert not (killed.results("slme") / "cells.json").exists()

    second = start_transfer(killed.root)
    output, errors = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, errors
    assert re.search(rf"tiny: {len(before)} of \d+ tasks are finished already, going on", output)
    assert "screened ml(EF)" not in output
    after = pieces(killed)
    assert {name for name in before if after[name] != before[name] and "fold" not in name} == set()
    runs = tracked(f"sqlite:///{killed.root / 'mlflow.db'}")
    recorded = sorted(run.data.tags["crossprop.cell"] for run in runs)
    assert recorded == sorted(cell["cell"] for cell in results(killed, "cells.json"))
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


def test_broken_tracking_store_costs_no_finished_piece(tmp_path, params, write_target):
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
    assert len(list((paths.results("slme") / "model").glob("fold_*"))) == 2


def test_changed_budget_keeps_other_methods_and_changed_data_no_cell(tmp_path, tiny_params, write_target):
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


def test_truncated_table_and_a_folder_that_cannot_be_written_to_are_named(tmp_path, params, write_target):
    paths = project(tmp_path / "blocked", params, write_target)
    (paths.root / ".crossprop").write_text("a file in the way")
    with pytest.raises(StoreError, match="correct the permissions"):
        computed(params, paths)
    paths = project(tmp_path / "truncated", params, write_target)
    paths.prepared("slme").write_bytes(paths.prepared("slme").read_bytes()[:100])
    with pytest.raises(DataError, match=r"slme\.parquet cannot be read: .*Parquet.*Run 'dvc repro prepare'"):
        computed(params, paths)
