"""Where things lie, relative to the project's root: the contract between the stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RAW = Path("data/raw")
WORK = Path(".crossprop")
"""Resumable state that no stage owns: downloads, finished cells, Optuna journals, locks."""


@dataclass(frozen=True)
class StudyPaths:
    """The folders and files of one study.

    Attributes:
        study: Name of the study.
        root: Folder that all paths start from.
    """

    study: str
    root: Path = Path()

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

    def source_model(self, source: str) -> Path:
        """Folder of one pretrained source network."""
        return self.root / "models" / self.study / source

    def results(self, target: str) -> Path:
        """Folder of one target's results."""
        return self.root / "results" / self.study / target

    @property
    def registry(self) -> Path:
        """Table of the registered versions."""
        return self.root / "data" / "registered" / f"{self.study}.json"

    @property
    def reports(self) -> Path:
        """Folder of the study's report."""
        return self.root / "reports" / self.study

    def cell(self, cell_id: str) -> Path:
        """Folder that keeps one cell's finished pieces between runs."""
        return self.root / WORK / "cells" / cell_id[:2] / cell_id

    def activations(self, target: str) -> Path:
        """Folder of the activations computed for one target."""
        return self.root / WORK / "activations" / self.study / target

    def journal(self, target: str) -> Path:
        """Optuna's journal of one target."""
        return self.root / WORK / "optuna" / self.study / f"{target}.log"

    def lock(self, target: str) -> Path:
        """Lock that one process holds while it works on a target."""
        return self.root / WORK / "locks" / f"{self.study}.{target}.lock"
