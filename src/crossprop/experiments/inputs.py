"""What a task reads: prepared tables, matrices, source networks; mapped or loaded once in a process."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.data.splits import AUXILIARY, cross_validation_folds, screening_split, together_in, training_rows
from crossprop.errors import StoreError
from crossprop.experiments.fingerprint import code_digest, digest, package_versions
from crossprop.experiments.grid import Cell
from crossprop.features.matrices import load_features
from crossprop.io import DIGESTS_FILE, atomic_folder, check_digests, file_digest, write_digests
from crossprop.methods import Representation
from crossprop.models.ensemble import WITH_ATTRIBUTES
from crossprop.models.fitted import CHUNK
from crossprop.models.saved import SCALING_FILE, load_source
from crossprop.models.transfer import check_network, load_network

MATRIX_FILE = "matrix.npy"


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
        self.test = np.flatnonzero((self.frame["split"] == "test").to_numpy())
        auxiliary = (self.frame["split"] == AUXILIARY).to_numpy()[self.train]
        self._validated, self._auxiliary = self.train[~auxiliary], self.train[auxiliary]
        self.values = self.frame["value"].to_numpy(np.float64)
        self._mapped: dict[tuple[str | None, str], np.ndarray] = {}

    @cached_property
    def together(self) -> np.ndarray:
        """Keys (compositions, or groups) of all rows: equal ones stay on one side of every split."""
        return self.frame[together_in(self.frame)].to_numpy()

    @property
    def keys(self) -> np.ndarray:
        """Those of the rows that are both learnt from and validated on."""
        return self.together[self._validated]

    def screening(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the screening split: to train on and to validate on."""
        return self._rows(*screening_split(self.keys, seed))

    def _rows(self, train: np.ndarray, validation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows to train on, the auxiliary ones always among them, and to validate on; ascending."""
        return np.sort(np.concatenate([self._validated[train], self._auxiliary])), self._validated[validation]

    @cached_property
    def repeated(self) -> np.ndarray:
        """Whether a row's composition (or group) stands in the hold-out, shape (all rows,)."""
        return pd.Series(self.together).isin(set(self.together[self.test])).to_numpy()

    def folds(self, n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rows of every fold: to train on and to validate on."""
        return [self._rows(*fold) for fold in cross_validation_folds(self.keys, n_folds, seed)]

    def features(self, cell: Cell, layer: str | None) -> np.ndarray:
        """The matrix that a cell reads, shape (all rows, n_features); memory-mapped where it is large."""
        kind = cell.representation
        if kind is None:
            return np.zeros((len(self.frame), 1), np.float32)
        if kind in (Representation.ELEMENTAL_FRACTIONS, Representation.PHYSICAL_ATTRIBUTES):
            return self._written(kind)
        source = None if kind is Representation.COMBINED else cell.source
        return self._derived(layer or kind, source, lambda: self._represented(kind, source, layer))

    def _written(self, kind: Representation) -> np.ndarray:
        if (None, kind) not in self._mapped:
            self._mapped[None, kind] = load_features(self.files.features, kind)
        return self._mapped[None, kind]

    def _represented(self, kind: Representation, source: str | None, layer: str | None) -> np.ndarray:
        """All rows as a saved model of this representation reads them, float32."""
        network = None if source is None else dict(self.files.networks)[source]
        if network is not None:
            scaling = [SCALING_FILE] if kind is Representation.PREDICTED_SOURCES else []
            check_network(network.parent, network.name, *scaling)
        reads = load_source(network, kind, layer)
        fractions = attributes = self._written(Representation.ELEMENTAL_FRACTIONS)
        if kind in WITH_ATTRIBUTES:
            attributes = self._written(Representation.PHYSICAL_ATTRIBUTES)
        pieces = [slice(start, start + CHUNK) for start in range(0, max(len(fractions), 1), CHUNK)]
        return np.concatenate([reads.represent(fractions[piece], attributes[piece]) for piece in pieces])

    def _derived(self, name: str, source: str | None, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """A matrix that is computed once, by one process, and mapped by all; its folder names what it depends on."""
        from filelock import FileLock

        if (source, name) in self._mapped:
            return self._mapped[source, name]
        code = digest([code_digest(), package_versions("numpy", "onnxruntime")])
        stamp = f"{file_digest(self.files.features / DIGESTS_FILE)[:16]}-{code[:16]}"
        if source is not None:
            network = dict(self.files.networks)[source].parent
            stamp = f"{source}-{file_digest(network / DIGESTS_FILE)[:16]}-{stamp}"
        folder = self.files.activations / f"{stamp}-{name}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                with atomic_folder(folder) as draft:
                    np.save(draft / MATRIX_FILE, compute(), allow_pickle=False)
                    write_digests(draft)
        check_digests(folder, error=StoreError, remedy=f"Delete {folder} and run again.")
        self._mapped[source, name] = np.load(folder / MATRIX_FILE, mmap_mode="r", allow_pickle=False)
        return self._mapped[source, name]


@lru_cache(maxsize=2)
def target_inputs(files: TargetFiles, protocol: str) -> TargetInputs:
    """The inputs of one target, kept for the tasks that follow in this process."""
    return TargetInputs(files, protocol)


@lru_cache(maxsize=8)
def source_network(path: Path) -> Any:
    """A source network, loaded once in a process."""
    check_network(path.parent, path.name)
    return load_network(path)


def scaling_of(network: Path) -> np.ndarray:
    """Mean and deviation of the inputs of a joint network, shape (2, n_features), saved beside it."""
    check_network(network.parent, SCALING_FILE)
    return np.asarray(np.load(network.with_name(SCALING_FILE), allow_pickle=False))
