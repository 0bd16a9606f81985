"""Feature matrices on disk: computed once per property, one row per prepared row, not standardised."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossprop.config import StudyConfig
from crossprop.data.compositions import ELEMENTS, fraction_matrix
from crossprop.errors import ConfigError, DataError, StoreError
from crossprop.features.magpie import ATTRIBUTE_NAMES, physical_attributes
from crossprop.methods import Representation

FRACTION_NAMES: tuple[str, ...] = ELEMENTS
"""Names of the columns: H to Pu without He, Ne, Ar, Po, At, Rn, Fr and Ra, by atomic number."""


def elemental_fractions(formulas: Iterable[str], *, where: str | None = None) -> NDArray[np.float32]:
    """Compute the elemental fractions that the networks take.

    Physical attributes start from the float64 matrix of
    :func:`crossprop.data.compositions.fraction_matrix`, not from this one.

    Args:
        formulas: Chemical formulas, n of them.
        where: What the formulas come from, for error messages.

    Returns:
        Shape (n, 86), float32, rows summing to 1.

    Raises:
        FormulaError: A text is no formula.
        UnknownElementError: A formula holds an element outside the 86.

    Source: Jha et al. 2018 (ElemNet), doi:10.1038/s41598-018-35934-y.
    """
    return fraction_matrix(list(formulas), where=where).astype(np.float32)


_WIDTHS = {
    Representation.ELEMENTAL_FRACTIONS: len(FRACTION_NAMES),
    Representation.PHYSICAL_ATTRIBUTES: len(ATTRIBUTE_NAMES),
}


def write_features(
    frame: pd.DataFrame,
    folder: Path,
    representations: Iterable[Representation],
    *,
    where: str | None = None,
) -> tuple[Path, ...]:
    """Compute and store the feature matrices of one prepared property.

    Every matrix is a float32 file ``<representation>.npy`` that appears whole or not at all. All
    are computed before the first is written. Features are not standardised.

    Args:
        frame: Prepared rows with a column ``formula``; row order is kept.
        folder: Where the files go; made if absent.
        representations: Elemental fractions, physical attributes or both.
        where: What the rows come from, for error messages.

    Returns:
        The files written, in the order of ``representations``.

    Raises:
        ConfigError: A representation is not computed from formulas (activations need a source network).
        DataError: The frame has no rows or no column ``formula``, or a value is no finite float32.
        FormulaError: A formula cannot be read or holds an unknown element.
        StoreError: A file cannot be written.
    """
    wanted = tuple(dict.fromkeys(representations))
    origin = where or "the prepared rows"
    for representation in wanted:
        _width(representation)
    if "formula" not in frame.columns:
        raise DataError(
            f"{origin} have no column 'formula', only {list(map(str, frame.columns))}. "
            "Features start from formulas; prepare the property again."
        )
    if frame.empty:
        raise DataError(
            f"{origin} hold no row, so there is nothing to compute features of. Look at its cleaning report."
        )
    fractions = fraction_matrix(frame["formula"], where=where)
    matrices = {representation: _matrix(fractions, representation, origin) for representation in wanted}
    return tuple(_write(matrix, _path(folder, name)) for name, matrix in matrices.items())


def load_features(folder: Path, representation: Representation, mmap: bool = True) -> NDArray[np.float32]:
    """Read a matrix that :func:`write_features` wrote.

    Args:
        folder: Folder of the property's features.
        representation: Elemental fractions or physical attributes.
        mmap: Map the file read-only instead of reading it; workers then share one copy in memory.

    Returns:
        Shape (n, 86) or (n, 145), float32.

    Raises:
        ConfigError: The representation has no matrix on disk.
        DataError: The file is absent, truncated or not such a matrix.
    """
    width = _width(representation)
    path = _path(folder, representation)
    remedy = "Compute it again with `dvc repro featurize`."
    try:
        matrix = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"No feature matrix at {path}. {remedy}") from error
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"The feature matrix {path} cannot be read ({error}); it may be cut short. {remedy}"
        ) from error
    if (
        not isinstance(matrix, np.ndarray)
        or matrix.ndim != 2
        or matrix.shape[1] != width
        or matrix.dtype != np.float32
    ):
        found = f"{getattr(matrix, 'dtype', type(matrix))} {getattr(matrix, 'shape', '')}"
        raise DataError(f"{path} holds {found}, not a float32 matrix of shape (n, {width}). {remedy}")
    return matrix


def load_combined(folder: Path) -> NDArray[np.float32]:
    """Elemental fractions beside physical attributes, shape (n, 231), float32, read from a folder of features.

    Raises:
        DataError: One of the two is missing or damaged.
    """
    parts = [load_features(folder, representation) for representation in _WIDTHS]
    return np.concatenate(parts, axis=1)


def _width(representation: Representation) -> int:
    """Number of columns of a representation that is computed from formulas alone."""
    if representation not in _WIDTHS:
        raise ConfigError(
            f"Representation {str(representation)!r} has no matrix of its own: only "
            f"{[str(r) for r in _WIDTHS]} are computed from formulas. Activations come from a source network."
        )
    return _WIDTHS[representation]


def _path(folder: Path, representation: Representation) -> Path:
    return Path(folder) / f"{Representation(representation).value}.npy"


def _matrix(
    fractions: NDArray[np.float64], representation: Representation, origin: str
) -> NDArray[np.float32]:
    """One representation as float32, free of NaN and infinity."""
    if representation is Representation.ELEMENTAL_FRACTIONS:
        matrix = fractions.astype(np.float32)
    else:
        matrix = physical_attributes(fractions).astype(np.float32)
    bad = ~np.isfinite(matrix)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        names = FRACTION_NAMES if representation is Representation.ELEMENTAL_FRACTIONS else ATTRIBUTE_NAMES
        raise DataError(
            f"{names[column]!r} of row {row} of {origin} is {matrix[row, column]}; "
            "features must be finite numbers. Correct or drop the row."
        )
    return matrix


def _write(matrix: NDArray[np.float32], path: Path) -> Path:
    """Write beside the destination, then move into place."""
    scratch: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        scratch = Path(name)
        with os.fdopen(descriptor, "wb") as stream:
            np.save(stream, matrix, allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.chmod(0o644)
        scratch.replace(path)
    except OSError as error:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
        raise StoreError(
            f"The feature matrix {path} ({matrix.nbytes / 2**20:.1f} MiB) could not be written: {error}. "
            "Nothing was changed; free disk space or make the folder writable, then run again."
        ) from error
    return path


def matrices_of(study: StudyConfig, name: str) -> tuple[Representation, ...]:
    """Matrices of one property that the methods of a study read.

    A target has both, since the methods beyond the paper read both whatever ``representations`` lists. A source
    has elemental fractions, and physical attributes beside them where the joint network learns it.
    """
    fractions, attributes = Representation.ELEMENTAL_FRACTIONS, Representation.PHYSICAL_ATTRIBUTES
    learnt_jointly = any(name in sources for sources in study.joint.values())
    return (fractions, attributes) if name in study.targets or learnt_jointly else (fractions,)
