"""Where the served models come from: the registry, or folders named on the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from crossprop.errors import ModelFormatError, ServiceError
from crossprop.inference.predictor import ServedModel
from crossprop.uncertainty.evidence import read_evidence

if TYPE_CHECKING:
    from crossprop.tracking.registry import ModelInfo, VersionInfo

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
        from crossprop.tracking import registry

        if self.alias == "champion":
            found = registry.champions(self.uri)
        else:
            holders = {m.name: m.holder(self.alias) for m in registry.all_models(self.uri, self.study)}
            found = {name: info for name, info in holders.items() if info is not None}
        return {name: info for name, info in found.items() if self._chosen(info)}

    def fallback(self, info: VersionInfo) -> VersionInfo | None:
        """The former champion."""
        from crossprop.tracking import registry

        former = registry.find_model(self.uri, info.name).holder(registry.PREVIOUS)
        return None if former is None or former.version == info.version else former

    def folder(self, info: VersionInfo) -> Path:
        """Where the version's files lie; fetched first if the registry is elsewhere."""
        from crossprop.tracking import registry

        return registry.predictor_folder(self.uri, info, cache=self.cache)

    def everything(self) -> Sequence[ModelInfo]:
        """All registered models of the study."""
        from crossprop.tracking import registry

        return [model for model in registry.all_models(self.uri, self.study) if self._chosen(model)]

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
    from crossprop.tracking.registry import VersionInfo

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


PARITY_POINTS = 2000
"""Most points of a parity plot."""


@dataclass(frozen=True)
class _Untouched:
    """Stands in for the predictor of a model of which only the evidence is read."""

    info: Mapping[str, Any]

    def predict(self, fractions: np.ndarray) -> np.ndarray:
        raise NotImplementedError


@dataclass(frozen=True)
class Card:
    """What ``/v1/properties`` says of a version.

    Attributes:
        label: What is predicted, in a few words.
        description: The same at more length.
        unit: Unit of the values.
        method: How they are predicted.
        holdout_mae: Mean absolute error on the hold-out, in the property's unit.
        holdout_rows: Rows of the hold-out.
        training_rows: Rows that were learnt from.
        stated: Coverage that the intervals promise.
        measured: Coverage that they had on the hold-out.
    """

    label: str
    description: str
    unit: str
    method: str
    holdout_mae: float | None = None
    holdout_rows: int = 0
    training_rows: int = 0
    stated: float | None = None
    measured: float | None = None

    @cached_property
    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "label": self.label,
            "description": self.description,
            "unit": self.unit,
            "method": self.method,
            "holdout_mae": _finite(self.holdout_mae),
            "holdout_rows": self.holdout_rows,
            "training_rows": self.training_rows,
            "coverage": {"stated": _finite(self.stated), "measured": _finite(self.measured)},
        }


def card_of_tags(info: VersionInfo) -> Card:
    """What the registry alone knows: for the time until the model's files have been read."""
    return Card(
        label=info.description or info.target,
        description=info.description or info.target,
        unit=info.unit,
        method=info.method,
        holdout_mae=_finite(info.holdout_mae),
    )


def card_of_folder(info: VersionInfo, folder: Path) -> Card:
    """What ``model.json`` and the evidence say; takes milliseconds.

    Raises:
        ModelFormatError: The folder's ``model.json`` cannot be read.
    """
    known, content = card_of_tags(info), read_info(folder)
    evidence, calibration = read_evidence(folder) or (None, None)
    described = ServedModel(_Untouched(content), folder, evidence, calibration)
    coverage = described.coverage()
    return Card(
        label=known.label,
        description=known.description,
        unit=str(content.get("unit") or known.unit or ""),
        method=str(content.get("method") or known.method),
        holdout_mae=known.holdout_mae if described.holdout_mae is None else described.holdout_mae,
        holdout_rows=0 if evidence is None else int((evidence["split"] == "test").sum()),
        training_rows=described.n_training,
        stated=coverage.stated,
        measured=coverage.share,
    )


def parity(folder: Path) -> dict[str, Any]:
    """The hold-out's formulas with true and predicted values, at most ``PARITY_POINTS``, drawn evenly by value."""
    found = read_evidence(folder)
    if found is None:
        return {"mae": None, "formulas": [], "y_true": [], "y_pred": []}
    evidence = found[0]
    rows = evidence[evidence["split"] == "test"].sort_values("y_true", kind="stable")
    mae = float((rows["y_true"] - rows["y_pred"]).abs().mean()) if len(rows) else None
    if len(rows) > PARITY_POINTS:
        rows = rows.iloc[np.linspace(0, len(rows) - 1, PARITY_POINTS).round().astype(int)]
    return {
        "mae": _finite(mae),
        "formulas": rows["formula"].astype(str).tolist(),
        "y_true": rows["y_true"].tolist(),
        "y_pred": rows["y_pred"].tolist(),
    }


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
