"""Where files are stored, relative to the project's root: the contract between the stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from crossprop.config import StudyConfig

RAW = Path("data/raw")
OWN_CATALOG = Path("own/catalog.yaml")
"""Catalogue of the user's data sets, each of which has a folder beside it."""

WORK = Path(".crossprop")
"""Resumable state that no stage owns: downloads, finished cells, Optuna journals, locks."""


@dataclass(frozen=True)
class StudyPaths:
    """The folders and files of one study below ``root``; ``shards`` names the targets of every shard."""

    study: str
    root: Path = Path()
    shards: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, study: StudyConfig, root: Path = Path()) -> Self:
        """The paths of a configured study."""
        return cls(study.name, root, study.shards)

    @property
    def raw(self) -> Path:
        """Fetched files, shared by all studies."""
        return self.root / RAW

    @property
    def prepared_folder(self) -> Path:
        """Cleaned tables of the study's properties."""
        return self.root / "data" / "prepared" / self.study

    def prepared(self, name: str) -> Path:
        """Cleaned table of one property."""
        return self.prepared_folder / f"{name}.parquet"

    def features(self, name: str) -> Path:
        """Folder of one property's matrices."""
        return self.root / "data" / "features" / self.study / name

    def source_model(self, name: str) -> Path:
        """Folder of a network that was pretrained on one source, or on several at once."""
        return self.root / "models" / self.study / name

    def results(self, target: str) -> Path:
        """Folder of one target's results: within its shard's, if it has one."""
        shard = next((name for name, targets in self.shards.items() if target in targets), "")
        return self.root / "results" / self.study / shard / target

    @property
    def registry(self) -> Path:
        """Table of the registered versions."""
        return self.root / "data" / "registered" / f"{self.study}.json"

    @property
    def reports(self) -> Path:
        """Folder of the study's report; `reports/` holds committed copies."""
        return self.root / "summary" / self.study

    def cell(self, cell_id: str) -> Path:
        """Folder that keeps one cell's finished tasks between runs."""
        return self.root / WORK / "cells" / cell_id[:2] / cell_id

    def checkpoint(self, network: str) -> Path:
        """State of a source network that is being trained."""
        return self.root / WORK / "checkpoints" / self.study / f"{network}.npz"

    def activations(self, target: str) -> Path:
        """Folder of the activations computed for one target."""
        return self.root / WORK / "activations" / self.study / target

    def journal(self, target: str) -> Path:
        """Optuna's journal of one target."""
        return self.root / WORK / "optuna" / self.study / f"{target}.log"

    def lock(self, target: str) -> Path:
        """Lock that one process holds while it works on a target."""
        return self.root / WORK / "locks" / f"{self.study}.{target}.lock"
