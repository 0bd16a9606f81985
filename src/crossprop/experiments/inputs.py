"""What a task reads: prepared tables, matrices, source networks; mapped or loaded once in a process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.data.splits import cross_validation_folds, screening_split, test_rows, training_rows
from crossprop.errors import StoreError
from crossprop.experiments.grid import Cell
from crossprop.features.matrices import load_combined, load_features
from crossprop.io import atomic_file
from crossprop.methods import Representation
from crossprop.models.saved import SCALING_FILE, beside_predictions
from crossprop.models.transfer import extract_activations, load_network


@dataclass(frozen=True)
class TargetFiles:
    """Where one target's inputs are stored; ``networks`` holds the source networks by source or joint name."""

    prepared: Path
    features: Path
    networks: tuple[tuple[str, Path], ...]
    activations: Path


class TargetInputs:
    """One target's rows and representations, read on first use; the protocol says which rows to learn from."""

    def __init__(self, files: TargetFiles, protocol: str) -> None:
        self.files = files
        self.frame = pd.read_parquet(files.prepared)
        self.train = training_rows(self.frame, protocol)
        self.test = test_rows(self.frame, required=False)
        self.values = self.frame["value"].to_numpy(np.float64)
        self._derived: dict[str, np.ndarray] = {}

    @cached_property
    def keys(self) -> np.ndarray:
        """Composition keys of the learning rows."""
        return self.frame["composition"].to_numpy()[self.train]

    def screening(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the screening split: to train on and to validate on."""
        train, validation = screening_split(self.keys, seed)
        return self.train[train], self.train[validation]

    @cached_property
    def repeated(self) -> np.ndarray:
        """Whether a row's composition stands in the hold-out, shape (all rows,)."""
        keys = self.frame["composition"]
        return keys.isin(set(keys.to_numpy()[self.test])).to_numpy()

    def folds(self, n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rows of every fold: to train on and to validate on."""
        parts = cross_validation_folds(self.keys, n_folds, seed)
        return [(self.train[train], self.train[validation]) for train, validation in parts]

    def features(self, cell: Cell, layer: str | None) -> np.ndarray:
        """The matrix that a cell reads, shape (all rows, n_features); memory-mapped where it is large."""
        representation = cell.representation
        if representation is None:
            return np.zeros((len(self.frame), 1), np.float32)
        if representation is Representation.COMBINED:
            return self._matrix("combined", None, lambda: load_combined(self.files.features))
        if representation is Representation.PREDICTED_SOURCES and cell.source is not None:
            return self._matrix("combined_sources", cell.source, partial(self._predicted, cell.source))
        if representation is not Representation.ACTIVATIONS:
            return load_features(self.files.features, representation)
        assert cell.source is not None
        assert layer is not None
        return self._matrix(layer, cell.source, partial(self._activations, cell.source, layer))

    def _activations(self, source: str, layer: str) -> np.ndarray:
        fractions = np.asarray(load_features(self.files.features, Representation.ELEMENTAL_FRACTIONS))
        network = source_network(dict(self.files.networks)[source])
        return extract_activations(network, fractions, [layer])[layer]

    def _predicted(self, name: str) -> np.ndarray:
        network = dict(self.files.networks)[name]
        return beside_predictions(
            load_combined(self.files.features), source_network(network), scaling_of(network)
        )

    def _matrix(self, name: str, source: str | None, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """A matrix that is computed once, by one process, and mapped by all."""
        path = self._cached(name, source)
        if path.name not in self._derived:
            if not path.is_file():
                _compute_once(path, compute)
            self._derived[path.name] = np.load(path, mmap_mode="r", allow_pickle=False)
        return self._derived[path.name]

    def _cached(self, name: str, source: str | None) -> Path:
        """File of a derived matrix, named by what it depends on."""
        stamp = ""
        if source is not None:
            network = dict(self.files.networks)[source].stat()
            stamp = f"{source}-{network.st_mtime_ns:x}-{network.st_size:x}-"
        return self.files.activations / f"{stamp}{self._rows}-{name}.npy"

    @cached_property
    def _rows(self) -> str:
        fractions = np.asarray(load_features(self.files.features, Representation.ELEMENTAL_FRACTIONS))
        return hashlib.sha256(fractions.tobytes()).hexdigest()[:16]


def _compute_once(path: Path, compute: Callable[[], np.ndarray]) -> None:
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            with atomic_file(path) as draft, draft.open("wb") as stream:
                np.save(stream, compute(), allow_pickle=False)


@lru_cache(maxsize=2)
def target_inputs(files: TargetFiles, protocol: str) -> TargetInputs:
    """The inputs of one target, kept for the tasks that follow in this process."""
    return TargetInputs(files, protocol)


@lru_cache(maxsize=8)
def source_network(path: Path) -> Any:
    """A source network, loaded once in a process."""
    return load_network(path)


def scaling_of(network: Path) -> np.ndarray:
    """Mean and deviation of the inputs of a joint network, shape (2, n_features), saved beside it."""
    path = network.with_name(SCALING_FILE)
    try:
        scaling: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}. Pretrain the joint network again.") from error
    return scaling
