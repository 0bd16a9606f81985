"""Ends the runs that dead processes left open: a SIGKILL cannot tidy up after itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from crossprop.tracking.faults import named_faults
from crossprop.tracking.provenance import process_is_gone, process_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient


def reap_dead_runs(client: MlflowClient, study: str) -> list[str]:
    """Set runs of a study to KILLED whose process, on this machine, has ended while they were RUNNING.

    Returns:
        Ids of the runs that were ended.

    Raises:
        TrackingError: The store refuses.
    """
    from mlflow.entities import ViewType

    dead: list[str] = []
    with named_faults(client.tracking_uri, f"ending the dead runs of study {study}"):
        experiments, token = [], None
        while True:
            page = client.search_experiments(view_type=ViewType.ACTIVE_ONLY, page_token=token)
            experiments += [e.experiment_id for e in page]
            token = page.token
            if not token:
                break
        wanted = f"attributes.status = 'RUNNING' AND tags.`crossprop.study` = '{study}'"
        for run in client.search_runs(experiments, wanted, max_results=5000):
            if process_is_gone(run.data.tags):
                client.set_terminated(run.info.run_id, status="KILLED")
                dead.append(str(run.info.run_id))
    return dead


def claim_project_run(client: MlflowClient, run_id: str | None, study: str) -> None:
    """Tag the run that ``mlflow run`` opened for this process, so that it can be reaped after a kill.

    Call it with ``project_run_id()`` read before ``prepare_store`` removes the variable; ``None`` does
    nothing. The run is tagged with this process, which ends with (or before) the ``mlflow run`` that started
    it.

    Raises:
        TrackingError: The store has no such run.
    """
    if run_id is None:
        return
    with named_faults(client.tracking_uri, f"tagging the project run {run_id}"):
        for key, value in {**process_tags(), "crossprop.study": study}.items():
            client.set_tag(run_id, key, value)


def project_run_id() -> str | None:
    """Id of the run that an enclosing ``mlflow run`` opened for this process, if there is one."""
    return os.environ.get("MLFLOW_RUN_ID") or None
