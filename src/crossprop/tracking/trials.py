"""Optuna trials as child runs of their cell's run, made on request from the table of trials that the run holds."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossprop.errors import TrackingError
from crossprop.tracking.registry import open_registry
from crossprop.tracking.runs import TRIALS_FILE, accepted
from crossprop.tracking.store import store_lock

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PARENT, _METHOD, _NUMBER, _STATE = (
    "mlflow.parentRunId", "crossprop.method", "crossprop.trial", "crossprop.trial_state",
)  # fmt: skip
_COPIED = ("mlflow.user", "mlflow.source.name", "mlflow.source.type")
_MOST_RUNS = 50_000


def record_trials(uri: str | None, target: str, method: str | None = None) -> list[tuple[str, int, int]]:
    """Record the trials of a target's runs that are not recorded yet; name, new trials and all trials of every run.

    ``target`` is ``<study>.<target>``, or the target alone where one study has it. A trial that an interrupted call
    left unfinished is recorded again. ``TrackingError`` where the target, or cells of the method with trials, are
    absent.
    """
    with open_registry(uri, f"recording the trials of {target}") as client:
        runs = client.search_runs([_experiment(client, target)], max_results=_MOST_RUNS)
        cells = [run for run in runs if TRIALS_FILE in run.data.tags.get("mlflow.loggedArtifacts", "")]
        chosen = [run for run in cells if method in (None, run.data.tags[_METHOD])]
        if not chosen:
            known = sorted({run.data.tags[_METHOD] for run in cells}) or ["none; run the study first"]
            of_method = f" of the method {method!r}" if method else ""
            raise TrackingError(
                f"No run of {target} has trials{of_method}. Methods that have: {', '.join(known)}."
            )
        return [(cell.info.run_name, *_record_cell(client, cell)) for cell in chosen]


def _experiment(client: MlflowClient, target: str) -> str:
    """Id of the experiment of a target."""
    names = {e.name: str(e.experiment_id) for e in client.search_experiments(filter_string="name LIKE '%/%'")}
    wanted = target.replace(".", "/")
    found = [wanted] if wanted in names else [name for name in names if name.endswith(f"/{wanted}")]
    if len(found) != 1:
        known = ", ".join(sorted(name.replace("/", ".") for name in found or names)) or "none"
        raise TrackingError(f"{target!r} names {len(found)} experiments. Name one: {known}.")
    return names[found[0]]


def _record_cell(client: MlflowClient, cell: Run) -> tuple[int, int]:
    """Record those trials of a cell that have no finished run; how many these were, and how many there are."""
    run_id, of_cell = cell.info.run_id, f"tags.`{_PARENT}` = '{cell.info.run_id}'"
    with tempfile.TemporaryDirectory(prefix="crossprop-trials-") as folder:
        path = Path(client.download_artifacts(run_id, TRIALS_FILE, folder))
        table = json.loads(path.read_text(encoding="utf-8"))
    trials = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    with store_lock(client.tracking_uri):
        recorded = set()
        for child in client.search_runs([cell.info.experiment_id], of_cell, max_results=_MOST_RUNS):
            if child.info.status == "RUNNING":
                client.delete_run(child.info.run_id)
            else:
                recorded.add(child.data.tags.get(_NUMBER))
        missing = [trial for trial in trials if str(trial["number"]) not in recorded]
        for trial in missing:
            _record_trial(client, cell, {key: value for key, value in trial.items() if value is not None})
    return len(missing), len(trials)


def _record_trial(client: MlflowClient, cell: Run, trial: dict[str, Any]) -> None:
    from mlflow.entities import Metric, Param

    start, seconds = cell.info.start_time, trial.get("seconds", 0.0)
    tags = {_PARENT: cell.info.run_id, _NUMBER: str(trial["number"]), _STATE: trial["state"]}
    tags |= {key: cell.data.tags[key] for key in _COPIED if key in cell.data.tags}
    name, now = f"trial {trial['number']}", int(time.time() * 1000)
    run = client.create_run(cell.info.experiment_id, start_time=start, tags=tags, run_name=name)
    values = {"val_mae": trial.get("value"), "seconds": seconds}
    tried = {key.removeprefix("params_"): value for key, value in trial.items() if key.startswith("params_")}
    texts = {k: f"{v:.10g}" if isinstance(v, float) else str(v) for k, v in tried.items()}
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(key, value, now, 0) for key, value in values.items() if value is not None],
        params=[Param(accepted(key), text) for key, text in texts.items()],
    )
    status = "FAILED" if trial["state"] == "FAIL" else "FINISHED"
    client.set_terminated(run.info.run_id, status=status, end_time=start + int(seconds * 1000))
