"""A client of a registry that exists: nothing is created, and faults are named."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from crossprop.errors import TrackingError
from crossprop.experiments.recording import StoreOutOfReachError
from crossprop.tracking.faults import named_faults
from crossprop.tracking.store import refuse_folder, sqlite_path, store_uri

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
