"""A version before it is one: an MLflow model that is written, checked, and only then published."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from crossprop.errors import TrackingError
from crossprop.experiments.results import CellResult
from crossprop.tracking.clean_process import CleanProcess
from crossprop.tracking.context import RunContext
from crossprop.tracking.logged_models import check_model, save_model
from crossprop.tracking.provenance import PROCESS_TAG, process_is_gone, process_tags
from crossprop.tracking.same_files import FILES_TAG, files_digest
from crossprop.tracking.version_tags import identity_tags, version_note, version_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_STORE_VARIABLE = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class Winner:
    """What is to be registered.

    Attributes:
        run_id: Run of the winning cell.
        result: The winning cell.
        model_folder: Saved ensemble (``model.json`` and its members).
        predictions: The cell's predictions, columns as in ``CellOutcome.predictions``.
    """

    run_id: str
    result: CellResult
    model_folder: Path
    predictions: pd.DataFrame

    @property
    def name(self) -> str:
        """Name of the registered model, ``<study>.<target>``."""
        return f"{self.result.study}.{self.result.target}"

    def tags(self, context: RunContext) -> dict[str, str]:
        """Tags of its version."""
        tags = version_tags(self.result, context, self.predictions)
        return {**tags, FILES_TAG: files_digest(self.model_folder)}


@dataclass(frozen=True)
class VersionDraft:
    """A logged model that is no version yet; a killed process leaves it behind, and the next one removes it.

    Attributes:
        winner: What it is made of.
        model_id: MLflow's id of the logged model.
        folder: Folder of the MLflow model, on this machine until it is published or discarded.
    """

    winner: Winner
    model_id: str
    folder: Path

    def check(self, process: CleanProcess) -> None:
        """Load it in a clean process; it has to give the logged predictions.

        Raises:
            TrackingError: It cannot be loaded, or gives others; the message says which.
        """
        check_model(self.folder, self.winner.result, self.winner.predictions, process)

    def upload(self, client: MlflowClient) -> None:
        """Bring the files to the store."""
        from mlflow.entities import LoggedModelOutput

        client.log_model_artifacts(self.model_id, str(self.folder))
        client.finalize_logged_model(self.model_id, "READY")
        client.log_outputs(self.winner.run_id, [LoggedModelOutput(self.model_id, step=0)])
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    def publish(self, client: MlflowClient, context: RunContext) -> ModelVersion:
        """Make the version: it is there with all its tags, or not at all."""
        with _ambient_store(context.uri):
            return client.create_model_version(
                self.winner.name,
                source=f"models:/{self.model_id}",
                run_id=self.winner.run_id,
                tags=self.winner.tags(context),
                description=version_note(self.winner.result),
                model_id=self.model_id,
            )

    def discard(self, client: MlflowClient) -> None:
        """Take the logged model back."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)
        client.delete_logged_model(self.model_id)


def draft_version(client: MlflowClient, run: Any, winner: Winner, context: RunContext) -> VersionDraft:
    """Write the MLflow model into a temporary folder, under the name that the store gives it.

    Args:
        client: Of the store.
        run: MLflow's run of the winning cell.
        winner: What is to be registered.
        context: As for the recorder.
    """
    result = winner.result
    of = {"crossprop.study": result.study, "crossprop.target": result.target}
    logged = client.create_logged_model(
        run.info.experiment_id,
        name=f"{result.target}-{result.method}",
        source_run_id=winner.run_id,
        tags={**identity_tags(result, context), **of, **process_tags()},
        params=run.data.params,
        model_type="crossprop ensemble",
    )
    scratch = Path(tempfile.mkdtemp(prefix="crossprop-model-"))
    draft = VersionDraft(winner, str(logged.model_id), scratch / "model")
    try:
        save_model(
            draft.folder, draft.model_id, winner.run_id, winner.model_folder, winner.predictions, context
        )
    except BaseException:
        draft.discard(client)
        raise
    return draft


def remove_leftovers(client: MlflowClient, experiment_id: str, cell: str, kept: set[str]) -> None:
    """Delete logged models of the cell that no version refers to and nobody works on: a kill left them."""
    for model in client.search_logged_models([experiment_id], f"tags.`crossprop.cell` = '{cell}'"):
        tags: Mapping[str, str] = model.tags
        if model.model_id not in kept and (PROCESS_TAG not in tags or process_is_gone(tags)):
            client.delete_logged_model(model.model_id)


def run_of(client: MlflowClient, winner: Winner, uri: str) -> Any:
    """MLflow's run of the winning cell.

    Raises:
        TrackingError: It is missing or deleted.
    """
    from mlflow.exceptions import MlflowException

    missing = TrackingError(
        f"Run {winner.run_id} of {winner.result.label} ({winner.result.target}) is not in {uri}: the store was moved, "
        "deleted or replaced. Put it back, point MLFLOW_TRACKING_URI at it, or record the cells anew with `dvc repro "
        f"--force --single-item transfer@<shard>`, the shard of {winner.result.target} (finished cells are not "
        "computed again)."
    )
    try:
        run = client.get_run(winner.run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise missing from error
    if run.info.lifecycle_stage != "active":
        raise missing
    return run


@contextmanager
def _ambient_store(uri: str) -> Iterator[None]:
    """MLflow's registry looks a logged model up in the environment's store, whatever store its client is of."""
    import mlflow

    kept = os.environ.get(_STORE_VARIABLE)
    os.environ[_STORE_VARIABLE] = uri
    chosen = mlflow.get_tracking_uri()
    try:
        if chosen != uri:
            mlflow.set_tracking_uri(uri)
        yield
    finally:
        if chosen != uri:
            mlflow.set_tracking_uri(chosen)
        os.environ.pop(_STORE_VARIABLE, None)
        if kept is not None:
            os.environ[_STORE_VARIABLE] = kept
