"""Workers that are killed, memory that runs out, numbers that explode: the cell is reported, the study goes on."""

from __future__ import annotations

import os
import threading
from typing import Any

import pandas as pd
import psutil
import pytest
from studies import NO_NETWORKS, QUICK, computed, project, results, without_networks, workers_of

from crossprop.config import Params, parse_params
from crossprop.training.device import process_environment

TOO_MANY = 2**46
"""Estimators whose seeds alone exceed any address space."""


@pytest.fixture(autouse=True)
def environment_is_restored(monkeypatch):
    for name in process_environment("jax", 1):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def by_method(outcome: Any) -> dict[str, Any]:
    return {str(o.result.method): o.result for o in outcome.outcomes}


def retried(params: Params) -> Params:
    return params.model_copy(update={"compute": params.compute.model_copy(update={"retries": 1})})


def told_once(lines: list[str], what: str) -> str:
    (line,) = [line for line in lines if what in line]
    return line


def test_killed_worker_changes_no_result(tmp_path, tiny_params, write_target):
    params = tiny_params(**NO_NETWORKS, compute=QUICK)
    calm, stormy = (project(tmp_path / name, params, write_target) for name in ("calm", "stormy"))
    computed(params, calm)
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


def test_cell_whose_worker_the_system_kills_is_retried_once_and_reported(tmp_path, tiny_values, write_target):
    """The system's part is played by a thread that kills any worker above half a gibibyte."""
    greedy = {"n_estimators": {"choices": [6 * 10**7], "default": 6 * 10**7}}  # 480 MB of seeds
    params = retried(without_networks(tiny_values, {"bagging": greedy}))
    paths, lines = project(tmp_path, params, write_target), list[str]()
    killed, over = set[int](), threading.Event()

    def out_of_memory_killer() -> None:
        while not over.wait(0.01):
            for worker in workers_of(os.getpid()):
                try:
                    if worker.memory_info().rss > 2**29 and worker.status() != psutil.STATUS_ZOMBIE:
                        worker.kill()
                        killed.add(worker.pid)
                except psutil.Error:
                    continue

    watcher = threading.Thread(target=out_of_memory_killer, daemon=True)
    watcher.start()
    try:
        cells = by_method(computed(params, paths, lines=lines))
    finally:
        over.set()
        watcher.join()
    assert len(killed) == 2
    assert cells["base"].test_mae is not None
    assert cells["ml"].failure == (
        "its worker process was killed (by a user, or by the system because memory ran out)"
    )
    assert "FAILED ml(EF): its worker process was killed" in told_once(lines, "FAILED")


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
