"""Stores that are away, disks that fill, machines that disappear: the study goes on, or resumes from what is stored."""

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
from studies import NO_NETWORKS, QUICK, Refusing, computed, pieces, project, results, tracked
from waiting import until

from crossprop.errors import StoreError
from crossprop.experiments import results as results_module
from crossprop.experiments.results import StoreOutOfReachError
from crossprop.experiments.targets import run_targets
from crossprop.tracking.store import prepare_store
from crossprop.tracking.ui import ui_command
from crossprop.training.device import process_environment


@pytest.fixture(autouse=True)
def environment_is_restored(monkeypatch):
    for name in process_environment("jax", 1):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_tracking_store_that_is_away_for_a_while_holds_nobody_up(
    tmp_path, tiny_params, write_target, monkeypatch
):
    monkeypatch.setattr(results_module, "FIRST_PAUSE_SECONDS", 0.01)

    class Restarting(Refusing):
        away = 5

        def record(self, outcome: Any) -> str:
            if self.away:
                self.away -= 1
                raise StoreOutOfReachError("nothing answers at http://tracking.")
            return super().record(outcome)

    params = tiny_params(**NO_NETWORKS, compute=QUICK)
    paths, store = project(tmp_path, params, write_target), Restarting(99)
    outcome = computed(params, paths, store)
    assert sorted(store.cells) == sorted(o.result.cell for o in outcome.outcomes)
    assert {entry["run_id"] for entry in results(paths, "runs.json")} == {
        f"run-{cell}" for cell in store.cells
    }


@pytest.mark.slow
def test_killed_tracking_server_that_is_started_again_holds_every_cell_once(
    tmp_path, tiny_params, write_target, monkeypatch
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

    params = tiny_params(**NO_NETWORKS, compute=QUICK)
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
    tmp_path, tiny_params, write_target, monkeypatch
):
    params = tiny_params(**NO_NETWORKS, compute=QUICK)
    calm, full = (project(tmp_path / name, params, write_target) for name in ("calm", "full"))
    computed(params, calm)
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


def test_machine_that_disappears_leaves_its_finished_pieces_to_another(tmp_path, tiny_params, write_target):
    """What is copied: prepared data and features (DVC's outputs) and the folder of finished cells."""
    params = tiny_params(**NO_NETWORKS, compute=QUICK)
    calm, lost = (project(tmp_path / name, params, write_target) for name in ("calm", "lost"))
    computed(params, calm)

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
