"""MLflow experiments: one per target, created once, with a view that puts the best cell first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from crossprop.errors import TrackingError
from crossprop.tracking.store import sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT_ID = "{experiment_id}"
"""Stands in an experiment's notes for its id, which is known once it is created."""

_VIEW_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.sharedViewState.crossprop": json.dumps(
        {
            "orderByKey": "metrics.`cv_mae_mean`",
            "orderByAsc": True,
            "selectedColumns": [
                *(
                    f"metrics.`{key}`"
                    for key in ("cv_mae_mean", "cv_mae_std", "test_mae", "test_mae_ensemble")
                ),
                *(f"metrics.`{key}`" for key in ("val_mae", "test_r2")),
                "attributes.`Duration`",
            ],
        }
    ),
}
"""Opens the UI on training runs, and keeps a view of them: winner first, the errors as columns
(``#/experiments/<id>/runs?viewStateShareKey=crossprop``)."""


def ensure_experiment(client: MlflowClient, uri: str, name: str, notes: str) -> str:
    """Id of the experiment, created if absent; of several processes that try, all get the same one.

    Raises:
        TrackingError: Somebody has deleted the experiment: the message says how to restore it.
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        path = sqlite_path(uri)
        folder = None if path is None else str(path.parent / "mlruns" / name)
        tags = {"mlflow.note.content": notes, **_VIEW_TAGS}
        try:
            created = str(client.create_experiment(name, artifact_location=folder, tags=tags))
            client.set_experiment_tag(created, "mlflow.note.content", notes.replace(EXPERIMENT_ID, created))
            return created
        except MlflowException as error:
            experiment = client.get_experiment_by_name(name)
            if experiment is None or error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"The experiment {name!r} was deleted in {uri}. Restore it with `mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}`, or remove it for good with `mlflow gc "
            f"--experiment-ids {experiment.experiment_id}`."
        )
    return str(experiment.experiment_id)
