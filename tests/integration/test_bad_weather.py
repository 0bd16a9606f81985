"""Workers that are killed, memory and disks that run out, numbers that explode, stores and machines that disappear.

The cell is reported and the study goes on, or it resumes from what is stored.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import threading
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

from crossprop.config import Params, parse_params
from crossprop.errors import StoreError, StoreOutOfReachError
from crossprop.experiments.targets import run_targets
from crossprop.tracking.store import prepare_store
from crossprop.tracking.ui import ui_command
from crossprop.training.device import process_environment

TOO_MANY = 2**46
"""Estimators whose seeds alone exceed any address space."""


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


def retried(params: Params) -> Params:
    return params.model_copy(update={"compute": params.compute.model_copy(update={"retries": 1})})


def told_once(lines: list[str], what: str) -> str:
    (line,) = [line for line in lines if what in line]
    return line


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
    greedy = {"n_estimators": {"choices": [TOO_MANY], "default": TOO_MANY}}
    params = retried(without_networks(tiny_values, {"bagging": greedy}))
    paths, lines = project(tmp_path, params, write_target), list[str]()
    cells = by_method(computed(params, paths, lines=lines))
    assert cells["base"].test_mae is not None
    assert cells["ml"].failure.startswith("out of memory (")
    assert "Unable to allocate" in cells["ml"].failure
    assert "ml(EF): out of memory" in told_once(lines, "FAILED")
    # The tables of the target hold the cell with its reason, and no prediction of it.
    (failed,) = [c for c in results(paths, "cells.json") if c["method"] == "ml"]
    assert failed["failure"] == cells["ml"].failure
    predictions = pd.read_parquet(paths.results("slme") / "predictions.parquet")
    assert failed["cell"] not in set(predictions["cell"])


def test_regressor_that_explodes_is_reported_with_its_reason(tmp_path, tiny_values, write_target):
    steep = {
        "learning_rate": {"choices": ["constant"], "default": "constant"},
        "eta0": {"choices": [1e308], "default": 1e308},
    }
    params = retried(without_networks(tiny_values, {"sgd": steep}))
    cells = by_method(computed(params, project(tmp_path, params, write_target)))
    assert cells["base"].failure is None
    assert cells["ml"].failure.startswith("CellError: none of the 2 trials of ml(EF)")
    assert "the last reason: ValueError: " in cells["ml"].failure
    assert cells["ml"].val_mae is cells["ml"].test_mae is None


@pytest.mark.slow
def test_network_that_diverges_is_reported_with_its_reason_and_the_report_says_so(
    tmp_path, tiny_values, write_target
):
    from crossprop.report.tables import status

    steep = {"choices": [1e20]}
    tiny_values["study"] |= {**NO_NETWORKS, "methods": ["base", "ml", "dl"]}
    tiny_values["study"]["scratch"] |= {"epochs": 5, "learning_rate": 1e20}
    tiny_values["search"]["dl"] = {"learning_rate": steep}
    tiny_values["compute"] |= {"workers": 1, "retries": 1}
    params, lines = parse_params(tiny_values), list[str]()
    paths = project(tmp_path, params, write_target)
    cells = by_method(computed(params, paths, lines=lines))
    assert "DivergedError: the loss is" in cells["dl"].failure
    assert "DivergedError" in told_once(lines, "FAILED")
    assert status(cells["dl"]).startswith("failed: ")
    assert cells["ml"].test_mae is not None
    assert results(paths, "winners.json")["winner"] == cells["ml"].cell


@pytest.mark.slow
def test_killed_tracking_server_that_is_started_again_holds_every_cell_once(
    tmp_path, params, write_target, monkeypatch
):
    from crossprop.tracking.provenance import open_study_context
    from crossprop.tracking.runs import MlflowRecorder

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    command = ui_command(prepare_store(f"sqlite:///{tmp_path / 'server.db'}"), "127.0.0.1", port)
    servers: list[subprocess.Popen[bytes]] = []

    def start_server() -> None:
        servers.append(
            subprocess.Popen(
                command,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )

    def answers() -> bool:
        try:
            return requests.get(f"{uri}/health", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    paths, missed = project(tmp_path, params, write_target), threading.Event()

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
                if not missed.is_set():
                    missed.set()
                    start_server()
                raise

    start_server()
    try:
        until(answers)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        outcome = run_targets(
            params,
            ["slme"],
            paths,
            lambda d: Watched(open_study_context(params, paths, d)),
            lambda line: None,
        )["slme"]
        runs = tracked(uri)
    finally:
        for server in servers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    assert missed.is_set()
    assert len(servers) == 2
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert sorted(run.data.tags["crossprop.cell"] for run in runs) == sorted(
        o.result.cell for o in outcome.outcomes
    )
    assert {entry["run_id"] for entry in results(paths, "runs.json")} == {run.info.run_id for run in runs}


def test_disk_that_fills_stops_the_target_and_a_run_with_room_goes_on(
    tmp_path, params, calm, write_target, monkeypatch
):
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


def test_machine_that_disappears_leaves_its_finished_pieces_to_another(tmp_path, params, calm, write_target):
    """What is copied: prepared data and features (DVC's outputs) and the folder of finished cells."""
    lost = project(tmp_path / "lost", params, write_target)

    class Gone(Exception):  # noqa: N818
        pass

    class Machine(list[str]):
        """Disappears after its fourth line of progress."""

        def append(self, line: str) -> None:
            super().append(line)
            if len(self) == 4:
                raise Gone

    with pytest.raises(Gone):
        computed(params, lost, lines=Machine())
    before = pieces(lost)
    assert len(before) >= 4

    other = tmp_path / "other"
    shutil.copytree(lost.root / ".crossprop" / "cells", other / ".crossprop" / "cells")
    shutil.copytree(lost.root / "data", other / "data")
    shutil.rmtree(lost.root)
    paths, lines = type(lost).of(params.study, other), list[str]()
    computed(params, paths, lines=lines)
    assert lines[0].startswith(f"tiny: {len(before)} of ")
    assert results(paths, "cells.json") == results(calm, "cells.json")
    assert results(paths, "winners.json") == results(calm, "winners.json")
