"""Where the served models come from: the registry, or folders named on the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from crossprop.errors import ModelFormatError, ServiceError

if TYPE_CHECKING:
    from crossprop.tracking.lookup import ModelInfo, VersionInfo

FOLDER_VERSION = "folder"
"""Version of a model that is served from a folder, without a registry."""


class ModelSource(Protocol):
    """What tells the service which versions to serve, and where their files lie."""

    @property
    def where(self) -> str:
        """Its address, without passwords."""
        ...

    def wanted(self) -> Mapping[str, VersionInfo]:
        """Versions to serve by registered name; raises a ``CrosspropError`` while out of reach."""
        ...

    def fallback(self, info: VersionInfo) -> VersionInfo | None:
        """The version to serve in place of one that cannot be loaded; ``None`` if there is none."""
        ...

    def folder(self, info: VersionInfo) -> Path:
        """Local folder of a version's saved ensemble."""
        ...

    def everything(self) -> Sequence[ModelInfo]:
        """All registered models with their versions; empty where there is no registry."""
        ...


@dataclass(frozen=True)
class RegistrySource:
    """The model registry.

    Attributes:
        uri: Its URI, as prepared by ``tracking.store``.
        alias: Alias whose versions are served.
        study: Only models of this study.
        properties: Only these targets or registered models.
        cache: Folder for models of a registry that is not on this machine.
    """

    uri: str
    alias: str = "champion"
    study: str | None = None
    properties: tuple[str, ...] = ()
    cache: Path | None = None

    @property
    def where(self) -> str:
        """The URI without a password."""
        from sqlalchemy.engine import make_url

        try:
            return make_url(self.uri).render_as_string(hide_password=True)
        except Exception:  # an http address of a server, say
            return self.uri

    def wanted(self) -> Mapping[str, VersionInfo]:
        """Versions with the alias, of the chosen study and properties."""
        from crossprop.tracking import lookup

        if self.alias == "champion":
            found = lookup.champions(self.uri)
        else:
            holders = {m.name: m.holder(self.alias) for m in lookup.all_models(self.uri, self.study)}
            found = {name: info for name, info in holders.items() if info is not None}
        return {name: info for name, info in found.items() if self._chosen(info)}

    def fallback(self, info: VersionInfo) -> VersionInfo | None:
        """The former champion."""
        from crossprop.tracking import lookup

        former = lookup.find_model(self.uri, info.name).holder(lookup.PREVIOUS)
        return None if former is None or former.version == info.version else former

    def folder(self, info: VersionInfo) -> Path:
        """Where the version's files lie; fetched first if the registry is elsewhere."""
        from crossprop.tracking import lookup

        return lookup.predictor_folder(self.uri, info, cache=self.cache)

    def everything(self) -> Sequence[ModelInfo]:
        """All registered models of the study."""
        from crossprop.tracking import lookup

        return [model for model in lookup.all_models(self.uri, self.study) if self._chosen(model)]

    def _chosen(self, info: VersionInfo | ModelInfo) -> bool:
        if self.study is not None and info.study != self.study:
            return False
        return not self.properties or info.target in self.properties or info.name in self.properties


@dataclass(frozen=True)
class FolderSource:
    """Saved models in folders, such as ``crossprop fit`` writes; no registry is needed.

    Attributes:
        folders: The folders; no two of the same study and target.
    """

    folders: tuple[Path, ...]
    _versions: dict[str, VersionInfo] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        versions: dict[str, VersionInfo] = {}
        for folder in self.folders:
            info = _version_of_folder(folder)
            if info.name in versions:
                raise ServiceError(
                    f"{folder} and {versions[info.name].source} are both models of {info.name}. Serve one of them."
                )
            versions[info.name] = info
        object.__setattr__(self, "_versions", versions)

    @property
    def where(self) -> str:
        """The folders."""
        return ", ".join(str(folder) for folder in self.folders)

    def wanted(self) -> Mapping[str, VersionInfo]:
        """One version for every folder."""
        return self._versions

    def fallback(self, info: VersionInfo) -> VersionInfo | None:
        """There is none."""
        return None

    def folder(self, info: VersionInfo) -> Path:
        """The folder itself."""
        return Path(info.source)

    def everything(self) -> Sequence[ModelInfo]:
        """None: nothing is registered."""
        return ()


def read_info(folder: Path) -> dict[str, Any]:
    """Content of a saved model's ``model.json``.

    Raises:
        ModelFormatError: There is none, or it does not say whose model it is.
    """
    try:
        info = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFormatError(
            f"{folder} holds no readable model.json: {error}. Name a folder that 'crossprop fit' wrote."
        ) from error
    if not isinstance(info, dict) or not isinstance(info.get("target"), str):
        raise ModelFormatError(
            f"{folder}/model.json does not name a target. Fit or register the model again."
        )
    return info


def _version_of_folder(folder: Path) -> VersionInfo:
    from crossprop.tracking.lookup import VersionInfo

    info = read_info(folder)
    study, target = str(info.get("study") or "own"), info["target"]
    return VersionInfo(
        name=f"{study}.{target}",
        study=study,
        target=target,
        version=FOLDER_VERSION,
        aliases=(),
        created=datetime.fromtimestamp((folder / "model.json").stat().st_mtime, UTC),
        unit=str(info.get("unit") or ""),
        description=str(info.get("description") or ""),
        tags={},
        run_id="",
        source=str(folder.resolve()),
    )
