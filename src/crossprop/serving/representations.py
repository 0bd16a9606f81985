"""Compositions as models read them; what several models have in common is computed once."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from crossprop.features.physical_attributes import physical_attributes
from crossprop.serving.compiled_members import Network
from crossprop.serving.compiled_work import Task, run_tasks
from crossprop.vocabulary import Representation

ROWS: Final = 512
"""Rows that are represented at once."""
WITH_ATTRIBUTES: Final = frozenset(
    {Representation.PHYSICAL_ATTRIBUTES, Representation.COMBINED, Representation.PREDICTED_SOURCES}
)
_KEPT_BYTES: Final = 32 << 20


@dataclass(frozen=True)
class Source:
    """A representation that a model reads.

    Attributes:
        kind: Which.
        network: The source network, where the kind has one.
        name: Its file, named by a digest of its content.
    """

    kind: Representation
    network: Network | None
    name: str

    @classmethod
    def load(cls, described: Mapping[str, Any], place: Path) -> Self:
        """Load what an entry of a compiled model's plan describes.

        Raises:
            ModelFormatError: The source network cannot be loaded.
        """
        name = described.get("network", "")
        return cls(Representation(described["kind"]), Network(place / name) if name else None, name)


class Recent:
    """Arrays that were computed last, by what they are and of which rows; threads may share it.

    A request for many properties has each model represent the same rows, one after the other or at the same time.
    """

    def __init__(self, n_bytes: int = _KEPT_BYTES) -> None:
        self._n_bytes = n_bytes
        self._arrays: OrderedDict[tuple[str, bytes], np.ndarray] = OrderedDict()
        self._taken = 0
        self._lock = threading.Lock()

    def get(self, what: str, digest: bytes, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The array that is kept under a name and the digest of its rows, or the computed one; nobody may write."""
        key = what, digest
        with self._lock:
            if (kept := self._arrays.get(key)) is not None:
                self._arrays.move_to_end(key)
                return kept
        made = compute()
        made.setflags(write=False)
        with self._lock:
            if key not in self._arrays:  # somebody else may have been quicker
                self._arrays[key] = made
                self._taken += made.nbytes
            while self._taken > self._n_bytes:
                self._taken -= self._arrays.popitem(last=False)[1].nbytes
        return made


_recent = Recent()


def represent(sources: Sequence[Source], fractions: np.ndarray, threads: int) -> list[np.ndarray]:
    """Every representation of the sources, float32, shapes (n, width).

    Args:
        sources: What a model reads.
        fractions: Elemental fractions, float64, shape (n, 86).
        threads: Threads to use.
    """
    pieces: list[list[np.ndarray]] = []
    tasks: list[Task] = []
    for start in range(0, len(fractions), ROWS):
        pieces.append([])
        tasks.append(partial(_represent_rows, sources, fractions[start : start + ROWS], pieces[-1]))
    run_tasks(tasks, threads)
    return [np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*pieces, strict=True)]


def _represent_rows(sources: Sequence[Source], fractions: np.ndarray, given: list[np.ndarray]) -> None:
    digest = hashlib.sha256(fractions.tobytes()).digest()
    attributes = combined = small = fractions.astype(np.float32)
    if any(source.kind in WITH_ATTRIBUTES for source in sources):
        attributes = _recent.get(
            "attributes", digest, lambda: physical_attributes(fractions).astype(np.float32)
        )
        combined = np.concatenate([small, attributes], axis=1)
    for source in sources:
        if source.kind is Representation.ELEMENTAL_FRACTIONS:
            given.append(small)
        elif source.kind is Representation.PHYSICAL_ATTRIBUTES:
            given.append(attributes)
        elif source.kind is Representation.COMBINED:
            given.append(combined)
        else:
            assert source.network is not None
            read = small if source.kind is Representation.ACTIVATIONS else combined
            outputs = _recent.get(source.name, digest, partial(source.network.outputs, read))
            activations = source.kind is Representation.ACTIVATIONS
            given.append(outputs if activations else np.concatenate([attributes, outputs], axis=1))
