"""Where the served models come from: the registry, or folders named on the command line."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from crossprop.errors import CrosspropError, ServiceError
from crossprop.io import DIGESTS_FILE, file_digest
from crossprop.models.saved import INFO_FILE, read_info
from crossprop.service.schemas import CoverageInfo, ModelMetadata, ParityAnswer
from crossprop.tracking import registry
from crossprop.tracking.registry import ModelInfo, VersionInfo
from crossprop.tracking.store import without_passwords
from crossprop.training.metrics import r2
from crossprop.uncertainty.evidence import evenly, measured_coverage, read_evidence

_PARITY_POINTS = 2000
_SHORTER = (
    (r"^Decadic logarithm of (?:the )?", "log₁₀ "),
    (r"electronic thermal conductivity", "κₑ"),
    (r"conductivity effective mass", "m*"),
    (r"Spectroscopic limited maximum efficiency", "SLME"),
    (r" over the relaxation time", "/τ"),
    (r",? in (?:electron masses|\d.*)$|[,;] .*$| at \d+ K( and .*)?$| of a solar cell$", ""),
    (r" (?:computed )?with the (\S+) (?:functional|potential)$", r" (\1)"),
    (r"^(log₁₀ )?([np]-type) (?:\(\w+\) )?(.+)$", r"\1\3 (\2)"),
    (r"^power factor", "Power factor"),
    (r"^effective mass", "Effective mass"),
)


class ModelSource(ABC):
    """Tells the service which versions to serve, and where their files lie; ``where`` shows no passwords."""

    where: str

    @abstractmethod
    def wanted(self) -> Mapping[str, VersionInfo]:
        """Versions to serve by registered name; raises a ``CrosspropError`` while out of reach."""

    def folder(self, info: VersionInfo) -> Path:
        """Local folder of a version's saved ensemble; it is downloaded first if the registry is elsewhere."""
        return Path(info.source)

    def fallback(self, info: VersionInfo) -> VersionInfo | None:
        """The version to serve in place of one that cannot be loaded; ``None`` if there is none."""
        return None

    def everything(self) -> Sequence[ModelInfo]:
        """All registered models with their versions; empty where there is no registry."""
        return ()


@dataclass
class RegistrySource(ModelSource):
    """The versions with an alias in the model registry, perhaps of one study and some properties only."""

    uri: str
    alias: str = "champion"
    study: str | None = None
    properties: tuple[str, ...] = ()  # targets or registered models
    cache: Path | None = None  # folder for models of a registry on another machine

    def __post_init__(self) -> None:
        self.where = without_passwords(self.uri)

    def wanted(self) -> Mapping[str, VersionInfo]:
        """Versions with the alias, of the chosen study and properties."""
        return {m.name: info for m in self.everything() if (info := m.holder(self.alias)) is not None}

    def fallback(self, info: VersionInfo) -> VersionInfo | None:
        """The former champion in place of the champion, the champion in place of any other version."""
        alias = registry.PREVIOUS if self.alias == registry.CHAMPION else registry.CHAMPION
        other = registry.find_model(self.uri, info.name).holder(alias)
        return None if other is None or other.version == info.version else other

    def folder(self, info: VersionInfo) -> Path:
        """Where the version's files lie."""
        return registry.predictor_folder(self.uri, info, cache=self.cache)

    def everything(self) -> Sequence[ModelInfo]:
        """All registered models of the study and properties."""
        models, named = registry.all_models(self.uri, self.study), {*self.properties}
        return [model for model in models if not named or named & {model.target, model.name}]


class FolderSource(ModelSource):
    """Saved models in folders, such as ``crossprop fit`` writes, no two of the same study and target."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.where = ", ".join(map(str, folders))
        self._versions: dict[str, VersionInfo] = {}
        for folder in folders:
            info = _folder_version(folder)
            if other := self._versions.get(info.name):
                raise ServiceError(f"{folder} and {other.source} are both models of {info.name}. Serve only one.")
            self._versions[info.name] = info

    def wanted(self) -> Mapping[str, VersionInfo]:
        """One version for every folder, another one once its files are replaced, as a longer fit does."""
        for name, known in self._versions.items():
            with suppress(CrosspropError, OSError):  # while it is replaced the loaded one answers
                found = _folder_version(Path(known.source))
                self._versions[name] = found if found.name == name else known
        return dict(self._versions)


def _folder_version(folder: Path) -> VersionInfo:
    info, number = read_info(folder), file_digest(folder / DIGESTS_FILE)[:8]
    created = datetime.fromtimestamp((folder / INFO_FILE).stat().st_mtime, UTC)
    study, target = info["study"], info["target"]
    name, place = f"{study}.{target}", str(folder.resolve())
    return VersionInfo(name, study, target, number, (), created, info["unit"], "", {}, "", place)


def metadata_of(info: VersionInfo, folder: Path | None = None) -> ModelMetadata:
    """What the registry knows of a version and, with its files, what ``model.json`` and the evidence say."""
    description = info.description or info.target
    texts: dict[str, Any] = {"description": description, "unit": info.unit, "method": info.method}
    known = ModelMetadata(**texts, label=short_label(description), holdout_mae=info.holdout_mae)
    if folder is None:
        return known
    content = read_info(folder)
    evidence, calibration = read_evidence(folder)
    known.training_rows = int((evidence["split"] == "train").sum())
    rows = evidence[evidence["split"] == "test"]
    known.holdout_r2 = r2(rows["y_true"].to_numpy(), rows["y_pred"].to_numpy()) if len(rows) > 1 else None
    coverage = measured_coverage(content, evidence, calibration)
    known.unit, known.method = content["unit"], content["method"]
    known.holdout_mae = known.holdout_mae if coverage.mae is None else coverage.mae
    known.holdout_rows = coverage.n
    known.coverage = CoverageInfo(stated=coverage.stated, measured=coverage.share)
    return known


def short_label(description: str) -> str:
    """A description without its conditions and with symbols for long terms, such as ``log₁₀ κₑ/τ (n-type)``."""
    for pattern, short in _SHORTER:
        description = re.sub(pattern, short, description)
    return description


@lru_cache(maxsize=128)  # of up to 150 kB each
def parity(name: str, version: str, unit: str, folder: Path) -> bytes:
    """JSON of the hold-out's formulas with true and predicted values, at most 2,000, drawn evenly by value."""
    rows = read_evidence(folder)[0].query("split == 'test'").sort_values("y_true", kind="stable")
    mae = float((rows["y_true"] - rows["y_pred"]).abs().mean()) if len(rows) else None
    rows = rows.iloc[evenly(len(rows), _PARITY_POINTS)]
    columns = rows[["formula", "y_true", "y_pred"]].rename(columns={"formula": "formulas"}).to_dict("list")
    about = {"name": name, "version": version, "unit": unit, "mae": mae}
    return ParityAnswer.model_validate({**about, **columns}).model_dump_json().encode()
