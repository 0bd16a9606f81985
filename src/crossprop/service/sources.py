"""Where the served models come from: the registry, or folders named on the command line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from crossprop.errors import ModelFormatError, ServiceError
from crossprop.models.saved import read_info
from crossprop.service.schemas import CoverageInfo, ModelMetadata
from crossprop.tracking import registry
from crossprop.tracking.registry import ModelInfo, VersionInfo
from crossprop.uncertainty.evidence import measured_coverage, read_evidence

_PARITY_POINTS = 2000


class ModelSource(ABC):
    """Tells the service which versions to serve, and where their files lie."""

    @property
    @abstractmethod
    def where(self) -> str:
        """Its address, without passwords."""

    @abstractmethod
    def wanted(self) -> Mapping[str, VersionInfo]:
        """Versions to serve by registered name; raises a ``CrosspropError`` while out of reach."""

    @abstractmethod
    def folder(self, info: VersionInfo) -> Path:
        """Local folder of a version's saved ensemble; it is downloaded first if the registry is elsewhere."""

    def fallback(self, info: VersionInfo) -> VersionInfo | None:
        """The version to serve in place of one that cannot be loaded; ``None`` if there is none."""
        return None

    def everything(self) -> Sequence[ModelInfo]:
        """All registered models with their versions; empty where there is no registry."""
        return ()


@dataclass(frozen=True)
class RegistrySource(ModelSource):
    """The versions with an alias in the model registry, perhaps of one study and some properties only.

    ``properties`` are targets or registered models; ``cache`` is a folder for models of a registry on another machine.
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
        from sqlalchemy.exc import ArgumentError

        try:
            return make_url(self.uri).render_as_string(hide_password=True)
        except ArgumentError:  # the address of a server
            return self.uri

    def wanted(self) -> Mapping[str, VersionInfo]:
        """Versions with the alias, of the chosen study and properties."""
        if self.alias == "champion":
            found = registry.champions(self.uri)
        else:
            holders = {m.name: m.holder(self.alias) for m in registry.all_models(self.uri, self.study)}
            found = {name: info for name, info in holders.items() if info is not None}
        return {name: info for name, info in found.items() if self._chosen(info)}

    def fallback(self, info: VersionInfo) -> VersionInfo | None:
        """The former champion."""
        former = registry.find_model(self.uri, info.name).holder(registry.PREVIOUS)
        return None if former is None or former.version == info.version else former

    def folder(self, info: VersionInfo) -> Path:
        """Where the version's files lie."""
        return registry.predictor_folder(self.uri, info, cache=self.cache)

    def everything(self) -> Sequence[ModelInfo]:
        """All registered models of the study and properties."""
        return [model for model in registry.all_models(self.uri, self.study) if self._chosen(model)]

    def _chosen(self, info: VersionInfo | ModelInfo) -> bool:
        if self.study is not None and info.study != self.study:
            return False
        return not self.properties or info.target in self.properties or info.name in self.properties


@dataclass(frozen=True)
class FolderSource(ModelSource):
    """Saved models in folders, such as ``crossprop fit`` writes, no two of the same study and target."""

    folders: tuple[Path, ...]
    _versions: dict[str, VersionInfo] = field(init=False, default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for folder in self.folders:
            info = _version_of_folder(folder)
            if info.name in self._versions:
                raise ServiceError(
                    f"{folder} and {self._versions[info.name].source} are both models of {info.name}. Serve only one."
                )
            self._versions[info.name] = info

    @property
    def where(self) -> str:
        """The folders."""
        return ", ".join(str(folder) for folder in self.folders)

    def wanted(self) -> Mapping[str, VersionInfo]:
        """One version for every folder."""
        return self._versions

    def folder(self, info: VersionInfo) -> Path:
        """The folder itself."""
        return Path(info.source)


def _version_of_folder(folder: Path) -> VersionInfo:
    info = read_info(folder)
    if not isinstance(info.get("target"), str):
        raise ModelFormatError(
            f"{folder}/model.json does not name a target. Fit or register the model again."
        )
    study, target = str(info.get("study") or "own"), info["target"]
    return VersionInfo(
        name=f"{study}.{target}",
        study=study,
        target=target,
        version="folder",
        aliases=(),
        created=datetime.fromtimestamp((folder / "model.json").stat().st_mtime, UTC),
        unit=str(info.get("unit") or ""),
        description=str(info.get("description") or ""),
        tags={},
        run_id="",
        source=str(folder.resolve()),
    )


def metadata_of_tags(info: VersionInfo) -> ModelMetadata:
    """What the registry alone knows, for the time until the model's files have been read."""
    label = info.description or info.target
    return ModelMetadata(
        label=label, description=label, unit=info.unit, method=info.method, holdout_mae=info.holdout_mae
    )


def metadata_of_folder(info: VersionInfo, folder: Path) -> ModelMetadata:
    """What ``model.json`` and the evidence say; takes milliseconds."""
    known, content = metadata_of_tags(info), read_info(folder)
    evidence, calibration = read_evidence(folder) or (None, None)
    coverage = measured_coverage(content, evidence, calibration)
    return ModelMetadata(
        label=known.label,
        description=known.description,
        unit=str(content.get("unit") or known.unit or ""),
        method=str(content.get("method") or known.method),
        holdout_mae=known.holdout_mae if coverage.mae is None else coverage.mae,
        holdout_rows=coverage.n,
        training_rows=0 if evidence is None else int((evidence["split"] == "train").sum()),
        coverage=CoverageInfo(stated=coverage.stated, measured=coverage.share),
    )


def parity(folder: Path) -> dict[str, Any]:
    """The hold-out's formulas with true and predicted values, at most 2,000, drawn evenly by value."""
    found = read_evidence(folder)
    if found is None:
        return {"mae": None, "formulas": [], "y_true": [], "y_pred": []}
    rows = found[0][found[0]["split"] == "test"].sort_values("y_true", kind="stable")
    mae = float((rows["y_true"] - rows["y_pred"]).abs().mean()) if len(rows) else None
    if len(rows) > _PARITY_POINTS:
        rows = rows.iloc[np.linspace(0, len(rows) - 1, _PARITY_POINTS).round().astype(int)]
    columns = {"formulas": "formula", "y_true": "y_true", "y_pred": "y_pred"}
    return {"mae": mae, **{name: rows[column].tolist() for name, column in columns.items()}}
