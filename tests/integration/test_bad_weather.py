"""Workers and servers that are killed, memory and disks that run out: the study goes on, or resumes."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
from typing import Any

import pandas as pd
import pytest
import requests
from studies import (
    NO_NETWORKS,
    QUICK,
    computed,
    pieces,
    project,
    results,
    tracked,
    without_networks,
    workers_of,
)
from waiting import until

from crossprop.config import Params
from crossprop.errors import StoreError, StoreOutOfReachError
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
def params(tiny_params) -> Params:
    return tiny_params(**NO_NETWORKS, compute=QUICK)


@pytest.fixture
def calm(tmp_path, params, write_target):
    """The finished study, without any trouble."""
    paths = project(tmp_path / "calm", params, write_target)
    computed(params, paths)
    return paths


def by_method(outcome: Any) -> dict[str, Any]:
    return {str(o.result.method): o.result for o in outcome.outcomes}


def test_killed_worker_changes_no_result(tmp_path, params, calm, write_target):
    stormy = project(tmp_path / "stormy", params, write_target)
    lines, killed = list[str](), list[int]()

    class Weather(list[str]):
        """Kills the worker at the first and the fourth line of progress, whatever it works on then."""

        def append(self, line: str) -> None:
            lines.append(line)
            if len(lines) in (1, 4):
                for worker in workers_of(os.getpid()):
                    worker.kill()
                    killed.append(worker.pid)

    outcome = computed(params, stormy, lines=Weather())
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
    cells = by_method(computed(params, paths, lines=lines))
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

    def start_server() -> None:
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        servers.append(subprocess.Popen(command, env=environment, **quiet))

    def answers() -> bool:
        try:
            return requests.get(f"{uri}/health", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    paths = project(tmp_path, params, write_target)

    class Watched(MlflowRecorder):
        """Loses its server with the second cell; the server is started again once it was missed."""

        cells = 0

        def record(self, outcome: Any) -> str:
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

    def to_parquet(frame: pd.DataFrame, path: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(frame, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", to_parquet)
        with pytest.raises(StoreError, match=r"cannot be written: No space left on device .*Free some space"):
            computed(params, full)
    before = pieces(full)
    assert before
    assert not full.results("slme").exists()
    assert not list(full.root.glob(".crossprop/cells/*/*/*.tmp"))
    lines: list[str] = []
    computed(params, full, lines=lines)
    assert lines[0].startswith(f"tiny: {len(before)} of ")
    assert results(full, "cells.json") == results(calm, "cells.json")
