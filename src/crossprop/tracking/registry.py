"""The registry of crossprop's own models; ``uri`` is the store, None that of the environment or working folder."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import filelock

from crossprop.errors import ModelFormatError, StoreOutOfReachError, TrackingError, UnknownModelError
from crossprop.models.saved import read_info
from crossprop.paths import WORK
from crossprop.tracking.store import client_of, local_path, named_faults, refuse_moved, sqlite_path, store_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import Model

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
DEFAULT_CACHE = WORK / "registered"
KEPT_UNUSED_SECONDS = 3_600.0  # after its last use, of a fetched copy that no alias names
_MODELS_A_PAGE, _VERSIONS_A_PAGE = 1000, 10_000
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")  # MLflow's error codes


@dataclass(frozen=True)
class VersionInfo:
    """A version of the registered model ``<study>.<target>``, with unit and description of the property."""

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
    def label(self) -> str:
        """Name and number."""
        return f"{self.name} version {self.version}"

    @property
    def model_id(self) -> str:
        """MLflow's id of the logged model that it was made of."""
        return self.source.removeprefix("models:/")

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
    """A registered model with its versions, newest first; ``aliases`` holds the number of the version by alias."""

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


@contextmanager
def open_registry(uri: str | None, doing: str) -> Iterator[MlflowClient]:
    """A client of a store that exists, else a ``StoreOutOfReachError``; faults inside the block are named."""
    uri = store_uri(uri)
    path = sqlite_path(uri)
    if path is not None and not path.is_file():
        raise StoreOutOfReachError(
            f"There is no registry at {path}. Run 'dvc repro' (or 'crossprop fit', which needs none), go to the "
            "project's folder, or name the store in MLFLOW_TRACKING_URI."
        )
    with named_faults(uri, doing):
        yield client_of(uri)


def all_models(uri: str | None = None, study: str | None = None) -> list[ModelInfo]:
    """All registered models, or those of a study, with all versions, by name; two calls for up to 1,000 models."""
    with open_registry(uri, "listing the registered models") as client:
        models = [m for m in _search_models(client) if study in (None, m.tags.get("crossprop.study"))]
        return _with_versions(client, models)


def find_model(uri: str | None, name: str) -> ModelInfo:
    """A registered model by its name, or by its target if only one study has that; else an ``UnknownModelError``."""
    with open_registry(uri, f"looking for {name}") as client:
        model = _resolve(_search_models(client), name)
        quote = next((q for q in "'\"" if q not in model.name), None)  # MLflow's filters know no escapes
        return _with_versions(client, [model], quote and f"name = {quote}{model.name}{quote}")[0]


def find_version(uri: str | None, name: str, *, alias: str = CHAMPION, version: str | int | None = None) -> VersionInfo:
    """A version by its number, or else by an alias, of a model as in ``find_model``; else an ``UnknownModelError``."""
    return pick_version(find_model(uri, name), alias=alias, version=version)


def pick_version(model: ModelInfo, *, alias: str = CHAMPION, version: str | int | None = None) -> VersionInfo:
    """As ``find_version``, of a model that is already loaded."""
    numbers = ", ".join(v.version for v in model.versions) or "none"
    if version is not None:
        wanted = str(version).strip().removeprefix("v")
        if found := next((v for v in model.versions if v.version == wanted), None):
            return found
        raise UnknownModelError(f"{model.name} has no version {version!r} (its versions: {numbers}).")
    if found := model.holder(alias):
        return found
    advice = {
        CHAMPION: f"Give it to one with 'crossprop promote {model.name}', or name a version by its number"
        + (" or the alias challenger." if model.holder(CHALLENGER) else "."),
        CHALLENGER: "Name one with --version, or register a winner with 'dvc repro register'.",
    }.get(alias, f"Aliases that there are: {', '.join(sorted(model.aliases)) or 'none'}.")
    missing = f"No version of {model.name} has the alias {alias!r} (versions: {numbers})."
    raise UnknownModelError(f"{missing} {advice}")


def saved_model(
    uri: str | None, name: str, *, alias: str = CHAMPION, version: str | int | None = None
) -> tuple[Path, VersionInfo | None]:
    """A folder with a saved model, as it is named; else that of a registered model's version, and the version."""
    folder = Path(os.path.expanduser(name))  # noqa: PTH111  # a text where there is no such user
    if folder.is_dir() or "/" in name:  # no registered name holds a slash
        read_info(folder)  # raises an error that says what is wrong with the folder
        return folder, None
    try:
        found = find_version(uri, name, alias=alias, version=version)
    except StoreOutOfReachError as error:
        raise StoreOutOfReachError(f"There is no folder {name!r} in {Path.cwd()}. {error}") from error
    return predictor_folder(uri, found), found


def predictor_folder(uri: str | None, info: VersionInfo, cache: Path | None = None) -> Path:
    """Local folder of a version's complete ensemble: in place, else a copy in ``cache``; TrackingError if gone."""
    return _complete_ensemble(model_folder(uri, info, cache), info.label)


def model_folder(uri: str | None, info: VersionInfo, cache: Path | None = None) -> Path:
    """As ``predictor_folder``, but the folder of the whole MLflow model."""
    uri = store_uri(uri)
    location = _location(uri, info)
    local, store = local_path(location), sqlite_path(uri)
    if local is None:
        return _fetched(uri, info, location, (cache or DEFAULT_CACHE).absolute())
    if store is not None and not local.exists():
        refuse_moved(store, local)
    return local


def assert_complete(uri: str | None, info: VersionInfo) -> None:
    """Refuse a version whose files are gone; remote files are listed, not fetched."""
    from mlflow.artifacts import list_artifacts
    from mlflow.models.model import MLMODEL_FILE_NAME

    uri = store_uri(uri)
    location = _location(uri, info)
    if local_path(location) is not None:
        predictor_folder(uri, info)
        return
    with named_faults(location, f"listing the files of {info.label}"):
        names = [Path(file.path).name for file in list_artifacts(artifact_uri=location, tracking_uri=uri)]
    if MLMODEL_FILE_NAME not in names:
        raise _incomplete(info.label, f"{location} holds no {MLMODEL_FILE_NAME}")


def read_mlmodel(folder: Path, label: str) -> Model:
    """MLflow's own description of a model: signature, flavours, metadata; ``label`` names the version in messages."""
    from mlflow.models import Model

    try:
        return Model.load(folder)
    except Exception as error:  # whatever the YAML reader, the disk or MLflow's classes raise
        raise _incomplete(label, f"{folder}/MLmodel cannot be read ({type(error).__name__})") from error


def _location(uri: str, info: VersionInfo) -> str:
    """Path or URL of the MLflow model behind a version."""
    with open_registry(uri, f"looking for the files of {info.label}") as client:
        return str(client.get_model_version_download_uri(info.name, info.version))


def _fetched(uri: str, info: VersionInfo, location: str, cache: Path) -> Path:
    """Local copy of a remote MLflow model: there completely or not at all."""
    copies = cache / hashlib.sha256(f"{uri} {info.name}".encode()).hexdigest()[:12]
    stem = re.sub(r"[^\w.+-]", "_", info.name)[:60]
    folder = copies / f"{stem}-v{info.version}-{hashlib.sha256(location.encode()).hexdigest()[:12]}"
    if not folder.is_dir():
        with named_faults(str(cache), f"fetching {info.label}"):
            copies.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(copies / ".lock", timeout=600):
                if not folder.is_dir():
                    _download(uri, info.label, location, folder)
                with suppress(TrackingError):  # the model is here; the next fetch makes room
                    _remove_unused(uri, info.name, folder)
    with suppress(OSError):  # a cache that can only be read will do
        os.utime(folder)
    return folder


def _download(uri: str, label: str, location: str, folder: Path) -> None:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(suffix=".tmp", dir=folder.parent, ignore_cleanup_errors=True) as scratch:
        try:
            got = Path(download_artifacts(artifact_uri=location, dst_path=scratch, tracking_uri=uri))
        except MlflowException as error:
            if error.error_code in ABSENT or "404" in str(error):
                raise _incomplete(label, f"{location} does not exist") from error
            raise
        _complete_ensemble(got, label)
        got.rename(folder)


def _remove_unused(uri: str, name: str, used: Path) -> None:
    """Remove what killed fetches left, and copies of versions that no alias names and that were not used lately."""
    with open_registry(uri, f"looking for the aliases of {name}") as client:
        kept = {str(version) for version in client.get_registered_model(name).aliases.values()}
    for folder in used.parent.iterdir():
        version = re.search(r"-v(\d+)-[0-9a-f]{12}$", folder.name)
        unused = time.time() - folder.stat().st_mtime > KEPT_UNUSED_SECONDS and folder != used
        if folder.suffix == ".tmp" or (version and unused and version[1] not in kept):
            shutil.rmtree(folder, ignore_errors=True)


def _complete_ensemble(model: Path, label: str) -> Path:
    """The saved ensemble within an MLflow model, once everything that its ``model.json`` lists is there."""
    from crossprop.inference.pyfunc import ARTIFACT

    try:
        flavour = read_mlmodel(model, label).flavors["python_function"]
        inside = PurePosixPath(flavour["artifacts"][ARTIFACT]["path"])
    except (KeyError, TypeError) as error:
        raise _incomplete(label, f"its MLmodel names no artifact {ARTIFACT!r}") from error
    if inside.is_absolute() or ".." in inside.parts:
        raise _incomplete(label, f"its MLmodel names {str(inside)!r}, which lies outside of the model")
    parts = [model / inside]
    for part in parts:
        try:
            info = read_info(part, part=part != parts[0])
        except ModelFormatError as error:
            raise _incomplete(label, str(error)) from error
        parts += [part / name for name in info.get("parts") or ()]
        if missing := [name for name in info.get("members") or () if not (part / name).exists()]:
            raise _incomplete(label, f"{part / missing[0]} is missing")
    return model / inside


def _incomplete(label: str, what: str) -> TrackingError:
    return TrackingError(
        f"The files of {label} are incomplete: {what.rstrip('.')}. Put them back from a copy, register the winner "
        "again ('dvc repro --force --single-item register'), or name another version."
    )


def _with_versions(client: MlflowClient, models: list[Any], wanted: str | None = None) -> list[ModelInfo]:
    """MLflow's registered models with their versions, those of a filter or all that there are; by name."""
    versions: dict[str, list[Any]] = {model.name: [] for model in models}
    search = client.search_model_versions
    found = _pages(search, filter_string=wanted, max_results=_VERSIONS_A_PAGE) if models else ()
    for version in sorted(found, key=lambda v: int(v.version), reverse=True):
        if version.name in versions:
            versions[version.name].append(version)
    known = []
    for model in sorted(models, key=lambda m: m.name):
        own = tuple(_version_info(model, version) for version in versions[model.name])
        described = _property(model) | ({"unit": own[0].unit} if own else {})
        aliases = {alias: str(version) for alias, version in model.aliases.items()}
        known.append(ModelInfo(**described, aliases=aliases, versions=own, tags=dict(model.tags)))
    return known


def _version_info(model: Any, version: Any) -> VersionInfo:
    number = str(version.version)
    known = _property(model)
    known["unit"] = version.tags.get("crossprop.unit", known["unit"])
    return VersionInfo(
        **known,
        version=number,
        aliases=tuple(sorted(alias for alias, v in model.aliases.items() if str(v) == number)),
        created=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
        tags=dict(version.tags),
        run_id=str(version.run_id or ""),
        source=str(version.source or ""),
    )


def _property(model: Any) -> dict[str, str]:
    target = model.tags["crossprop.target"]
    return {
        "name": model.name,
        "study": model.tags.get("crossprop.study", ""),
        "target": target,
        "unit": model.tags.get("crossprop.unit", ""),
        "description": str(model.description or target).split(".\n\n")[0].strip(),
    }


def _resolve(models: list[Any], name: str) -> Any:
    """The model of that name, or the only one of that target."""
    found = [m for m in models if m.name == name] or [m for m in models if m.tags["crossprop.target"] == name]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(sorted(m.name for m in found))
        raise UnknownModelError(f"{name!r} is a target of several studies: {names}. Name one or add --study.")
    if not models:
        raise UnknownModelError(
            f"There is no registered model {name!r}: the registry holds none of crossprop's. Register the winners with "
            "'dvc repro', or point MLFLOW_TRACKING_URI at the store that has them."
        )
    known = {key.lower(): m.name for m in models for key in (m.tags["crossprop.target"], m.name)}
    matches = difflib.get_close_matches(name.lower(), known, n=5, cutoff=0.5)
    near = dict.fromkeys(known[key] for key in matches)
    hint = f"Near names: {', '.join(near)}." if near else "'crossprop models' lists those that there are."
    raise UnknownModelError(f"There is no registered model {name!r} among {len(models)}. {hint}")


def _search_models(client: MlflowClient) -> list[Any]:
    """The registered models that are crossprop's."""
    models = _pages(client.search_registered_models, max_results=_MODELS_A_PAGE)
    return [model for model in models if model.tags.get("crossprop.target")]


def _pages(search: Any, **arguments: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(**arguments, page_token=token)
        yield from page
        if not (token := page.token):
            return
