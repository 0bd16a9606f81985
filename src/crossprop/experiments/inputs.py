"""What a task reads: prepared tables, matrices, source networks; mapped or loaded once in a process."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.data.splits import cross_validation_folds, screening_split, test_rows, training_rows
from crossprop.errors import StoreError
from crossprop.experiments.cells import Cell
from crossprop.features.matrices import load_features
from crossprop.models.transfer import extract_activations, load_network
from crossprop.vocabulary import EXTRACTION_LAYERS, Representation


@dataclass(frozen=True)
class TargetFiles:
    """Where one target's inputs lie.

    Attributes:
        prepared: Its cleaned table.
        features: Folder of its matrices.
        networks: Source networks by source property.
        activations: Folder for activations that are computed on first use.
    """

    prepared: Path
    features: Path
    networks: tuple[tuple[str, Path], ...]
    activations: Path


class TargetInputs:
    """One target's rows and representations, read on first use.

    Args:
        files: Where they lie.
        protocol: Which rows to learn from.
    """

    def __init__(self, files: TargetFiles, protocol: str) -> None:
        self.files = files
        self.frame = pd.read_parquet(files.prepared)
        self.train = training_rows(self.frame, protocol)
        self.test = test_rows(self.frame)
        self.values = self.frame["value"].to_numpy(np.float64)
        self._activations: dict[tuple[str, str], np.ndarray] = {}

    @cached_property
    def keys(self) -> np.ndarray:
        """Composition keys of the learning rows."""
        return self.frame["composition"].to_numpy()[self.train]

    def screening(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the screening split: to train on and to validate on."""
        train, validation = screening_split(self.keys, seed)
        return self.train[train], self.train[validation]

    def folds(self, n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rows of every fold: to train on and to validate on."""
        parts = cross_validation_folds(self.keys, n_folds, seed)
        return [(self.train[train], self.train[validation]) for train, validation in parts]

    def features(self, cell: Cell, layer: str | None) -> np.ndarray:
        """The matrix that a cell reads, shape (all rows, n_features); memory-mapped where it is large."""
        if cell.representation is None:
            return np.zeros((len(self.frame), 1), np.float32)
        if cell.representation is not Representation.ACTIVATIONS:
            return load_features(self.files.features, cell.representation)
        if cell.source is None or layer is None:
            raise ValueError(
                f"{cell.label} reads activations, but names source {cell.source} and layer {layer}"
            )
        return self._layer(cell.source, layer)

    def _layer(self, source: str, layer: str) -> np.ndarray:
        if (source, layer) not in self._activations:
            folder = self._extracted(source)
            self._activations[source, layer] = np.load(
                folder / f"{layer}.npy", mmap_mode="r", allow_pickle=False
            )
        return self._activations[source, layer]

    def _extracted(self, source: str) -> Path:
        from filelock import FileLock

        network = dict(self.files.networks)[source]
        stamp = network.stat()
        fractions = np.asarray(load_features(self.files.features, Representation.ELEMENTAL_FRACTIONS))
        rows = hashlib.sha256(fractions.tobytes()).hexdigest()[:16]
        folder = self.files.activations / f"{source}-{stamp.st_mtime_ns:x}-{stamp.st_size:x}-{rows}"
        if folder.is_dir():
            return folder
        self.files.activations.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                activations = extract_activations(source_network(network), fractions, EXTRACTION_LAYERS)
                unfinished = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
                try:
                    unfinished.mkdir()
                    for layer, values in activations.items():
                        np.save(unfinished / f"{layer}.npy", values, allow_pickle=False)
                    unfinished.rename(folder)
                except OSError as error:
                    shutil.rmtree(unfinished, ignore_errors=True)
                    raise StoreError(
                        f"{folder} cannot be written: {error}. Free some space and run again."
                    ) from error
        return folder


@lru_cache(maxsize=2)
def target_inputs(files: TargetFiles, protocol: str) -> TargetInputs:
    """The inputs of one target, kept for the tasks that follow in this process."""
    return TargetInputs(files, protocol)


@lru_cache(maxsize=8)
def source_network(path: Path) -> Any:
    """A source network, loaded once in a process."""
    return load_network(path)
