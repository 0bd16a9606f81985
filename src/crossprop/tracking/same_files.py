"""Whether a registered version has the files of a saved ensemble, wherever its own files lie."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossprop.errors import TrackingError
from crossprop.models.saved import INFO_FILE
from crossprop.tracking.model_files import MODEL_FILE, local_path, predictor_in, read_mlmodel_file

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

FILES_TAG = "crossprop.files"
_UPGRADED = ("format", "interval", "domain")
"""What of ``model.json`` changes where evidence is added to a saved ensemble or computed anew."""


def files_digest(folder: Path) -> str:
    """Digest of a saved ensemble's file names and of its description: another if evidence is added or made anew.

    The fitted models themselves are not read: what they were fitted from is the version's identity already, and
    their files hold times of writing.

    Raises:
        TrackingError: The folder is no saved ensemble.
    """
    said = json.dumps(_info(folder), sort_keys=True)
    return hashlib.sha256("\0".join([*_names(folder), said]).encode()).hexdigest()[:16]


def holds_files(client: MlflowClient, version: ModelVersion, model_id: str, folder: Path) -> bool:
    """Whether a version's files are there and those of the folder.

    Args:
        client: Of the store.
        version: The version.
        model_id: Its logged model.
        folder: Saved ensemble.

    Raises:
        MlflowException: The store does not answer.
    """
    from mlflow.exceptions import MlflowException

    try:
        address = str(client.get_logged_model(model_id).artifact_location)
        location = local_path(address)
        digest, label = version.tags.get(FILES_TAG), f"{version.name} version {version.version}"
        if location is not None:
            there = predictor_in(location, label)
            if digest is None:
                digest = files_digest(there)
            return digest == files_digest(folder) and set(_names(folder)) <= set(_names(there))
        if digest is not None:
            return digest == files_digest(folder) and bool(client.list_logged_model_artifacts(model_id))
        return _described_alike(_remote_metadata(client, address, label), _info(folder))
    except TrackingError:
        return False
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
            raise
        return False


def _remote_metadata(client: MlflowClient, address: str, label: str) -> dict[str, Any]:
    """What ``MLmodel`` repeats of ``model.json``; read for versions of an older crossprop only."""
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory(prefix="crossprop-mlmodel-") as scratch:
        path = download_artifacts(
            artifact_uri=f"{address.rstrip('/')}/{MODEL_FILE}",
            dst_path=scratch,
            tracking_uri=client.tracking_uri,
        )
        return read_mlmodel_file(Path(path), label).get("metadata") or {}


def _described_alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in _UPGRADED)


def _info(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / INFO_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise TrackingError(
            f"{folder / INFO_FILE} is missing or cannot be read: {error}. Run the target's stage again."
        ) from error


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
