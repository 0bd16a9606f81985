"""A client of a registry that exists: nothing is created, and faults are named."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossprop.errors import TrackingError
from crossprop.experiments.results import StoreOutOfReachError
from crossprop.tracking.store import named_faults, refuse_folder, sqlite_path, store_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

_opened: dict[str, tuple[int, int]] = {}
_opening = threading.Lock()


@contextmanager
def open_registry(uri: str | None, doing: str) -> Iterator[MlflowClient]:
    """A client of a store that exists; faults are named, and nothing is created."""
    uri = uri or store_uri()
    refuse_folder(uri)
    path = sqlite_path(uri)
    with named_faults(uri, doing):
        if path is not None and not path.is_file():
            raise StoreOutOfReachError(
                f"There is no registry at {path}. Run 'dvc repro' (or 'crossprop fit' for a model without a "
                "registry), go to the project's folder, or name the store in MLFLOW_TRACKING_URI."
            )
        from mlflow import MlflowClient

        # It prints a traceback for every statement that fails, which is said here in one sentence.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        if path is not None:
            _forget_replaced_file(client, uri, path.stat())
        yield client


def existing_sqlite(uri: str) -> Path:
    """The file of an embedded store that is there.

    Raises:
        TrackingError: It is of another kind, or there is none.
    """
    path = sqlite_path(uri)
    if path is None or not path.is_file():
        what = f"{uri} is a server or another database" if path is None else f"There is no store at {path}"
        raise TrackingError(f"{what}. Name an embedded store, e.g. --uri sqlite:///mlflow.db.")
    return path.absolute()


def _forget_replaced_file(client: MlflowClient, uri: str, now: os.stat_result) -> None:
    """Close connections to a file that was meanwhile replaced: they would go on reading the deleted one."""
    identity = (now.st_dev, now.st_ino)
    with _opening:
        known = _opened.setdefault(uri, identity)
        if known == identity:
            return
        _opened[uri] = identity
    for owner in (client._get_registry_client(), client._tracking_client):
        engine = getattr(owner.store, "engine", None)
        if engine is not None:
            engine.dispose()


@dataclass(frozen=True)
class VersionInfo:
    """A version of a registered model.

    Attributes:
        name: Registered model, ``<study>.<target>``.
        study: Name of the study.
        target: Target property.
        version: Its number.
        aliases: ``champion``, ``previous``, ``challenger`` and others that point at it.
        created: When it was registered.
        unit: Unit of the property, ``"1"`` if it has none.
        description: What the property is.
        tags: All tags of the version.
        run_id: Run of the winning cell; may be deleted.
        source: Where MLflow says that its files are.
    """

    name: str
    study: str
    target: str
    version: str
    aliases: tuple[str, ...]
    created: datetime
    unit: str
    description: str
    tags: dict[str, str]
    run_id: str
    source: str

    @property
    def holdout_mae(self) -> float | None:
        """Mean absolute error of the ensemble on its hold-out as it was registered, in the property's unit."""
        return self.number("test_mae_ensemble")

    @property
    def method(self) -> str:
        """Method of the winning cell."""
        return self.tags.get("crossprop.method", "")

    def number(self, tag: str) -> float | None:
        """A figure among the tags, e.g. ``number("base_mae")``; ``None`` where it is not known."""
        try:
            return float(self.tags[f"crossprop.{tag}"])
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True)
class ModelInfo:
    """A registered model with its versions.

    Attributes:
        name: ``<study>.<target>``.
        study: Name of the study.
        target: Target property.
        unit: Unit of the property.
        description: What the property is.
        aliases: Number of the version by alias.
        versions: Newest first; without deleted ones.
        tags: Tags of the registered model itself.
    """

    name: str
    study: str
    target: str
    unit: str
    description: str
    aliases: dict[str, str]
    versions: tuple[VersionInfo, ...]
    tags: dict[str, str]

    def holder(self, alias: str) -> VersionInfo | None:
        """The version that an alias points at, ``None`` if there is no such alias."""
        wanted = self.aliases.get(alias)
        return next((v for v in self.versions if v.version == wanted), None)


def model_info(model: Any, versions: Iterable[Any]) -> ModelInfo:
    """From MLflow's registered model and its versions."""
    ordered = sorted(versions, key=lambda v: int(v.version), reverse=True)
    return ModelInfo(
        name=model.name,
        study=model.tags.get("crossprop.study", ""),
        target=model.tags["crossprop.target"],
        unit=model.tags.get("crossprop.unit", ""),
        description=_what(model),
        aliases={alias: str(version) for alias, version in model.aliases.items()},
        versions=tuple(version_info(model, v) for v in ordered),
        tags=dict(model.tags),
    )


def version_info(model: Any, version: Any) -> VersionInfo:
    """From MLflow's version and its registered model, which knows the aliases."""
    number = str(version.version)
    return VersionInfo(
        name=model.name,
        study=model.tags.get("crossprop.study", ""),
        target=model.tags["crossprop.target"],
        version=number,
        aliases=tuple(sorted(alias for alias, v in model.aliases.items() if str(v) == number)),
        created=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
        unit=model.tags.get("crossprop.unit", ""),
        description=_what(model),
        tags=dict(version.tags),
        run_id=str(version.run_id or ""),
        source=str(version.source or ""),
    )


def _what(model: Any) -> str:
    """What the property is: the first sentence of the registered model's description."""
    return str(model.description or model.tags["crossprop.target"]).split(". Unit:")[0].strip()
