"""Where the files of a registered version lie, and how they come here from a remote store."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from crossprop.errors import TrackingError
from crossprop.models.saved import INFO_FILE
from crossprop.paths import WORK
from crossprop.tracking.client import open_registry
from crossprop.tracking.store import moved_advice, named_faults, sqlite_path, store_uri

if TYPE_CHECKING:
    from crossprop.tracking.client import VersionInfo

KEPT_UNUSED_SECONDS = 3_600.0
"""A copy that no alias names is kept for so long after it was last asked for: somebody may just be loading it."""
_MARK = ".used.json"
"""Beside every copy: what it is of; its time is that of the last use."""


def fetched_once(
    uri: str, info: VersionInfo, location: str, cache: Path, fetch: Callable[[Path], Path]
) -> Path:
    """Folder of a version's saved ensemble in the cache; fetched if it is not there.

    Args:
        uri: Store.
        info: The version.
        location: Where its files lie.
        cache: Folder of all copies; absolute.
        fetch: Brings the files into an empty folder and returns the ensemble's, complete.

    Raises:
        TrackingError: The cache cannot be written, or what ``fetch`` raises.
    """
    import filelock

    key = hashlib.sha256(location.encode()).hexdigest()[:12]
    folder = cache / f"{_stem(info.name)}-v{info.version}-{key}"
    mark = cache / f"{folder.name}{_MARK}"
    if folder.is_dir():
        _write_mark(mark, uri, info.name)
        return folder
    with named_faults(str(cache), f"fetching {info.name} version {info.version}"):
        cache.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{folder}.lock", timeout=600):
            if not folder.is_dir():
                for left in cache.iterdir():  # of a fetch that was killed: the lock is ours
                    if left.name.startswith(f"{folder.name}.tmp-"):
                        shutil.rmtree(left, ignore_errors=True)
                draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=cache))
                try:
                    fetch(draft).replace(folder)
                finally:
                    shutil.rmtree(draft, ignore_errors=True)
        _write_mark(mark, uri, info.name)
    with suppress(Exception):  # room is made another time, then; the model is here
        _prune(uri, info, cache)
    return folder


def _prune(uri: str, info: VersionInfo, cache: Path) -> None:
    """Remove copies of the same model whose versions no alias names and nobody has asked for lately."""
    import filelock

    with open_registry(uri, f"looking for the aliases of {info.name}") as client:
        kept = {str(version) for version in client.get_registered_model(info.name).aliases.values()}
    pattern = re.compile(rf"{re.escape(_stem(info.name))}-v(\d+)-[0-9a-f]{{12}}")
    for folder in cache.iterdir():
        found = pattern.fullmatch(folder.name)
        if not found or found[1] in {*kept, info.version} or not folder.is_dir():
            continue
        mark = cache / f"{folder.name}{_MARK}"
        with suppress(OSError, ValueError, filelock.Timeout):
            if mark.is_file():
                if json.loads(mark.read_text(encoding="utf-8")) != _whose(uri, info.name):
                    continue
                used = mark.stat().st_mtime
            else:  # of an older crossprop
                used = folder.stat().st_mtime
            if time.time() - used < KEPT_UNUSED_SECONDS:
                continue
            with filelock.FileLock(f"{folder}.lock", timeout=0):
                doomed = folder.rename(cache / f"{folder.name}.tmp-unused")
                shutil.rmtree(doomed, ignore_errors=True)
                mark.unlink(missing_ok=True)


def _write_mark(mark: Path, uri: str, name: str) -> None:
    with suppress(OSError):  # a cache that is only read is fine
        mark.write_text(json.dumps(_whose(uri, name)), encoding="utf-8")


def _whose(uri: str, name: str) -> dict[str, str]:
    """Store and model, the store as a digest: its address may hold a password."""
    return {"store": hashlib.sha256(uri.encode()).hexdigest()[:16], "model": name}


def _stem(name: str) -> str:
    """The model's name as the beginning of a folder's."""
    return re.sub(r"[^\w.+-]", "_", name)[:60]


MODEL_FILE = "MLmodel"
DEFAULT_CACHE = WORK / "registered"


def predictor_folder(uri: str | None, info: VersionInfo, cache: Path | None = None) -> Path:
    """Local folder of a version's saved ensemble: in place where the files are here, else fetched whole.

    What was fetched once is found again without a call to the store's files.

    Args:
        uri: Store; that of the environment or the working folder if none is named.
        info: The version.
        cache: Where fetched models are kept; ``.crossprop/registered`` if not named.

    Raises:
        TrackingError: The files are gone, incomplete or cannot be fetched; the message says what to do.
    """
    uri = uri or store_uri()
    location = model_location(uri, info)
    local = _here(uri, location)
    if local is not None:
        return _whole(predictor_in(local, _label(info)), _label(info))
    return _fetched(uri, info, location, DEFAULT_CACHE if cache is None else cache)


def read_mlmodel(uri: str | None, info: VersionInfo) -> dict[str, Any]:
    """MLflow's own description of the model: signature, flavours, metadata.

    Raises:
        TrackingError: It is gone or cannot be read.
    """
    uri = uri or store_uri()
    location = model_location(uri, info)
    local = _here(uri, location)
    if local is not None:
        return read_mlmodel_file(local / MODEL_FILE, _label(info))
    with tempfile.TemporaryDirectory(prefix="crossprop-mlmodel-") as scratch:
        return read_mlmodel_file(
            _download(uri, location, MODEL_FILE, Path(scratch), _label(info)), _label(info)
        )


def assert_whole(uri: str | None, info: VersionInfo) -> None:
    """Refuse a version whose files are gone, without fetching them from a remote store.

    Raises:
        TrackingError: Files are missing; the message says which.
    """
    uri = uri or store_uri()
    if local_path(model_location(uri, info)) is None:
        read_mlmodel(uri, info)
    else:
        predictor_folder(uri, info)


def predictor_in(model: Path, label: str) -> Path:
    """Folder of the saved ensemble within a local MLflow model; ``label`` names the version in messages.

    Raises:
        TrackingError: The model does not say where it is.
    """
    return model / _inside(read_mlmodel_file(model / MODEL_FILE, label), label)


def model_location(uri: str, info: VersionInfo) -> str:
    """Path or URL of the MLflow model behind a version.

    Raises:
        TrackingError: The logged model was deleted, or the store does not answer.
    """
    from mlflow.exceptions import MlflowException

    prefix, _, model_id = info.source.partition("models:/")
    with open_registry(uri, f"looking for the files of {_label(info)}") as client:
        if prefix or not model_id or "/" in model_id:
            return str(client.get_model_version_download_uri(info.name, info.version))
        try:
            return str(client.get_logged_model(model_id).artifact_location)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise _gone(_label(info), f"its logged model {model_id} was deleted") from error


def local_path(location: str) -> Path | None:
    """The folder behind a path or a ``file:`` URL; ``None`` for every other kind of address."""
    if "://" not in location and not location.startswith(("file:", "mlflow-artifacts:", "models:", "runs:")):
        return Path(location)
    parsed = urlparse(location)
    return Path(unquote(parsed.path)) if parsed.scheme == "file" else None


def _here(uri: str, location: str) -> Path | None:
    """As ``local_path``; a store that was moved says so."""
    local, store = local_path(location), sqlite_path(uri)
    if local is None or store is None or local.exists():
        return local
    if advice := moved_advice(store, local):
        raise TrackingError(advice)
    return local


def _fetched(uri: str, info: VersionInfo, location: str, cache: Path) -> Path:
    label = _label(info)

    def fetch(into: Path) -> Path:
        described = read_mlmodel_file(_download(uri, location, MODEL_FILE, into, label), label)
        return _whole(_download(uri, location, _inside(described, label), into, label), label)

    return fetched_once(uri, info, location, cache.absolute(), fetch)


def _download(uri: str, location: str, path: str, into: Path, label: str) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with named_faults(location, f"fetching {path} of {label}"):
        try:
            return Path(
                download_artifacts(
                    artifact_uri=f"{location.rstrip('/')}/{path}", dst_path=str(into), tracking_uri=uri
                )
            )
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST" or "404" in str(error):
                raise _gone(label, f"{location} holds no {path}") from error
            raise


def read_mlmodel_file(path: Path, label: str) -> dict[str, Any]:
    """Content of a local ``MLmodel``; ``label`` names the version in messages.

    Raises:
        TrackingError: It is gone or cannot be read.
    """
    import yaml

    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _gone(label, f"{path} cannot be read ({type(error).__name__})") from error
    if not isinstance(described, dict):
        raise _gone(label, f"{path} is no description of an MLflow model")
    return described


def _inside(described: dict[str, Any], label: str) -> str:
    """Path of the saved ensemble within the model; one that leads out of it is refused."""
    from crossprop.inference.pyfunc import ARTIFACT

    try:
        path = PurePosixPath(described["flavors"]["python_function"]["artifacts"][ARTIFACT]["path"])
    except (KeyError, TypeError) as error:
        raise _gone(label, f"its {MODEL_FILE} names no artifact {ARTIFACT!r}") from error
    if path.is_absolute() or ".." in path.parts:
        raise _gone(label, f"its {MODEL_FILE} names {str(path)!r}, which lies outside of the model")
    return str(path)


def _whole(folder: Path, label: str) -> Path:
    """The folder, once everything that its ``model.json`` lists is there."""
    parts = [folder]
    for part in parts:
        try:
            said = json.loads((part / INFO_FILE).read_text(encoding="utf-8"))
            parts += [part / name for name in said.get("parts", ())]
            missing = [name for name in said.get("members", ()) if not (part / name).exists()]
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise _gone(label, f"{part / INFO_FILE} is missing or cannot be read") from error
        if missing:
            raise _gone(label, f"{part / str(missing[0])} is missing")
    return folder


def _label(info: VersionInfo) -> str:
    return f"{info.name} version {info.version}"


def _gone(label: str, what: str) -> TrackingError:
    return TrackingError(
        f"The files of {label} are not whole: {what}. Put them back from a copy, register the winner again "
        "('dvc repro --force --single-item register'), or name another version."
    )
