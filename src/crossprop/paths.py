"""Where files are stored, relative to the project's root: the contract between the stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

RAW = Path("data/raw")
OWN = Path("own")
"""Data sets of the user: the catalogue, and a folder for each."""

OWN_CATALOG = OWN / "catalog.yaml"
WORK = Path(".crossprop")
"""Resumable state that no stage owns: downloads, finished cells, Optuna journals, locks."""


class Sharded(Protocol):
    """The part of a study's configuration that decides where its files are stored."""

    @property
    def name(self) -> str:
        """Name of the study."""

    @property
    def shards(self) -> Mapping[str, tuple[str, ...]]:
        """Targets by name of their shard; empty where the study has none."""


@dataclass(frozen=True)
class StudyPaths:
    """The folders and files of one study below ``root``; ``shards`` names the targets of every shard."""

    study: str
    root: Path = Path()
    shards: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, study: Sharded, root: Path = Path()) -> Self:
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

    def grouped(self, name: str) -> Path:
        """The same where rows have groups: ``composition`` is the key of the rows that stay together."""
        return self.prepared_folder / f"{name}.grouped.parquet"

    def features(self, name: str) -> Path:
        """Folder of one property's matrices."""
        return self.root / "data" / "features" / self.study / name

    def source_model(self, source: str) -> Path:
        """Folder of one pretrained source network."""
        return self.root / "models" / self.study / source

    def joint_model(self, name: str) -> Path:
        """Folder of a network that was pretrained on several sources at once."""
        return self.root / "models" / self.study / name

    @property
    def results_folder(self) -> Path:
        """Results of the study, by shard and target."""
        return self.root / "results" / self.study

    def results(self, target: str) -> Path:
        """Folder of one target's results: within its shard's, if it has one."""
        shard = next((name for name, targets in self.shards.items() if target in targets), "")
        return self.results_folder / shard / target

    @property
    def registry(self) -> Path:
        """Table of the registered versions."""
        return self.root / "data" / "registered" / f"{self.study}.json"

    @property
    def reports(self) -> Path:
        """Folder of the study's report."""
        return self.root / "reports" / self.study

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
