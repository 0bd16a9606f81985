"""Feature matrices on disk: computed once per property, one row per prepared row, not standardised."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossprop.config import StudyConfig
from crossprop.data.compositions import fraction_matrix
from crossprop.errors import ConfigError, DataError
from crossprop.features.magpie import physical_attributes
from crossprop.io import atomic_file, check_digests, write_digests
from crossprop.methods import Representation

_WRITTEN: Final = (Representation.ELEMENTAL_FRACTIONS, Representation.PHYSICAL_ATTRIBUTES)
_REMEDY: Final = "Compute the features again with `dvc repro featurize`."


def write_features(
    frame: pd.DataFrame, folder: Path, representations: Iterable[Representation], *, where: str | None = None
) -> tuple[Path, ...]:
    """Write feature matrices of a prepared property, float32, rows in order; ``where`` names it in an error."""
    paths = {representation: _path(folder, representation) for representation in representations}
    fractions = fraction_matrix(frame["formula"], where=where)
    for representation, path in paths.items():
        attributes = representation is Representation.PHYSICAL_ATTRIBUTES
        matrix = physical_attributes(fractions) if attributes else fractions
        with atomic_file(path) as draft, draft.open("wb") as stream:
            np.save(stream, matrix.astype(np.float32), allow_pickle=False)
    write_digests(folder)
    return tuple(paths.values())


def load_features(folder: Path, representation: Representation) -> NDArray[np.float32]:
    """Map a matrix that :func:`write_features` wrote, shape (n, 86) or (n, 145), float32, read-only."""
    path = _path(folder, representation)
    if not path.is_file():
        raise DataError(f"No feature matrix at {path}. {_REMEDY}")
    check_features(folder, path.name)
    matrix: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    return matrix


def check_features(folder: Path, *names: str) -> None:
    """Refuse matrices, by default all of a folder, that have changed since they were written (DataError)."""
    check_digests(folder, names or None, error=DataError, remedy=f"Delete {folder}. {_REMEDY}")


def load_combined(folder: Path) -> NDArray[np.float32]:
    """Elemental fractions beside physical attributes, shape (n, 231), float32, read from a folder of features."""
    return np.concatenate([load_features(folder, representation) for representation in _WRITTEN], axis=1)


def _path(folder: Path, representation: Representation) -> Path:
    if representation not in _WRITTEN:
        raise ConfigError(
            f"Representation {str(representation)!r} has no matrix of its own. Name one of {list(map(str, _WRITTEN))}."
        )
    return folder / f"{representation}.npy"


def matrices_of(study: StudyConfig, name: str) -> tuple[Representation, ...]:
    """Matrices of one property that a study's methods read: both for targets and for sources learnt jointly."""
    learnt_jointly = any(name in sources for sources in study.joint.values())
    return _WRITTEN if name in study.targets or learnt_jointly else (Representation.ELEMENTAL_FRACTIONS,)
