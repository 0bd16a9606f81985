"""Who is who in the model registry: champions, versions and where their files lie.

Only registered models that crossprop registered itself are seen (they carry the tag ``crossprop.target``): a team's
registry may hold anything.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from crossprop.errors import UnknownModelError
from crossprop.tracking.client import ModelInfo, VersionInfo, model_info, open_registry, version_info
from crossprop.tracking.model_files import predictor_folder
from crossprop.tracking.store import store_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "CHALLENGER", "CHAMPION", "PREVIOUS", "ModelInfo", "VersionInfo", "all_models", "champions", "find_model",
    "find_version", "pick_version", "predictor_folder",
]  # fmt: skip

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
_MODELS_A_PAGE, _VERSIONS_A_PAGE = 1000, 10_000
_FEW = 6
"""Up to so many searches for single version numbers; beyond, versions are asked for one by one and remembered."""
_REMEMBERED_SECONDS = 60.0


def champions(uri: str | None = None) -> dict[str, VersionInfo]:
    """The versions with the alias ``champion``, by name of their registered model; meant to be polled.

    One to a handful of calls whatever the number of models, about 20 ms for 41 models in the embedded store.

    Args:
        uri: Store; that of the environment or the working folder if none is named.

    Raises:
        StoreOutOfReachError: The store is not there or does not answer now; what is served may go on.
        TrackingError: The store is damaged or of another MLflow version.
    """
    with open_registry(uri, "looking for champions") as client:
        models = [m for m in _search_models(client) if CHAMPION in m.aliases]
        found: dict[str, VersionInfo] = {}
        for model in models:
            newest = {str(v.version): v for v in model.latest_versions}
            version = newest.get(str(model.aliases[CHAMPION]))
            if version is not None:
                found[model.name] = version_info(model, version)
        older = {m.name: str(m.aliases[CHAMPION]) for m in models if m.name not in found}
        by_name = {m.name: m for m in models}
        for version in _older_versions(client, uri or store_uri(), older):
            found[version.name] = version_info(by_name[version.name], version)
    return dict(sorted(found.items()))


def all_models(uri: str | None = None, study: str | None = None) -> list[ModelInfo]:
    """All registered models with all their versions, by name; two calls for up to 1,000 models.

    Args:
        uri: Store; that of the environment or the working folder if none is named.
        study: Only this study's.

    Raises:
        TrackingError: As ``champions``.
    """
    with open_registry(uri, "listing the registered models") as client:
        models = [m for m in _search_models(client) if study in (None, m.tags.get("crossprop.study"))]
        versions: dict[str, list[Any]] = {}
        for version in _pages(client.search_model_versions, max_results=_VERSIONS_A_PAGE) if models else ():
            versions.setdefault(version.name, []).append(version)
    return [model_info(model, versions.get(model.name, ())) for model in sorted(models, key=lambda m: m.name)]


def find_model(uri: str | None, name: str) -> ModelInfo:
    """A registered model by its name or by its target, if only one study has that; two calls.

    Raises:
        UnknownModelError: There is none, or several; the message lists near or matching names.
        TrackingError: As ``champions``.
    """
    with open_registry(uri, f"looking for {name}") as client:
        model = _resolve(list(_search_models(client)), name)
        return model_info(model, versions_of(client, model.name))


def versions_of(client: MlflowClient, name: str) -> list[Any]:
    """MLflow's versions of a registered model, whatever characters its name holds."""
    quote = next((q for q in "'\"" if q not in name), None)  # MLflow's filters know no escapes
    wanted = None if quote is None else f"name = {quote}{name}{quote}"
    found = _pages(client.search_model_versions, filter_string=wanted, max_results=_VERSIONS_A_PAGE)
    return [version for version in found if version.name == name]


def find_version(
    uri: str | None, name: str, *, alias: str = CHAMPION, version: str | int | None = None
) -> VersionInfo:
    """A version by its number, or else by an alias.

    Args:
        uri: Store; that of the environment or the working folder if none is named.
        name: Registered model ``<study>.<target>``, or the target if only one study has it.
        alias: Which alias, where no number is given.
        version: Number of the version.

    Raises:
        UnknownModelError: No such model, version or alias; the message says what there is and what to do.
        TrackingError: As ``champions``.
    """
    return pick_version(find_model(uri, name), alias=alias, version=version)


def pick_version(model: ModelInfo, *, alias: str = CHAMPION, version: str | int | None = None) -> VersionInfo:
    """As ``find_version``, of a model that is at hand."""
    numbers = ", ".join(v.version for v in model.versions) or "none"
    if version is not None:
        wanted = str(version).strip().removeprefix("v")
        found = next((v for v in model.versions if v.version == wanted), None)
        if found is None:
            raise UnknownModelError(
                f"{model.name} has no version {version!r} (its versions: {numbers}): it was deleted or never was. "
                "Choose one of these; 'crossprop models' shows what they are."
            )
        return found
    found = model.holder(alias)
    if found is None:
        raise UnknownModelError(
            f"No version of {model.name} has the alias {alias!r}. {_advice(model, alias, numbers)}"
        )
    return found


def _advice(model: ModelInfo, alias: str, numbers: str) -> str:
    if alias == CHAMPION:
        return (
            f"Give it to one with 'crossprop promote {model.name}' (versions: {numbers}), or name a version by "
            "its number."
        )
    if alias == CHALLENGER:
        return (
            f"Name a version with --version (there are: {numbers}), or register a winner with "
            "'dvc repro register'."
        )
    there = ", ".join(sorted(model.aliases)) or "none"
    return f"Aliases that there are: {there}; versions: {numbers}."


def _resolve(models: list[Any], name: str) -> Any:
    exact = next((m for m in models if m.name == name), None)
    if exact is not None:
        return exact
    same_target = [m for m in models if m.tags.get("crossprop.target") == name]
    if len(same_target) == 1:
        return same_target[0]
    if same_target:
        names = ", ".join(sorted(m.name for m in same_target))
        raise UnknownModelError(
            f"{name!r} is a target of several studies: {names}. Name one of these, or add --study."
        )
    if not models:
        raise UnknownModelError(
            f"There is no registered model {name!r}: the registry holds none of crossprop's. 'dvc repro' ends with "
            "registering the winners; or point MLFLOW_TRACKING_URI at the store that has them."
        )
    known = {m.tags["crossprop.target"]: m.name for m in models} | {m.name: m.name for m in models}
    lowered = {key.lower(): value for key, value in known.items()}
    near = difflib.get_close_matches(name.lower(), lowered, n=5, cutoff=0.5)
    hits = list(dict.fromkeys(lowered[key] for key in near))
    hint = f"Near names: {', '.join(hits)}." if hits else "'crossprop models' lists those that there are."
    raise UnknownModelError(f"There is no registered model {name!r} among {len(models)}. {hint}")


def _search_models(client: MlflowClient) -> Iterator[Any]:
    models = _pages(client.search_registered_models, max_results=_MODELS_A_PAGE)
    return (m for m in models if m.tags.get("crossprop.target"))


_remembered: dict[tuple[str, str, str], tuple[float, Any]] = {}


def _older_versions(client: MlflowClient, uri: str, wanted: dict[str, str]) -> Iterator[Any]:
    """Versions by name and number: one search per number, or one call per model that is remembered for a minute."""
    numbers = set(wanted.values())
    if len(numbers) <= _FEW:
        for number in sorted(numbers):
            text = f"version_number = {number}"
            for version in _pages(
                client.search_model_versions, filter_string=text, max_results=_VERSIONS_A_PAGE
            ):
                if wanted.get(version.name) == number:
                    yield version
        return
    for name, number in wanted.items():
        at, version = _remembered.get((uri, name, number), (-_REMEMBERED_SECONDS, None))
        if version is None or time.monotonic() - at > _REMEMBERED_SECONDS:
            version = client.get_model_version(name, number)
            _remembered[uri, name, number] = time.monotonic(), version
        yield version


def _pages(search: Any, **arguments: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(**arguments, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
