"""Optuna trials as child runs of their cell's run, made on request from the table of trials that the run holds."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossprop.errors import TrackingError
from crossprop.tracking.registry import find_model, open_registry
from crossprop.tracking.runs import TRIALS_FILE, accepted
from crossprop.tracking.store import store_lock

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PARENT, _METHOD, _NUMBER = "mlflow.parentRunId", "crossprop.method", "crossprop.trial"
_COPIED = ("mlflow.user", "mlflow.source.name", "mlflow.source.type")
_MOST_RUNS = 50_000


def record_trials(uri: str | None, target: str, method: str | None = None) -> list[tuple[str, int, int]]:
    """Record the trials of a target's runs that are not recorded yet; name, new trials and all trials of every run.

    ``target`` is ``<study>.<target>``, or a target that one study has registered. A trial that an interrupted call left
    unfinished is recorded again. ``TrackingError`` where there is no such target, or no trial of the method.
    """
    name = target if "." in target else find_model(uri, target).name
    with open_registry(uri, f"recording the trials of {name}") as client:
        experiment = client.get_experiment_by_name(name.replace(".", "/"))
        found = client.search_runs([experiment.experiment_id], max_results=_MOST_RUNS) if experiment else []
        cells = [run for run in found if TRIALS_FILE in run.data.tags.get("mlflow.loggedArtifacts", "")]
        chosen = [run for run in cells if method in (None, run.data.tags[_METHOD])]
        if not chosen:
            known = ", ".join(sorted({run.data.tags[_METHOD] for run in cells})) or "none; run the study first"
            raise TrackingError(f"{name} has no trials of {method or 'any method'}. Methods with trials: {known}.")
        return [(str(cell.info.run_name), *_record_cell(client, cell)) for cell in chosen]


def _record_cell(client: MlflowClient, cell: Run) -> tuple[int, int]:
    """Record those trials of a cell that have no finished run; how many these were, and how many there are."""
    with tempfile.TemporaryDirectory(prefix="crossprop-trials-") as folder:
        path = Path(client.download_artifacts(cell.info.run_id, TRIALS_FILE, folder))
        table = json.loads(path.read_text(encoding="utf-8"))
    trials = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    missing = {str(trial["number"]): trial for trial in trials}
    children = f"tags.`{_PARENT}` = '{cell.info.run_id}'"
    with store_lock(client.tracking_uri):
        for child in client.search_runs([cell.info.experiment_id], children, max_results=_MOST_RUNS):
            if child.info.status == "RUNNING":
                client.delete_run(child.info.run_id)
            else:
                missing.pop(child.data.tags.get(_NUMBER, ""), None)
        for number, trial in missing.items():
            _record_trial(client, cell, number, {k: value for k, value in trial.items() if value is not None})
    return len(missing), len(trials)


def _record_trial(client: MlflowClient, cell: Run, number: str, trial: dict[str, Any]) -> None:
    from mlflow.entities import Metric, Param

    state, start = trial["state"], cell.info.start_time
    end = start + int(trial["seconds"] * 1000)
    tags = {_PARENT: cell.info.run_id, _NUMBER: number, f"{_NUMBER}_state": state}
    tags |= {key: cell.data.tags[key] for key in _COPIED if key in cell.data.tags}
    run = client.create_run(cell.info.experiment_id, start, tags, run_name=f"trial {number}")
    tried = {accepted(k.removeprefix("params_")): v for k, v in trial.items() if k.startswith("params_")}
    figures = {"val_mae": trial.get("value"), "seconds": trial["seconds"]}
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(key, value, end, 0) for key, value in figures.items() if value is not None],
        params=[Param(k, f"{v:.10g}" if isinstance(v, float) else str(v)) for k, v in tried.items()],
    )
    client.set_terminated(run.info.run_id, "FAILED" if state == "FAIL" else "FINISHED", end)
