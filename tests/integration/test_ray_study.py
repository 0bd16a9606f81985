"""A study on a Ray cluster whose driver is killed and started again."""

import pytest
from studies import (
    NO_NETWORKS,
    QUICK,
    computed,
    pieces,
    project,
    results,
    start_transfer,
    tracked,
    wait_for_pieces,
)
from waiting import PATIENCE


@pytest.mark.slow
def test_killed_driver_goes_on_where_it_was_and_logs_nothing_twice(tmp_path, tiny_params, write_target, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: make setup LOCK=requirements-ray.lock")
    from ray.cluster_utils import Cluster

    for name in ("KERAS_BACKEND", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    study = NO_NETWORKS | {"folds": 5}
    calm = project(tmp_path / "calm", tiny_params(**study, compute=QUICK), write_target)
    computed(tiny_params(**study, compute=QUICK), calm)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        compute = QUICK | {"executor": "ray", "workers": 0, "ray": {"address": cluster.address}}
        stormy = project(tmp_path / "stormy", tiny_params(**study, compute=compute), write_target)
        killed = start_transfer(stormy.root)
        wait_for_pieces(killed, stormy, 3)
        killed.kill()
        killed.communicate()
        before = pieces(stormy)
        second = start_transfer(stormy.root)
        out, err = second.communicate(timeout=PATIENCE)
    finally:
        cluster.shutdown()
    assert second.returncode == 0, err
    assert f"{len(before)} of " in out
    after = pieces(stormy)  # the folds of the winner are fitted once more, for the sake of their models
    assert {name for name in before if after[name] != before[name]} <= {n for n in before if "fold_" in n}
    assert results(stormy, "cells.json") == results(calm, "cells.json")
    runs = [run.data.tags["crossprop.cell"] for run in tracked(f"sqlite:///{stormy.root / 'mlflow.db'}")]
    assert sorted(runs) == sorted({cell["cell"] for cell in results(stormy, "cells.json")})
