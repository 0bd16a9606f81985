"""The model registry: a target's winner becomes a version of ``<study>.<target>`` and the challenger."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from crossprop.errors import TrackingError
from crossprop.experiments.results import CellResult
from crossprop.tracking.context import RunContext
from crossprop.tracking.faults import named_faults
from crossprop.tracking.logged_models import check_model, save_model
from crossprop.tracking.lookup import CHALLENGER
from crossprop.tracking.model_files import local_path, predictor_in
from crossprop.tracking.store import open_client, store_lock
from crossprop.tracking.version_tags import add_missing_tags, identity_tags, version_note, version_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class RegisteredVersion:
    """A version in the registry.

    Attributes:
        name: Registered model, ``<study>.<target>``.
        version: Number of the version.
        model_id: MLflow's id of the logged model.
        run_id: Run that it belongs to.
        created: Whether this call made it (otherwise it was there).
    """

    name: str
    version: str
    model_id: str
    run_id: str
    created: bool

    @property
    def uri(self) -> str:
        """What ``mlflow.pyfunc.load_model`` takes."""
        return f"models:/{self.name}@{CHALLENGER}"


def register_winner(
    context: RunContext, *, run_id: str, result: CellResult, model_folder: Path, predictions: pd.DataFrame
) -> RegisteredVersion:
    """Register a target's winner and give it the alias ``challenger``; promotion is somebody else's decision.

    The model is loaded back before it is registered and must give the logged predictions. The same cell with
    the same data, outcome and files is registered once; where the files of its version are gone, or hold less than the
    folder, there is a further version.

    Args:
        context: As for the recorder.
        run_id: Run of the winning cell.
        result: The winning cell.
        model_folder: Saved ensemble (``model.json`` and its members).
        predictions: The cell's predictions, columns as in ``CellOutcome.predictions``.

    Raises:
        TrackingError: The run is missing, the saved model gives other predictions, or the store refuses.
    """
    from mlflow.exceptions import MlflowException

    client = open_client(context.uri)
    name = f"{result.study}.{result.target}"
    identity = identity_tags(result, context)
    with named_faults(context.uri, f"registering {name}"), store_lock(context.uri):
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            raise _missing_run(run_id, result, context.uri) from error
        if run.info.lifecycle_stage != "active":
            raise _missing_run(run_id, result, context.uri)
        _ensure_registered_model(client, name, result, context)
        versions = client.search_model_versions(f"name = '{name}'")
        same = [v for v in versions if identity.items() <= v.tags.items()]
        version = next((v for v in same if _holds(client, v, model_folder)), None)
        created = version is None
        if version is None:
            _remove_leftovers(client, run.info.experiment_id, result.cell, {_model_id(v) for v in versions})
            version = _register(client, name, run, result, context, model_folder, predictions)
        else:
            add_missing_tags(client, version, version_tags(result, context, predictions))
        client.set_registered_model_alias(name, CHALLENGER, version.version)
    return RegisteredVersion(name, str(version.version), _model_id(version), str(version.run_id), created)


def _register(
    client: MlflowClient,
    name: str,
    run: Any,
    result: CellResult,
    context: RunContext,
    model_folder: Path,
    predictions: pd.DataFrame,
) -> ModelVersion:
    """Log the model on its run, check it, then make the version: a kill leaves no incomplete version."""
    from mlflow.entities import LoggedModelOutput

    run_id = run.info.run_id
    identity = identity_tags(result, context)
    logged = client.create_logged_model(
        run.info.experiment_id,
        name=f"{result.target}-{result.method}",
        source_run_id=run_id,
        tags={**identity, "crossprop.study": result.study, "crossprop.target": result.target},
        params=run.data.params,
        model_type="crossprop ensemble",
    )
    try:
        with tempfile.TemporaryDirectory(prefix="crossprop-model-") as scratch:
            folder = Path(scratch) / "model"
            save_model(folder, logged.model_id, run_id, model_folder, predictions, context)
            check_model(folder, result, predictions)
            client.log_model_artifacts(logged.model_id, str(folder))
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    except BaseException:
        client.delete_logged_model(logged.model_id)
        raise
    return client.create_model_version(
        name,
        source=f"models:/{logged.model_id}",
        run_id=run_id,
        tags=version_tags(result, context, predictions),
        description=version_note(result),
        model_id=logged.model_id,
    )


def _ensure_registered_model(
    client: MlflowClient, name: str, result: CellResult, context: RunContext
) -> None:
    from mlflow.exceptions import MlflowException

    what = context.descriptions.get(result.target, result.target)
    unit = result.unit or "none (dimensionless)"
    text = (
        f"{what}. Unit: {unit}.\n\nTakes a column `formula`, returns `value, lower, upper, in_domain, note`. "
        f"`{CHALLENGER}` is the winner of the latest run; `champion` is given by a person or a gate."
    )
    tags = {"crossprop.study": result.study, "crossprop.target": result.target, "crossprop.unit": result.unit}
    try:
        client.create_registered_model(name, tags=tags, description=text)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _remove_leftovers(client: MlflowClient, experiment_id: str, cell: str, kept: set[str]) -> None:
    """Delete logged models of the cell that no version refers to: a killed registration left them."""
    for model in client.search_logged_models([experiment_id], f"tags.`crossprop.cell` = '{cell}'"):
        if model.model_id not in kept:
            client.delete_logged_model(model.model_id)


def _model_id(version: ModelVersion) -> str:
    """Logged model behind a version; SQL registries leave the version's own ``model_id`` empty."""
    return str(version.model_id or str(version.source).removeprefix("models:/"))


def _holds(client: MlflowClient, version: ModelVersion, model_folder: Path) -> bool:
    """Whether the version's files are at hand and of the same names as the folder's; unknown for remote files."""
    from mlflow.exceptions import MlflowException

    try:
        location = local_path(str(client.get_logged_model(_model_id(version)).artifact_location))
        if location is None:
            return True
        folder = predictor_in(location, f"{version.name} version {version.version}")
    except (MlflowException, TrackingError):
        return False
    return _file_names(folder) == _file_names(model_folder)


def _file_names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _missing_run(run_id: str, result: CellResult, uri: str) -> TrackingError:
    return TrackingError(
        f"Run {run_id} of {result.label} ({result.target}) is not in {uri}: the store was moved, deleted or "
        "replaced. Put it back, point MLFLOW_TRACKING_URI at it, or record the cells anew with `dvc repro --force "
        f"--single-item transfer@<shard>`, the shard of {result.target} (finished cells are not computed again)."
    )
